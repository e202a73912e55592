"""The last cell: each kind of leftover is found, and a clean notebook passes."""

import importlib
import json
import subprocess
import sys
import textwrap

import nbformat
import pytest
from nbclient import NotebookClient

import course_lib.lab  # noqa: F401 - watches before a test can leak
from course_lib.lab import hygiene as from_lab

module = importlib.import_module("course_lib.lab.hygiene")

PROLOGUE = """
import asyncio, json, subprocess, sys, threading, warnings
from types import SimpleNamespace
import aiohttp
from course_lib.lab import HygieneError, hygiene

def left():
    try:
        return repr(hygiene())
    except HygieneError as error:
        return str(error)

async def waits():
    await asyncio.Event().wait()

async def fails():
    raise LookupError("no shop")

class Breaks:
    def __del__(self):
        raise LookupError("in __del__")

stories, told = {}, {}
"""

EPILOGUE = """
async def main():
    for name, story in stories.items():
        shown = []
        await story(shown.append)
        told[name] = shown

asyncio.run(main())
print(json.dumps(told))
"""


def run_stories(stories):
    """Run each story in the loop of one fresh interpreter; return what each has shown."""
    parts = [PROLOGUE]
    for name, cells in stories.items():
        body = textwrap.indent("\n".join(map(textwrap.dedent, cells)), "    ")
        parts.append(f"async def story(show):\n{body}\nstories[{name!r}] = story")
    done = subprocess.run(
        [sys.executable, "-c", "\n".join([*parts, EPILOGUE])],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def run_notebook(*cells):
    """Run cells in a real kernel; return the outputs of each."""
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    NotebookClient(book, timeout=60, kernel_name="python3", allow_errors=True).execute()
    return [cell.outputs for cell in book.cells]


def test_module_and_function_are_one():
    """`lab.hygiene` can be called and has what the module has, also after a reload."""
    assert module.hygiene is from_lab
    importlib.reload(module)
    assert module.hygiene is from_lab
    assert from_lab.note_gap == module.note_gap
    assert from_lab.expected == module.expected
    assert from_lab.watch == module.watch


LEAKS = {
    "lost task": "task = asyncio.create_task(waits())\nawait asyncio.sleep(0)",
    "task exception never retrieved": "asyncio.create_task(fails())\nawait asyncio.sleep(0)",
    "coroutine never awaited": "waits()",
    "unraisable exception": "Breaks()",
    "open session": "session = aiohttp.ClientSession()",
    "running provider": """
        fake = SimpleNamespace(url="http://127.0.0.1:1", pid=1)
        sys.modules["course_lib.service.process"] = SimpleNamespace(active=lambda: [fake])
        """,
    "running thread": """
        event = threading.Event()
        thread = threading.Thread(target=event.wait, name="weaver")
        thread.start()
        """,
    "running process": """
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        """,
    "blocked loop": "hygiene.note_gap(3.0, 'the naive program')",
}
"""For each kind, a cell that leaks."""

DETAILS = {
    "lost task": "waits(), in <string>:",
    "task exception never retrieved": "LookupError: no shop",
    "coroutine never awaited": "'waits' was never awaited",
    "unraisable exception": "in __del__",
    "open session": "ClientSession",
    "running provider": "http://127.0.0.1:1",
    "running thread": "weaver",
    "running process": "input()",
    "blocked loop": "3.0 s in the naive program",
}

MENDS = {
    "lost task": "task.cancel()\nawait asyncio.wait([task])",
    "open session": "await session.close()",
    "running provider": "sys.modules['course_lib.service.process'].active = list",
    "running thread": "event.set()\nthread.join()",
    "running process": "child.communicate()",
}
"""What is still alive, and is reported until it ends."""


def expecting(kind, leak):
    """Put a leak into a block in which its kind is expected."""
    body = textwrap.indent(textwrap.dedent(leak), "    ")
    return f"with hygiene.expected({kind!r}):\n{body}"


SHOW = "show(left())"
STORIES = {
    "clean": (
        "async with aiohttp.ClientSession():\n    await asyncio.to_thread(print, end='')",
        "await asyncio.create_task(asyncio.sleep(0))",
        SHOW,
    ),
    **{f"leak: {kind}": (LEAKS[kind], SHOW, MENDS.get(kind, ""), SHOW) for kind in LEAKS},
    **{
        f"expected: {kind}": (
            expecting(kind, LEAKS[kind]),
            SHOW,
            MENDS.get(kind, ""),
        )
        for kind in LEAKS
    },
    "later": (
        expecting("lost task", LEAKS["lost task"]),
        "other = asyncio.create_task(waits())",
        SHOW,
        "other.cancel()\ntask.cancel()\nawait asyncio.wait([task, other])",
    ),
    "another kind": (expecting("lost task", LEAKS["coroutine never awaited"]), SHOW),
    "failed task kept": (
        "task = asyncio.create_task(fails())\nawait asyncio.wait([task])",
        SHOW,
        "task.exception()",
    ),
    "collected": (
        """
        async def orphan():
            await asyncio.get_running_loop().create_future()
        asyncio.create_task(orphan())
        aiohttp.ClientSession()
        await asyncio.sleep(0)
        """,
        SHOW,
    ),
    "warnings as errors": (
        """
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            waits()
        """,
        SHOW,
    ),
    "there before": (
        LEAKS["running thread"],
        LEAKS["lost task"],
        "hygiene.__init__()\nhygiene.watch()",
        SHOW,
        MENDS["running thread"],
        MENDS["lost task"],
    ),
    "hooks": (
        """
        seen = []
        sys.unraisablehook = lambda unraisable: seen.append("unraisable")
        for _ in range(3):
            hygiene.watch()
        Breaks()
        show(seen)
        """,
        SHOW,
    ),
}
CLEAN = [f"✔ {statement}" for statement, _ in module.KINDS.values()]


@pytest.fixture(scope="module")
def told():
    """What each story has shown; all run in one interpreter, for time's sake."""
    return run_stories(STORIES)


def test_a_clean_program_passes_with_every_line_ticked(told):
    """The report has one ticked line a kind, and no number of this machine."""
    (report,) = told["clean"]
    assert report.splitlines() == CLEAN
    assert not any(character.isdigit() for character in report)


@pytest.mark.parametrize("kind", LEAKS)
def test_each_kind_of_leftover_is_found(kind, told):
    """The error has one line for it, with what to do; once it is mended, all is clean."""
    found, after = told[f"leak: {kind}"]
    head, line = found.splitlines()
    assert head == "Left behind:"
    assert line.startswith(f"✘ {kind}: ")
    assert DETAILS[kind] in line
    assert line.endswith(module.KINDS[kind][1])
    assert after.splitlines() == CLEAN


@pytest.mark.parametrize("kind", LEAKS)
def test_expected_leaks_are_not_reported(kind, told):
    """What a cell leaks on purpose is let pass."""
    (after,) = told[f"expected: {kind}"]
    assert after.splitlines() == CLEAN


def test_expecting_ends_with_its_block(told):
    """A later leak of the same kind is reported, the expected one still is not."""
    assert told["later"][0].count("✘ lost task") == 1


def test_expecting_one_kind_hides_no_other(told):
    """A leak that was not announced is reported."""
    assert "✘ coroutine never awaited" in told["another kind"][0]


def test_unknown_kinds_are_refused():
    """A misspelt kind would forgive nothing; the error lists the kinds."""
    with pytest.raises(ValueError, match="choose from lost task"), from_lab.expected("lost tasks"):
        pass


def test_a_failed_task_that_is_still_referred_to_is_found(told):
    """A variable that keeps a failed task keeps asyncio silent, but not `hygiene`."""
    assert "still holds its error" in told["failed task kept"][0]


def test_collected_tasks_and_sessions_are_found(told):
    """What asyncio or aiohttp only logs when it is collected is reported."""
    (found,) = told["collected"]
    assert "✘ lost task: Task was destroyed" in found
    assert "✘ open session: Unclosed client session" in found


def test_warnings_as_errors_are_still_understood(told):
    """A coroutine never awaited is told as such where the warning is made an error."""
    assert "✘ coroutine never awaited" in told["warnings as errors"][0]


def test_what_was_there_before_is_not_counted(told):
    """Tasks and threads that ran when watching began are somebody else's."""
    assert told["there before"][0].splitlines() == CLEAN


def test_hooks_are_chained_and_installed_once(told):
    """Hooks that were there before still run, once each, however often watching begins."""
    seen, found = told["hooks"]
    assert seen == ["unraisable"]
    assert found.count("LookupError") == 1


@pytest.mark.kernel
def test_in_a_real_kernel():
    """The kernel's own tasks and threads are no leftovers; a cell's forgotten task is."""
    outputs = run_notebook(
        "import asyncio\nfrom course_lib.lab import hygiene, simulate",
        "await asyncio.gather(*(asyncio.to_thread(print, end='') for _ in range(3)))",
        "simulate(asyncio.sleep(1, 'slept')).seconds",
        "hygiene()",
        "async def forgotten():\n    await asyncio.Event().wait()",
        "task = asyncio.create_task(forgotten(), name='stray')\nawait asyncio.sleep(0)",
        "hygiene()",
    )
    clean, error = outputs[3][0], outputs[-1][0]
    assert clean.data["text/plain"].splitlines() == CLEAN
    assert clean.data["text/html"].count("✔") == len(CLEAN)
    line = "✘ lost task: stray forgotten(), in cell:2: await asyncio.Event().wait(): await it"
    assert line in error.evalue
