"""Programs in a process of their own."""

import asyncio

import psutil
import pytest

from course_lib.lab import ChildError, run_child


def own_children():
    return {child.pid for child in psutil.Process().children()}


@pytest.fixture
def before():
    """Children that other tests' providers left running on purpose."""
    return own_children()


def run(source: str, **options):
    async def main():
        return await run_child(source, **options)

    return asyncio.run(main())


def test_the_result_comes_back():
    """Values go in, `result` comes out, printing in between does no harm."""
    assert run("print('noise'); result = [x * 2 for x in xs]", xs=[1, 2]) == [2, 4]


def test_values_arrive_as_they_are():
    """Quotes, lines and other scripts included."""
    text = 'it\'s "quoted"\n\\ — 日本'
    assert run("result = text", text=text) == text


def test_what_the_child_raises_is_said():
    """The last words of its error output are in the message."""
    with pytest.raises(ChildError, match="ZeroDivisionError"):
        run("result = 1 / 0")


def test_a_child_without_a_result_fails():
    """Forgetting the assignment is an error that names it."""
    with pytest.raises(ChildError, match="result"):
        run("pass")


def test_a_child_that_leaves_early_fails():
    """Also if it says that all is well."""
    with pytest.raises(ChildError, match="before it assigned `result`"):
        run("import sys; sys.exit(0)")


def test_a_child_that_does_not_end_is_killed(before):
    """Nothing is left of it."""
    with pytest.raises(ChildError, match=r"within 0\.5 s"):
        run("import time; time.sleep(60)", patience=0.5)
    assert own_children() <= before


def test_a_cancelled_call_kills_its_child(before):
    """As when a learner presses stop."""

    async def main():
        task = asyncio.create_task(run_child("import time; time.sleep(60)"))
        await asyncio.sleep(0)  # starts the child
        assert own_children() - before
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(main())
    assert own_children() <= before


def test_what_the_program_leaves_running_does_not_keep_the_child():
    """A thread that never ends, for one."""
    source = """
        import threading, time
        threading.Thread(target=time.sleep, args=(60,)).start()
        result = "done"
    """
    assert run(source) == "done"
