"""Where a task stands: one line, with the line of the caller's own code."""

import asyncio
import sys

from course_lib.lab.whereabouts import describe_call, describe_frame, describe_task


async def told_of(coroutine):
    """Return the description of a task that has run for one turn."""
    task = asyncio.create_task(coroutine, name="clerk")
    await asyncio.sleep(0)
    line = describe_task(task)
    task.cancel()
    await asyncio.wait([task])
    return line


def test_the_innermost_frame_outside_the_standard_library_is_shown():
    """`await queue.get()` is shown, not the inside of `get`."""

    async def inner(queue):
        await queue.get()

    async def outer():
        await inner(asyncio.Queue())

    line = asyncio.run(told_of(outer()))
    assert line.startswith("clerk test_the_innermost_frame")
    assert ".inner(), in test_whereabouts.py:" in line
    assert line.endswith(": await queue.get()")


def test_coroutines_of_the_standard_library_are_shown_as_they_are():
    """With no frame outside, the innermost is shown."""
    assert "clerk Event.wait(), in locks.py:" in asyncio.run(told_of(asyncio.Event().wait()))


def test_a_finished_task_is_named():
    """A task without frames has its name and its coroutine's."""

    async def done():
        pass

    line = asyncio.run(told_of(done()))
    assert line.startswith("clerk ")
    assert line.endswith("done()")


def test_cells_are_called_cells():
    """The kernel's temporary file names differ from run to run; they are not shown."""
    code = compile("import sys\nframe = sys._getframe()", "/tmp/ipykernel_12/34.py", "exec")  # noqa: S108
    names = {}
    exec(code, names)  # noqa: S102 - a cell
    assert describe_frame(names["frame"]) == "cell:2"


def test_a_running_thread_is_described_by_its_innermost_frame():
    """Given a frame, its callers are looked through as well."""
    assert describe_call(sys._getframe()).startswith("test_whereabouts.py:")
