"""The life of the provider's process: how it begins, and how it ends."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import IO, Any, Final

from course_lib.service.behaviour import Behaviour
from course_lib.service.values import LAST_PORT

__all__ = ["end", "exit_state", "launch"]

START_SECONDS: Final = 60.0
"""Patience with a start: it takes less than one on a free machine."""

STOP_SECONDS: Final = 5.0
EXIT_SECONDS: Final = 1.0
TAIL_BYTES: Final = 2_000

ROOT: Final = Path(__file__).parents[2]
"""Where `course_lib` is imported from."""

WINDOWS: Final = sys.platform == "win32"


def launch(behaviour: Behaviour, port: int) -> tuple[subprocess.Popen[bytes], IO[bytes], str]:
    """Start the process and wait until it answers.

    Args:
        behaviour: How it behaves.
        port: Port on 127.0.0.1; 0 for a free one.

    Returns:
        The process, the file that takes its standard error, and its address.

    Raises:
        ValueError: The port is none.
        RuntimeError: It did not start; the message says why and what to do.
    """
    if not isinstance(port, int) or not 0 <= port <= LAST_PORT:
        raise ValueError(
            f"port={port!r}: give a whole number from 0 (any free port) to {LAST_PORT}"
        )
    log = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the process: a pipe would fill up
    process = _spawn(behaviour, port, log)
    try:
        return process, log, _address(process, log)
    except BaseException:  # an interrupt as well must leave no process behind
        end(process, log, os.getpid())
        raise


def _spawn(behaviour: Behaviour, port: int, log: IO[bytes]) -> subprocess.Popen[bytes]:
    # -P: a file in the working directory must not stand in for a module of the same name.
    program = [sys.executable, "-P", "-m", "course_lib.service", "--watch-stdin"]
    return subprocess.Popen(  # noqa: S603 - our own program
        [*program, "--port", str(port), "--behaviour", json.dumps(behaviour.to_dict())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        env=_environment(),
        **_apart(),
    )


def _environment() -> dict[str, str]:
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    one_thread = {"OPENBLAS_NUM_THREADS": "1"}  # its sums are too short to share
    return {**one_thread, **os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


def _apart() -> dict[str, Any]:
    """Keep an interrupt of our process group, as the kernel sends it, away from the provider."""
    if WINDOWS:
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}  # type: ignore[attr-defined,unused-ignore]
    return {"start_new_session": True}


def _address(process: subprocess.Popen[bytes], log: IO[bytes]) -> str:
    """Return the address from the line that it prints when it answers."""
    line = _first_line(process)
    if not line:
        raise RuntimeError(_failure(process, log))
    url: str = json.loads(line)["url"]
    return url


def _first_line(process: subprocess.Popen[bytes]) -> bytes:
    """Return the first line of output; empty if the process ends or lets us wait too long."""
    lines: SimpleQueue[bytes] = SimpleQueue()
    assert process.stdout is not None  # noqa: S101 - for the type checker: we asked for a pipe
    Thread(
        target=lambda out: lines.put(out.readline()), args=(process.stdout,), daemon=True
    ).start()
    try:
        return lines.get(timeout=START_SECONDS)
    except Empty:
        return b""


def _failure(process: subprocess.Popen[bytes], log: IO[bytes]) -> str:
    try:
        code = process.wait(EXIT_SECONDS)
    except subprocess.TimeoutExpired:
        reason = f"it gave no sign of life for {START_SECONDS:g} s"
    else:
        log.seek(0)
        reason = f"exit status {code}: {log.read()[-TAIL_BYTES:].decode(errors='replace').strip()}"
    return (
        f"the provider did not start ({reason}). Leave out port= to take a free one; to see it "
        f"fail, run: {sys.executable} -m course_lib.service"
    )


def exit_state(process: subprocess.Popen[bytes]) -> str:
    """Say of a provider that did not answer whether it has ended, and how.

    A process that is ending closes its sockets before its exit status can be collected: so it is
    given a moment.
    """
    try:
        return f"has ended (exit status {process.wait(EXIT_SECONDS)})"
    except subprocess.TimeoutExpired:
        return "does not answer"


def end(process: subprocess.Popen[bytes], log: IO[bytes], owner: int) -> None:
    """End the process and wait until it is gone.

    Args:
        process: The provider.
        log: The file that takes its standard error; closed here.
        owner: The process that started it; a fork of that one leaves the provider alone.
    """
    if os.getpid() != owner:
        return
    process.terminate()
    try:
        process.wait(timeout=STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for stream in (process.stdin, process.stdout, log):
        if stream is not None:
            stream.close()
