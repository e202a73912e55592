"""The provider's process: how it starts, and that it always ends."""

import asyncio
import gc
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import urlopen

import psutil
import pytest

from course_lib import service
from course_lib.service import Behaviour, Capacity, Faults, Latency, RateLimit, __main__, launch
from course_lib.service.process import active

ROOT = Path(__file__).parents[2]
PATIENCE = 60
posix = pytest.mark.skipif(os.name != "posix", reason="signals and forks of POSIX")

STARTS_ONE = "from course_lib import service; p = service.start(); print(p.pid, flush=True);"


@pytest.fixture
def program():
    """Run a Python program as a process in between, which starts a provider."""
    processes = []

    def run(source, **options):
        process = subprocess.Popen(
            [sys.executable, "-c", source],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            **options,
        )
        processes.append(process)
        return process

    yield run
    for process in processes:
        process.kill()
        process.communicate()


def is_gone(pid):
    """Whether a process has ended; one that nobody has collected counts as ended."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_it_starts_with_the_behaviour_given():
    """`start` returns when it answers, and it behaves as asked."""
    wanted = Behaviour(Latency.lognormal(1, 2), RateLimit(5, 2), Capacity(3), Faults(0.1))
    with service.start(
        latency=wanted.latency,
        rate_limit=wanted.rate_limit,
        capacity=wanted.capacity,
        faults=wanted.faults,
    ) as provider:
        assert json.load(urlopen(f"{provider.url}/health"))["status"] == "ok"  # noqa: S310
        assert provider.behaviour == wanted


def test_the_default_is_a_provider_across_the_network():
    """100 ms, no limits, no faults."""
    with service.running() as provider:
        assert provider.behaviour == Behaviour(Latency.constant(0.1))


def test_configure_changes_what_is_named(provider):
    """The rest stays; None switches off; the whole behaviour comes back."""
    provider.configure(latency=Latency.constant(1), capacity=Capacity(4))
    now = provider.configure(rate_limit=RateLimit(9, 1), latency=None)
    assert now == provider.behaviour
    assert now == Behaviour(Latency.constant(0), RateLimit(9, 1), Capacity(4))


def test_configure_refuses_what_does_not_fit(provider):
    """A number is no latency; the message says what to give."""
    with pytest.raises(ValueError, match=r"latency=0.1: give a Latency\(\.\.\.\) or None"):
        provider.configure(latency=0.1)


def test_it_shows_its_state(provider):
    """The repr tells what it saw; showing it counts as nothing."""
    urlopen(f"{provider.url}/search?q=queue").close()  # noqa: S310
    shown = f"<Provider {provider.url} pid {provider.pid}, running, 1 requests, 1 connections>"
    assert repr(provider) == shown
    assert repr(provider) == shown


def test_the_handle_works_while_a_loop_runs(provider):
    """It is synchronous: a notebook's cell can call it inside the kernel's loop."""

    async def cell():
        return provider.ledger().requests

    assert asyncio.run(cell()) == 0


def test_the_handle_may_be_shared_by_threads(provider):
    """Many threads that configure and read at once get whole answers."""
    failures = []

    def use(number):
        try:
            for _ in range(20):
                provider.configure(capacity=Capacity(number))
                provider.ledger()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding
            failures.append(error)

    threads = [threading.Thread(target=use, args=(number,)) for number in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert failures == []


def test_a_proxy_in_the_environment_is_ignored(monkeypatch):
    """Loopback needs no proxy, and a school's proxy would not reach it."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with service.running() as provider:
        assert provider.ledger().requests == 0


