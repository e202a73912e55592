"""Whether this machine is ready for the course, and what to do if it is not.

    python -m course_lib doctor [--json]

Each check is a small function that returns a `Check`; its parameters are the facts it looks at, so
that a test can show it a broken machine. `report` runs them all: one that crashes has failed.
"""

import http.client
import importlib.metadata
import json
import os
import re
import socket
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from course_lib.privacy import PERMISSION, tracing_wanted

__all__ = ["Check", "main", "report"]

ROOT = Path(__file__).resolve().parents[1]
SET_UP = "Set up again: `rm -rf .venv && make setup`, or the README's way for conda or Windows."
FEWEST_FILES = 256  # what JupyterLab, a kernel and the service need together
ENOUGH_FILES = 1024  # a learner's thousand calls at once need a socket each


@dataclass(frozen=True, slots=True)
class Check:
    """What one check found.

    Attributes:
        name: What was looked at.
        status: "ok", "warn" (the course runs, something may differ), or "fail".
        message: What was found.
        fix: What to do; "" if nothing.
    """

    name: str
    status: Literal["ok", "warn", "fail"]
    message: str
    fix: str = ""


def python_version(version: tuple[int, int] = sys.version_info[:2]) -> Check:
    """The course needs Python 3.11 or newer."""
    found = f"{version[0]}.{version[1]}"
    if version >= (3, 11):
        return Check("Python", "ok", found)
    return Check("Python", "fail", found, "Install Python 3.11 or newer and set up again.")


def package(root: Path = ROOT, name: str = "course-lib") -> Check:
    """Notebooks import the installed package: it should be this checkout."""
    checkout = (root / "pyproject.toml").exists()
    try:
        origin = importlib.metadata.distribution(name).read_text("direct_url.json")
    except importlib.metadata.PackageNotFoundError:
        message = "not installed: it is found only from the checkout's own folder"
        return Check("package", "fail", message, SET_UP)
    if not checkout:
        return Check("package", "warn", f"no checkout: a copy in {root}", "Edits go elsewhere.")
    link = json.loads(origin or "{}")
    if not link.get("dir_info", {}).get("editable"):
        message = "a copy is installed: notebooks do not see edits of this checkout"
        return Check("package", "fail", message, "Run `python -m pip install --no-deps -e .`")
    if link["url"] != root.as_uri():
        message = f"installed from another checkout: {link['url']}"
        return Check("package", "fail", message, SET_UP)
    return Check("package", "ok", "editable, from this checkout")


def dependencies(requirements: Sequence[str] = ("course-lib[notebooks]",)) -> Check:
    """Every package that the course requires is installed, in a version that it accepts."""
    from course_lib import installed  # noqa: PLC0415 - `packaging` may be what is missing

    problems = list(installed.unmet(requirements))
    if problems:
        return Check("dependencies", "fail", _few(problems), SET_UP)
    return Check("dependencies", "ok", "all that the course requires")


def _few(problems: list[str], shown: int = 5) -> str:
    rest = f" and {len(problems) - shown} more" if len(problems) > shown else ""
    return ", ".join(problems[:shown]) + rest


def locked_versions(lock: Path = ROOT / "requirements.lock") -> Check:
    """The installed versions are those that the course was tested with."""
    from course_lib import installed  # noqa: PLC0415 - `packaging` may be what is missing

    if not lock.exists():
        fix = "Compare with requirements.lock in the course's repository."
        return Check("versions", "warn", "no requirements.lock beside the package", fix)
    entries = list(installed.locked(lock.read_text(encoding="utf-8")))
    found = {name: installed.version_of(name) for name, _ in entries}
    missing = [f"{name} missing" for name, _ in entries if found[name] is None]
    others = [f"{n} {found[n]} (lock: {v})" for n, v in entries if found[n] not in (None, v)]
    if not missing + others:
        return Check("versions", "ok", f"{len(entries)} packages, all as locked")
    fix = f"Not needed while all else is ok. {SET_UP}"
    return Check("versions", "warn", _few(others + missing), fix)


def loopback_port(address: str = "127.0.0.1") -> Check:
    """The service needs a free port that only this machine sees."""
    with socket.socket() as listener:
        try:
            listener.bind((address, 0))
            listener.listen()
        except OSError as error:
            fix = "Let programs listen on 127.0.0.1 (a firewall or sandbox may forbid it)."
            return Check("loopback port", "fail", f"{address}: {error}", fix)
        return Check("loopback port", "ok", f"{address}:{listener.getsockname()[1]} was free")


def notebooks_folder(folder: Path = ROOT / "notebooks") -> Check:
    """JupyterLab saves what a learner writes."""
    if not folder.exists():
        fix = "Start from a checkout of the course's repository."
        return Check("notebooks", "warn", f"no folder {folder}", fix)
    try:
        with tempfile.TemporaryFile(dir=folder):
            return Check("notebooks", "ok", f"can write to {folder}")
    except OSError as error:
        fix = "Make the folder yours to write to, or copy the repository to one that is."
        return Check("notebooks", "fail", f"cannot write to {folder}: {error}", fix)


