"""Nothing leaves the machine: whom the course calls, what it looks up, and where it writes."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from traced_support import read, traced

from course_lib.privacy import TRACING, keep_private, tracing_wanted

ROOT = Path(__file__).parents[1]
SETS = dict.fromkeys(TRACING, "true")


def run(program, **environment):
    """Run a program in an environment of its own; return what it printed."""
    kept = {name: value for name, value in os.environ.items() if name not in TRACING}
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**kept, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize("name", TRACING)
def test_tracing_is_switched_off_whichever_variable_asks_for_it(name):
    """Those of LangSmith and of LangChain, old ones too; nothing else changes but telemetry."""
    environment = {name: "true", "LANGSMITH_API_KEY": "kept"}
    assert tracing_wanted(environment) == [name]
    keep_private(environment)
    assert tracing_wanted(environment) == []
    assert environment["LANGSMITH_API_KEY"] == "kept"
    assert environment["ORT_DISABLE_TELEMETRY"] == "1"


@pytest.mark.parametrize("value", ["", "false", "False", "0"])
def test_a_variable_that_asks_for_none_is_left_alone(value):
    """There is nothing to switch off."""
    environment = {"LANGSMITH_TRACING": value}
    keep_private(environment)
    assert environment["LANGSMITH_TRACING"] == value


def test_who_wants_tracing_may_have_it():
    """`COURSE_TRACING=1` is the learner's word, and no other value is."""
    for said, left in (("1", "true"), ("0", "false"), ("", "false")):
        environment = {"LANGSMITH_TRACING": "true", "COURSE_TRACING": said}
        keep_private(environment)
        assert environment["LANGSMITH_TRACING"] == left


ASKED = "from langsmith.utils import tracing_is_enabled as traced; from langchain_core.runnables import RunnableLambda as R;"


@pytest.mark.parametrize(("said", "seen"), [({}, ["False"]), ({"COURSE_TRACING": "1"}, ["True"])])
@pytest.mark.parametrize("name", ["LANGSMITH_TRACING", "LANGCHAIN_TRACING_V2"])
def test_the_bench_runs_without_tracing_also_where_it_had_begun(name, said, seen):
    """LangSmith remembers what it read of the environment: it is made to look again."""
    program = f"{ASKED} traced(); import course_lib.lab; print(traced())"
    assert run(program, **{name: "true"}, **said) == seen


def test_an_old_variable_that_langchain_refuses_does_not_stop_the_course():
    """`LANGCHAIN_TRACING` alone is an error in every Runnable."""
    program = f"{ASKED} import course_lib.lab; print(R(str).invoke(1))"
    assert run(program, LANGCHAIN_TRACING="true") == ["1"]


def test_what_the_bench_starts_runs_without_tracing():
    """Its processes inherit the environment."""
    program = (
        "import asyncio, course_lib.lab as lab;"
        "print(*asyncio.run(lab.run_child('import os; result = [os.environ[each] for each in names]',"
        "names=['LANGSMITH_TRACING', 'ORT_DISABLE_TELEMETRY'])))"
    )
    assert run(program, LANGSMITH_TRACING="true") == ["false", "1"]


def test_somebody_elses_program_keeps_what_it_has_set():
    """Only the bench switches anything off: the packages that are taken away do not."""
    packages = "async_batch, batching, caching, monitoring, rag, rate_limiting, service"
    program = (
        f"import os; before = dict(os.environ); from course_lib import {packages};"
        "print(os.environ == before, 'course_lib.privacy' in __import__('sys').modules)"
    )
    assert run(program, **SETS) == ["True", "False"]


def test_the_provider_has_nothing_that_traces():
    """It loads neither LangChain nor LangSmith."""
    program = (
        "import sys, course_lib.service.app, course_lib.service.__main__, course_lib.service.knowledge.encoders;"
        "print({name.partition('.')[0] for name in sys.modules} & {'langsmith', 'langchain_core'})"
    )
    assert run(program) == ["set()"]


def test_the_model_runtime_is_loaded_in_one_place():
    """Where its telemetry is switched off first; the bench does it for all else in its kernel."""
    loads = re.compile(
        r"""^\s*(import|from) onnxruntime|import_module\(.onnxruntime""", re.MULTILINE
    )
    files = [
        file
        for folder in ("course_lib", "tools", "benchmarks", "notebooks/sources")
        for file in (ROOT / folder).rglob("*.py")
        if loads.search(file.read_text(encoding="utf-8"))
    ]
    assert [file.name for file in files] == ["encoders.py"]


