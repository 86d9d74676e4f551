"""The crates that are linked into the program, as cargo knows them."""

import json
import re
import subprocess

TARGETS = ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"]
LINE = re.compile(r"(?P<depth>\d+)(?P<name>\S+) v(?P<version>\S+)(?P<macro> \(proc-macro\))?")


def cargo(*arguments):
    command = ["cargo", arguments[0], "--locked", *arguments[1:]]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def linked():
    """Returns the program and its crates as names and versions, each with those that it depends on.

    Neither crates that only tests use nor those that only run while it is built, such as procedural macros, are among them.
    """
    depends = {}
    for target in TARGETS:
        above, macro = [], None
        # A crate that was listed before has its own crates there.
        for line in cargo("tree", "--edges", "normal", "--prefix", "depth", "--target", target).splitlines():
            found = LINE.match(line)
            depth, crate = int(found["depth"]), (found["name"], found["version"])
            if macro is not None and depth > macro:
                continue
            macro = depth if found["macro"] else None
            if macro is None:
                above[depth:] = [crate]
                depends.setdefault(crate, set())
                if depth:
                    depends[above[depth - 1]].add(crate)
    return depends


def metadata():
    """Returns the program's package, its crates in order of names, and the names and versions that each depends on."""
    depends = linked()
    packages = json.loads(cargo("metadata", "--format-version", "1"))["packages"]
    packages = {(package["name"], package["version"]): package for package in packages}
    program, *crates = (packages[crate] for crate in depends)
    for crate in (program, *crates):
        # Older crates have a slash for OR.
        crate["license"] = re.sub(r"\s*/\s*", " OR ", crate["license"] or crate["license_file"])
    return program, sorted(crates, key=lambda crate: (crate["name"], crate["version"])), depends