def open_files(limit: int | None = None) -> Check:
    """Each connection takes a file descriptor."""
    limit = _open_files_limit() if limit is None else limit
    if limit >= ENOUGH_FILES:
        return Check("open files", "ok", f"up to {limit}")
    status: Literal["warn", "fail"] = "fail" if limit < FEWEST_FILES else "warn"
    fix = "Run `ulimit -n 4096` in the terminal before you start JupyterLab."
    return Check("open files", status, f"no more than {limit}", fix)


def _open_files_limit() -> int:
    try:
        import resource  # noqa: PLC0415 - not on Windows, which has no such limit for sockets
    except ImportError:
        return sys.maxsize
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft


def kernel(executable: str = sys.executable, name: str = "python3") -> Check:
    """Notebooks ask for the kernel `python3`: it must run this Python, where the package is."""
    from jupyter_client.kernelspec import (  # noqa: PLC0415 - if missing, that is this finding
        KernelSpecManager,
        NoSuchKernel,
    )

    try:
        command = KernelSpecManager().get_kernel_spec(name).argv[0]
    except NoSuchKernel:
        fix = f"Run `{executable} -m ipykernel install --sys-prefix`"
        return Check("kernel", "fail", f"no kernel is called {name}", fix)
    # Jupyter runs a bare `python` as the Python that runs Jupyter itself.
    bare = re.fullmatch(r"python(3(\.\d+)?)?", command)
    # Links are not followed: a virtual environment's Python links to one outside of it.
    if bare or Path(os.path.abspath(command)).parent == Path(executable).parent:  # noqa: PTH100
        return Check("kernel", "ok", f"{name} runs {executable}")
    fix = f"Run `jupyter kernelspec remove {name}`, or start Jupyter from this environment."
    return Check("kernel", "fail", f"{name} runs another Python: {command}", fix)


def model_file(path: Path | None = None) -> Check:
    """The embedding model's file is there, and is the one that the course was made with."""
    from course_lib.service.knowledge import model  # noqa: PLC0415 - if missing: this finding

    model.verify(path)
    return Check("model", "ok", "the embedding model's SHA-256 is right")


def privacy(environment: Mapping[str, str] = os.environ) -> Check:
    """Questions, passages and prompts stay on this machine, unless the learner says otherwise."""
    wanted = ", ".join(tracing_wanted(environment))
    if not wanted:
        return Check("privacy", "ok", "nothing leaves this machine: no tracing is set up")
    if environment.get(PERMISSION) != "1":
        message = f"{wanted} is set; the course runs without tracing ({PERMISSION}=1 lets it be)"
        return Check("privacy", "ok", message)
    message = f"tracing is on ({wanted}): questions, passages and prompts leave this machine"
    return Check("privacy", "warn", message, f"Unset {PERMISSION}, and it is off.")


def trial_run() -> Check:
    """The service starts, answers one search, and stops."""
    from course_lib import service  # noqa: PLC0415 - if it cannot be imported: this finding

    with service.running() as provider:
        address = urlsplit(provider.url)
        connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=10)
        connection.request("GET", "/search?q=async&k=1")
        answer = connection.getresponse()
        body = json.loads(answer.read())
        connection.close()
    if answer.status != http.client.OK or not body.get("results"):
        fix = "Run `python -m course_lib.service` and read what it says."
        return Check("service", "fail", f"answered {answer.status}: {body}", fix)
    return Check("service", "ok", f"started, found “{body['results'][0]['title']}”, stopped")


CHECKS: dict[str, Callable[[], Check]] = {
    "Python": python_version,
    "package": package,
    "dependencies": dependencies,
    "versions": locked_versions,
    "kernel": kernel,
    "notebooks": notebooks_folder,
    "open files": open_files,
    "loopback port": loopback_port,
    "model": model_file,
    "privacy": privacy,
    "service": trial_run,
}


def report(checks: dict[str, Callable[[], Check]] = CHECKS) -> list[Check]:
    """Run each check, by name; one that raises has failed, and the others still run."""
    return [_guarded(name, check) for name, check in checks.items()]


def _guarded(name: str, check: Callable[[], Check]) -> Check:
    try:
        return check()
    except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding
        return Check(name, "fail", f"{type(error).__name__}: {error}", SET_UP)


def main(*, as_json: bool = False, checks: dict[str, Callable[[], Check]] = CHECKS) -> int:
    """Print the report, for people or as JSON; return 0 only when nothing failed."""
    found = report(checks)
    failed = sum(check.status == "fail" for check in found)
    if as_json:
        out = json.dumps({"ok": not failed, "checks": [asdict(check) for check in found]}, indent=2)
    else:
        verdict = "This machine is ready." if not failed else f"Not ready: {failed} failed."
        out = "\n".join([*map(_line, found), "", verdict])
    sys.stdout.write(out + "\n")
    return min(failed, 1)


def _line(check: Check) -> str:
    fix = f"\n{'':21}-> {check.fix}" if check.fix else ""
    return f"{check.status:<5} {check.name:<14} {check.message}{fix}"