def test_it_listens_on_loopback_only(provider):
    """Nobody else in the room can reach it."""
    listening = [
        connection.laddr.ip
        for connection in psutil.Process(provider.pid).net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert listening == ["127.0.0.1"]


def test_a_port_can_be_chosen():
    """A provider that was stopped leaves its port to the next."""
    with service.running() as first:
        port = urlsplit(first.url).port
    with service.running(port=port) as second:
        assert second.url == first.url


def test_a_taken_port_is_a_clear_error():
    """The message has the reason and what to do, and no process is left."""
    before = active()
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(RuntimeError, match=f"did not start.*127.0.0.1:{port}.*Leave out port="):
            service.start(port=port)
    assert active() == before


@pytest.mark.parametrize("port", [-1, 65_536, "80"])
def test_an_impossible_port_is_refused(port):
    """Before anything is started."""
    with pytest.raises(ValueError, match="port="):
        service.start(port=port)


def test_a_start_without_a_sign_of_life_is_given_up(monkeypatch):
    """After a bounded time, with an error; the process is ended."""
    monkeypatch.setattr(launch, "START_SECONDS", 0)
    children = set(psutil.Process().children())
    with pytest.raises(RuntimeError, match="no sign of life"):
        service.start()
    assert set(psutil.Process().children()) <= children


def test_a_crash_at_the_start_shows_its_last_words(monkeypatch, tmp_path):
    """What it wrote to standard error is in the message."""
    package = tmp_path / "course_lib" / "service"
    package.mkdir(parents=True)
    package.parent.joinpath("__init__.py").touch()
    package.joinpath("__init__.py").touch()
    package.joinpath("__main__.py").write_text("raise SystemExit('no luck today')")
    monkeypatch.setattr(launch, "ROOT", tmp_path)
    with pytest.raises(RuntimeError, match="exit status 1: no luck today"):
        service.start()


def test_stop_may_be_called_twice(eventually):
    """The second call does nothing; the handle says what to do next."""
    provider = service.start()
    assert provider in active()
    provider.stop()
    provider.stop()
    assert is_gone(provider.pid)
    assert provider not in active()
    assert repr(provider) == f"<Provider {provider.url} pid {provider.pid}, stopped>"
    with pytest.raises(RuntimeError, match="was stopped: service.start"):
        provider.ledger()


def test_stop_does_not_wait_for_stuck_requests(eventually):
    """A hung request and an idle connection are cut; the process goes on the first signal."""
    provider = service.start(faults=Faults(hang=1))
    parts = urlsplit(provider.url)
    idle = socket.create_connection((parts.hostname, parts.port), timeout=PATIENCE)
    idle.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert idle.recv(12) == b"HTTP/1.1 200"
    stuck = socket.create_connection((parts.hostname, parts.port), timeout=PATIENCE)
    stuck.sendall(b"GET /search?q=queue HTTP/1.1\r\nHost: localhost\r\n\r\n")
    eventually(lambda: provider.ledger().peak_working == 1)
    provider.stop()
    if os.name == "posix":
        assert provider._process.returncode == -signal.SIGTERM
    assert stuck.recv(1) == b""
    idle.close()
    stuck.close()


def test_a_provider_that_died_is_a_clear_error(eventually):
    """The handle says that it has ended, and what to do."""
    with service.start() as provider:
        psutil.Process(provider.pid).kill()
        eventually(lambda: is_gone(provider.pid))
        with pytest.raises(RuntimeError, match="has ended.*start"):
            provider.ledger()
        assert "ended" in repr(provider)


def test_a_forgotten_provider_ends(eventually):
    """A cell that is run twice leaves no process behind."""
    provider = service.start()
    pid = provider.pid
    del provider
    gc.collect()
    assert is_gone(pid)


@pytest.mark.parametrize("end", ["", "raise SystemExit(3)", "import os; os._exit(1)"])
def test_it_ends_with_the_program_that_started_it(program, eventually, end):
    """However the program ends."""
    process = program(STARTS_ONE + end)
    pid = int(process.stdout.readline())
    process.wait(PATIENCE)
    eventually(lambda: is_gone(pid))


def test_it_ends_when_its_parent_is_killed(program, eventually):
    """Also after `kill -9`, which lets nobody clear up."""
    process = program(STARTS_ONE + "input()")
    pid = int(process.stdout.readline())
    assert not is_gone(pid)
    process.kill()
    eventually(lambda: is_gone(pid))


@posix
def test_a_fork_that_outlives_the_parent_does_not_keep_it_alive(program, eventually):
    """A worker process holds the provider's standard input, too."""
    process = program(
        "import os, time, warnings; warnings.simplefilter('ignore');"
        + STARTS_ONE
        + "child = os.fork(); child or (time.sleep(60), os._exit(0)); print(child, flush=True); input()"
    )
    pid, child = int(process.stdout.readline()), int(process.stdout.readline())
    process.kill()
    process.wait(PATIENCE)
    try:
        eventually(lambda: is_gone(pid))
        assert not is_gone(child)
    finally:
        psutil.Process(child).kill()


@posix
@pytest.mark.usefixtures("interrupts")
def test_it_survives_an_interrupt_of_the_process_group(program):
    """As Jupyter's stop button sends it: to the whole group; and one sent to it alone."""
    process = program(
        f"import signal; signal.signal(signal.SIGINT, signal.SIG_IGN);{STARTS_ONE}"
        "input(); print(p.ledger().requests, flush=True)",
        start_new_session=True,
    )
    pid = int(process.stdout.readline())
    os.killpg(process.pid, signal.SIGINT)
    os.kill(pid, signal.SIGINT)
    assert process.communicate("\n", PATIENCE)[0] == "0\n"


@posix
def test_a_fork_of_the_parent_leaves_it_alone(program):
    """A worker process that exits does not take the provider along."""
    process = program(
        "import os, sys, warnings; warnings.simplefilter('ignore');"
        + STARTS_ONE
        + "child = os.fork() or sys.exit(0); os.waitpid(child, 0); print(p.ledger().requests)"
    )
    process.stdout.readline()
    assert process.communicate(timeout=PATIENCE)[0] == "0\n"


def test_it_prints_one_line_and_nothing_else():
    """Not even when it is sent rubbish: standard output is the ready line, standard error empty."""
    process = subprocess.Popen(
        [sys.executable, "-m", "course_lib.service", "--watch-stdin"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    ready = json.loads(process.stdout.readline())
    assert set(ready) == {"url", "pid"}
    parts = urlsplit(ready["url"])
    for rubbish in (
        b"hello\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET /x HTTP/1.0\r\n\r\n",
    ):
        with socket.create_connection((parts.hostname, parts.port), timeout=PATIENCE) as client:
            client.sendall(rubbish)
            assert client.recv(5) == b"HTTP/"
    assert process.communicate(timeout=PATIENCE) == (b"", b"")
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--behaviour", '{"speed": 1}'], "no field 'speed'"),
        (["--behaviour", "fast"], "argument --behaviour"),
        (["--port", "70000"], "from 0 to 65535"),
    ],
)
def test_a_wrong_command_line_is_refused(arguments, reason):
    """With the reason, and no traceback."""
    done = subprocess.run(
        [sys.executable, "-m", "course_lib.service", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert reason in done.stderr
    assert "Traceback" not in done.stderr


def test_only_a_port_that_is_taken_is_told_as_such(monkeypatch):
    """A file that cannot be read is an error of its own."""

    def unreadable(_):
        raise FileNotFoundError("corpus")

    monkeypatch.setattr(__main__, "_app", unreadable)
    with pytest.raises(FileNotFoundError, match="corpus"):
        __main__.main(["--port", "0"])


def test_importing_the_package_brings_no_server():
    """A notebook's kernel pays for the handle only."""
    code = (
        "import sys, course_lib.service;"
        "print({'aiohttp', 'numpy', 'bm25s', 'onnxruntime', 'prometheus_client'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"
