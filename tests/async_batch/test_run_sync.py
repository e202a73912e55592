"""`run_sync`: a coroutine's result in sync code, with or without a running loop."""

import asyncio
import contextvars
import os
import signal
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from course_lib.async_batch import run_sync as exported
from course_lib.async_batch.run_sync import run_sync


async def double(n):
    """Return twice `n`, after a turn of the loop."""
    await asyncio.sleep(0)
    return 2 * n


def run_child(source):
    """Run a program in a fresh interpreter in which warnings are errors; return its output."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(source)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


def test_it_works_without_a_loop():
    """In plain sync code it is what `asyncio.run` is; the package exports it."""
    assert exported is run_sync
    assert run_sync(double(21)) == 42


def test_it_works_while_a_loop_runs():
    """In a running loop's thread, where `asyncio.run` refuses, it works."""

    async def cell():
        return run_sync(double(21))

    assert asyncio.run(cell()) == 42


def test_other_awaitables_run():
    """An object with `__await__` is as good as a coroutine."""

    class Awaitable:
        def __await__(self):
            return double(21).__await__()

    assert run_sync(Awaitable()) == 42


def test_the_callers_context_is_seen():
    """Context variables reach the coroutine; what it sets does not come back."""
    variable = contextvars.ContextVar("variable", default="unset")
    variable.set("by the caller")

    async def look():
        seen = variable.get()
        variable.set("by the coroutine")
        return seen

    assert run_sync(look()) == "by the caller"
    assert variable.get() == "by the caller"


@pytest.mark.parametrize(
    "error", [LookupError("no shop"), TimeoutError("its own"), SystemExit(3), StopAsyncIteration()]
)
def test_errors_arrive_as_they_are(error):
    """The very exception object is raised in the caller's thread, and the loop survives it."""

    async def fail():
        raise error

    with pytest.raises(type(error)) as caught:
        run_sync(fail())
    assert caught.value is error
    assert run_sync(double(21)) == 42


def test_a_coroutine_that_cancels_itself_is_cancelled():
    """Cancellation from within arrives as `CancelledError`."""

    async def give_up():
        asyncio.current_task().cancel()
        await asyncio.sleep(0)

    with pytest.raises(asyncio.CancelledError):
        run_sync(give_up())


def test_a_timeout_cancels_and_waits_for_the_clean_up():
    """When `TimeoutError` arrives, the coroutine has run its `finally`."""
    cleaned = []

    async def waits():
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned.append(True)

    with pytest.raises(TimeoutError, match=r"not done within 0\.01 s"):
        run_sync(waits(), timeout=0.01)
    assert cleaned == [True]


@pytest.mark.usefixtures("interrupts")
def test_an_interrupt_cancels_and_waits_for_the_clean_up():
    """When `KeyboardInterrupt` arrives, the coroutine has run its `finally`."""
    cleaned = []

    async def waits():
        try:
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned.append(True)

    with pytest.raises(KeyboardInterrupt):
        run_sync(waits())
    assert cleaned == [True]


def test_calls_from_its_own_loop_are_refused():
    """A coroutine that waits for its own loop would wait for ever; it is told to await."""

    async def nested():
        return run_sync(double(21))

    with pytest.raises(RuntimeError, match="use `await`"):
        run_sync(nested())


def test_tasks_of_another_loop_are_refused():
    """To wait for a task of the loop that stands still meanwhile would never end."""

    async def cell():
        task = asyncio.ensure_future(double(21))
        with pytest.raises(TypeError, match="another event loop"):
            run_sync(task)
        return await task

    assert asyncio.run(cell()) == 42


@pytest.mark.parametrize("thing", [double, 42, None])
def test_what_cannot_be_awaited_is_refused(thing):
    """The error says to call the async function, not to pass it."""
    with pytest.raises(TypeError, match="call the async"):
        run_sync(thing)


def test_many_threads_call_at_once():
    """Calls that need each other are all in flight on the one loop."""
    barrier = asyncio.Barrier(20)

    async def meet(n):
        async with barrier:
            return n

    with ThreadPoolExecutor(20) as pool:
        found = list(pool.map(lambda n: run_sync(meet(n), timeout=60), range(20)))
    assert found == list(range(20))
    assert [thread.name for thread in threading.enumerate()].count("run_sync") == 1


def test_importing_starts_no_thread():
    """The private loop is started by the first call."""
    names = run_child(
        """
        import asyncio, threading
        from course_lib.async_batch import run_sync
        print(threading.active_count())
        run_sync(asyncio.sleep(0))
        print(threading.active_count())
        """
    )
    assert names == ["1", "2"]


def test_what_still_runs_at_exit_is_cancelled():
    """Background tasks and generators of the private loop clean up when the process ends."""
    lines = run_child(
        """
        import asyncio
        from course_lib.async_batch import run_sync
        kept = []
        async def forever(name):
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0)
                print(name, flush=True)
        async def numbers():
            try:
                yield 1
            finally:
                print("generator", flush=True)
        async def begin():
            kept.append(asyncio.create_task(forever("task")))
            kept.append(numbers())
            await anext(kept[-1])
            await asyncio.to_thread(print, "thread", flush=True)
        run_sync(begin())
        """
    )
    assert lines == ["thread", "task", "generator"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_forked_child_has_a_loop_of_its_own():
    """After a fork both processes go on, and the child's end does not disturb the parent."""
    lines = run_child(
        """
        import asyncio, os, warnings
        from course_lib.async_batch import run_sync
        warnings.simplefilter("ignore", DeprecationWarning)  # 3.12: fork with threads
        async def say(word):
            await asyncio.sleep(0)
            print(word, flush=True)
        run_sync(say("before"))
        child = os.fork()
        if child == 0:
            run_sync(say("child"), timeout=30)
            raise SystemExit(0)
        assert os.waitpid(child, 0)[1] == 0
        run_sync(say("parent"), timeout=30)
        """
    )
    assert lines == ["before", "child", "parent"]