PROVIDER = """
import json
from urllib.request import Request, urlopen
from course_lib import service

with service.running(latency=None) as provider:
    for path, body in [
        ("/v1/embeddings", {"input": "xyzzy plugh"}),
        ("/rerank", {"query": "xyzzy", "documents": ["plugh", "plover"]}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "[a] Plugh.\\n\\nPlugh?"}]}),
    ]:
        urlopen(Request(provider.url + path, json.dumps(body).encode())).read()
    for path in ("/search?q=queue", "/metrics", "/v1/models", "/admin/ledger"):
        urlopen(provider.url + path).read()
"""
NOTEBOOK = """
import sys
sys.path[:0] = ["tools"]
import nbformat
from pathlib import Path
from nbtools.execution import execute

path = Path("notebooks/06_rag_capstone.ipynb")
execute(nbformat.read(path, as_version=4), path.parent)
"""
TEMPORARY = ("/tmp", "/dev/shm", "/dev/null")  # noqa: S108 - these are the places


def test_a_provider_calls_nobody_looks_up_nothing_and_keeps_nothing(tmp_path):
    """Also without `CI`, by which its model runtime would be silent anyway."""
    seen = traced(["-c", PROVIDER], tmp_path)
    assert (seen.called, seen.looked_up) == (set(), set())
    assert seen.outside(*TEMPORARY) == set()
    assert seen.outside(below=tmp_path / "home") == set()


@pytest.mark.nightly
def test_a_run_of_notebook_6_stays_on_this_machine(tmp_path):
    """It calls loopback alone, looks up no name, and writes where the README says."""
    seen = traced(["-c", NOTEBOOK], tmp_path)
    assert (seen.called, seen.looked_up) == (set(), set())
    assert seen.outside(*TEMPORARY, ROOT) == set()
    home = tmp_path / "home"
    kept = (home / place for place in (".ipython", ".cache/matplotlib", ".config/matplotlib"))
    assert seen.outside(*kept, below=home) == set()


def test_the_readme_names_the_places_that_are_written():
    """Those of the checkout, the temporary ones, and those of Jupyter and matplotlib."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for place in ("`~/.ipython`", "`~/.jupyter`", "`~/.local/share/jupyter`"):
        assert place in readme
    for place in ("`~/.cache/matplotlib`", "`~/.config/matplotlib`", "`COURSE_TRACING=1`"):
        assert place in readme


def test_what_a_trace_shows_is_read():
    """Calls, look-ups and files, in one line or with a gap in the middle of it."""
    seen = read(
        '12 connect(3<socket:[1]>, {sa_family=AF_INET, sin_port=htons(80), sin_addr=inet_addr("127.0.0.1")}, 16) = 0\n'
        '12 connect(3, {sa_family=AF_INET, sin_port=htons(53), sin_addr=inet_addr("10.0.0.53")} <unfinished ...>\n'
        '12 sendto(4, "sin_addr", 1, 0, {sa_family=AF_INET6, sin6_port=htons(9), inet_pton(AF_INET6, "2001:db8::1", &sin6_addr)}, 28) = 1\n'
        '[pid    13] openat(AT_FDCWD</here>, "/etc/resolv.conf", O_RDONLY|O_CLOEXEC) = 5\n'
        '13 openat(AT_FDCWD</here>, "a", O_WRONLY|O_CREAT, 0600) = 5</here/a>\n'
        '13 openat(7</there>, "b", O_RDWR|O_CREAT <unfinished ...>\n'
        '13 openat(AT_FDCWD</here>, "c", O_RDONLY) = 5</here/c>\n'
        '13 mkdir("/made", 0700) = 0\n'
        '13 mkdir("/missing/made", 0700) = -1 ENOENT (No such file or directory)\n'
        "13 <... openat resumed>) = 5\n"
    )
    assert seen.called == {"10.0.0.53", "2001:db8::1"}
    assert seen.looked_up == {"/etc/resolv.conf"}
    assert seen.written == {"/here/a", "/there/b", "/made"}
    assert seen.outside("/here", "/there") == {"/made"}
