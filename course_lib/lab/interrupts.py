"""The stop button: an interrupt that acts at once, while a cell waits and while it simulates."""

import asyncio
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

__all__ = ["interruptible", "wake_on_interrupt"]


def wake_on_interrupt() -> None:
    """Have signals wake the running event loop.

    ipykernel cancels a cell on SIGINT, but a loop that waits idly for a timer or a socket does not
    notice before it wakes by itself (ipykernel issue 881). Any handler that asyncio installs makes
    signals wake its loop; this one is for a signal that nobody sends. Where that cannot be had
    (no running loop, Windows, another thread), nothing changes.
    """
    with suppress(RuntimeError, NotImplementedError, ValueError, AttributeError):
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR2, _ignore)


def _ignore() -> None:
    """Do nothing: that the loop wakes is all that is wanted."""


@contextmanager
def interruptible() -> Iterator[None]:
    """Let an interrupt raise `KeyboardInterrupt` in the block at once.

    A kernel's own handler would only mark the cell as cancelled, which a block that does not await
    never sees. Outside the main thread, where no signal arrives, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before or signal.default_int_handler)
