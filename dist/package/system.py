"""What is linked into the program beside crates: Debian's libraries, the standard library of Rust, and the library of the page."""

import base64
import json
import pathlib
import re
import subprocess
import sys

PAGE = pathlib.Path("src/web/page/ui")


def output(*command):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def existing(path, reason):
    """Returns a file, and ends the program if it is missing."""
    if not path.exists():
        sys.exit(f"{path} is missing: {reason}")
    return path


def debian():
    """Returns the libraries of Debian: their package, its source and the version of that, and the licence."""
    gcc = f"libgcc-{output('cc', '-dumpversion').split('.')[0]}-dev"
    libraries = [("libc6-dev", "LGPL-2.1-or-later"), (gcc, "GPL-3.0-or-later WITH GCC-exception-3.1")]
    for package, licence in libraries:
        source, version = output("dpkg-query", "-W", "-f", "${source:Package} ${source:Version}", package).split()
        yield package, source, version, licence


def rust():
    """Returns the version and the commit of Rust, and where its notices are."""
    about = output("rustc", "-vV")
    version, commit = (re.search(rf"^{key}: (.*)$", about, re.MULTILINE)[1] for key in ("release", "commit-hash"))
    return version, commit, pathlib.Path(output("rustc", "--print", "sysroot"), "share/doc/rust")


def preact():
    """Returns the version of Preact, and the SHA-512 of its package."""
    with open(PAGE / "package-lock.json", encoding="utf-8") as file:
        package = json.load(file)["packages"]["node_modules/preact"]
    algorithm, _, digest = package["integrity"].partition("-")
    assert algorithm == "sha512", algorithm
    return package["version"], base64.b64decode(digest).hex()
