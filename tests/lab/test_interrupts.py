"""The stop button: interrupts that act at once."""

import asyncio
import os
import signal
import threading
import time

import pytest

from course_lib.lab import simulate
from course_lib.lab.interrupts import interruptible, wake_on_interrupt

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")


def interrupt_soon():
    """Send this process what a kernel's stop button sends."""
    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()


def test_a_loop_that_waits_idly_notices_a_signal():
    """As ipykernel cancels a cell: its handler only marks it, and the loop must wake."""

    async def main():
        wake_on_interrupt()
        task = asyncio.current_task()
        before = signal.signal(signal.SIGINT, lambda *_: task.cancel())
        interrupt_soon()
        try:
            await asyncio.sleep(60)  # cancelled long before
        except asyncio.CancelledError:
            return "cancelled"
        finally:
            signal.signal(signal.SIGINT, before)

    assert asyncio.run(main()) == "cancelled"


def test_a_simulation_is_interrupted_whatever_the_kernels_handler_does():
    """Also where the program never yields."""

    async def busy():
        end = time.monotonic() + 60  # bounded, should the interrupt fail
        while time.monotonic() < end:
            pass

    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        interrupt_soon()
        with pytest.raises(KeyboardInterrupt):
            simulate(busy)
    finally:
        signal.signal(signal.SIGINT, before)


def test_the_handler_is_put_back():
    """What the kernel had installed."""
    before = signal.getsignal(signal.SIGINT)
    with interruptible():
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.getsignal(signal.SIGINT) is before


def test_outside_the_main_thread_nothing_changes():
    """Signals do not arrive there."""
    seen = []

    def work():
        with interruptible():
            seen.append(signal.getsignal(signal.SIGINT))
        wake_on_interrupt()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGINT)]
