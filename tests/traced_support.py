"""Programs run under strace: whom they call, what they look up, where they write (Linux)."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

CALLS = (
    "connect,sendto,sendmsg,sendmmsg,open,openat,openat2,creat,mkdir,mkdirat,mknod,mknodat,"
    "rename,renameat,renameat2,link,linkat,symlink,symlinkat"
)
NAME_SERVICE = ("/etc/resolv.conf", "/nscd/socket", "/systemd/resolve/")
ADDRESS = re.compile(r'inet_addr\("([^"]+)"\)|inet_pton\(AF_INET6, "([^"]+)"')
LOOPBACK = re.compile(r"127\.|::1$|::ffff:127\.|0\.0\.0\.0$|::$")
CALL = re.compile(r"^(?:\[pid +)?\d+\]? +(\w+)\((.*)")
FOLDER = re.compile(r"(?:AT_FDCWD|\d+)<([^>]*)>, ")
PATH = re.compile(r'"((?:[^"\\]|\\.)*)"')
WRITES = re.compile(r"O_WRONLY|O_RDWR|O_CREAT|O_TRUNC")


@dataclass
class Traced:
    """What a program did that others could notice.

    Attributes:
        called: Addresses beyond loopback that it called or sent to.
        looked_up: Files and sockets by which names are looked up.
        written: Paths that it wrote to or made.
    """

    called: set[str] = field(default_factory=set)
    looked_up: set[str] = field(default_factory=set)
    written: set[str] = field(default_factory=set)

    def outside(self, *places, below="/"):
        """Return what it wrote outside of some folders, and beside the folders that lead there."""
        return {
            path
            for path in self.written
            if Path(path).is_relative_to(below)
            and not any(Path(path).is_relative_to(place) for place in places)
            and not any(Path(place).is_relative_to(path) for place in places)
        }


def traced(arguments, tmp_path, **environment):
    """Run Python under strace, without `CI` and with a fresh home, and tell what it did."""
    if not shutil.which("strace"):
        if os.environ.get("CI") == "true":
            pytest.fail("strace is not installed: apt install strace")
        pytest.skip("strace is not installed")
    home, trace = tmp_path / "home", tmp_path / "trace"
    home.mkdir()
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in {"CI", "GITHUB_ACTIONS", "TF_BUILD", "MPLCONFIGDIR", "ORT_DISABLE_TELEMETRY"}
        and not name.startswith(("XDG_", "JUPYTER", "IPYTHON"))
    }
    command = ["strace", "-f", "--seccomp-bpf", "-qq", "-y", "-s", "512", "-o", str(trace)]
    done = subprocess.run(
        [*command, "-e", f"trace={CALLS}", sys.executable, *arguments],
        env={**kept, **environment, "HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1"},
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    if "ptrace" in done.stderr.lower() and done.returncode and os.environ.get("CI") != "true":
        pytest.skip("this system does not let strace look on")
    assert done.returncode == 0, done.stderr
    return read(trace.read_text(errors="replace"))


def read(text):
    """Read what strace wrote."""
    seen = Traced()
    for line in text.splitlines():
        call = CALL.match(line)
        if call:
            look_at(seen, *call.groups())
    return seen


def look_at(seen, name, arguments):
    """Take one system call down."""
    for found in ADDRESS.finditer(arguments):
        address = found[1] or found[2]
        if not LOOPBACK.match(address):
            seen.called.add(address)
    seen.looked_up |= {each for each in NAME_SERVICE if each in arguments}
    if name.startswith(("connect", "send")) or "ENOENT" in arguments:
        return
    path, folder = PATH.search(arguments), FOLDER.match(arguments)
    if path and (not name.startswith("open") or WRITES.search(arguments)):
        seen.written.add(str(Path(folder[1] if folder else "/") / path[1]))
