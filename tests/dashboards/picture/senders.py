"""Sends packets to 10.0.0.1 through `peer0`, from an address that may pass and from one that is blocked: for `workload`, which
runs this in a network namespace, moves `peer0` there, and reports that by a line on stdin."""

import socket
import subprocess
import sys
import time

print("ready", flush=True)
sys.stdin.readline()
for command in (
    "link set lo up",
    "link set peer0 up",
    "addr add 10.0.0.2/8 dev peer0",
    "addr add 10.1.0.7/32 dev peer0",
):
    subprocess.run(["ip", *command.split()], check=True)

senders = []
for address in ("10.0.0.2", "10.1.0.7"):
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.bind((address, 0))
    senders.append(sender)

while True:
    for number in range(200):
        port = 9 if number % 10 == 0 else 5000
        try:
            senders[number % 2].sendto(bytes(64), ("10.0.0.1", port))
        except ConnectionRefusedError:
            # Nothing listens there: the answer to the packet before.
            pass
    # The rate: 4,000 packets per second.
    time.sleep(0.05)
