"""Virtual time: run an asynchronous program at once, and know exactly how long it would take.

    >>> async def shop():
    ...     await asyncio.gather(*(asyncio.sleep(0.1) for _ in range(50)))
    ...     return "sold out"
    >>> simulate(shop)
    Simulation(value='sold out', seconds=0.1)

Does NOT obey virtual time, and is refused with `NotSimulated`: threads (`asyncio.to_thread`,
`run_in_executor`, LangChain's sync lambdas), sockets, name look-ups, processes, signals. Is not
noticed: `time.sleep` and computing, which take no virtual time at all, and `time.monotonic`, which
goes on telling the machine's time (`loop.time()` tells the simulation's).
"""

from __future__ import annotations

import asyncio
import contextvars
import ctypes
import inspect
import math
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

from course_lib.lab.interrupts import interruptible
from course_lib.lab.virtual_loop import (
    Deadlock,
    Livelock,
    NotSimulated,
    SimulationError,
    TimeLimit,
    Unresponsive,
    VirtualLoop,
)
from course_lib.lab.whereabouts import describe_call

__all__ = [
    "Deadlock",
    "Livelock",
    "NotSimulated",
    "Simulation",
    "SimulationError",
    "TimeLimit",
    "Unresponsive",
    "simulate",
]

T = TypeVar("T")
Program = Coroutine[Any, Any, T] | Callable[[], Awaitable[T]]

_GLANCE = 0.2  # seconds of real time between two looks at the clock and the loop
_GLANCES_TO_STOP = 25  # then a thread that cannot be stopped (it is inside C code) is left behind
_ROUNDS_TO_CANCEL = 10  # how often a task may swallow its cancellation


@dataclass(frozen=True, slots=True)
class Simulation(Generic[T]):
    """What a simulated program returned, and when.

    Attributes:
        value: What the program returned.
        seconds: Virtual seconds from its start to its end, exact to the nanosecond.
    """

    value: T
    seconds: float


def simulate(
    main: Program[T],
    *,
    limit: float = 3600.0,
    patience: float = 30.0,
    effort: float = math.inf,
    lateness: float = 0.0,
) -> Simulation[T]:
    """Run an asynchronous program to its end in virtual time.

    The program runs on an event loop of its own, in a thread of its own, with the caller's context
    variables. The loop's clock starts at 0.0 and jumps to the next timer, so nothing waits, and
    the same program gives the same result on every machine. This function is called without
    `await`, also in a notebook's cell. Tasks still running at the end are cancelled.

    Args:
        main: A coroutine, or a function without arguments that returns an awaitable.
        limit: Virtual seconds that the program may take.
        patience: Seconds of real time that the program may take.
        effort: Seconds of the processor's time that the program may take: the same on a busy machine.
        lateness: Virtual seconds by which each timer is late, as timers of a real loop are.

    Returns:
        The program's value and its virtual seconds.

    Raises:
        Deadlock: Every task waits and no timer is set; lists who waits where.
        Livelock: The program polls without letting time move.
        TimeLimit: It wants more virtual time than `limit`.
        Unresponsive: It took more real time than `patience`, or more of the processor's than
            `effort`; says where it was.
        NotSimulated: It used a thread, a socket or a process.
        RuntimeError: Called inside a simulation.
        TypeError: `main` is neither coroutine nor function.
        Exception: Whatever `main` raised.
    """
    _check(main)
    return _Run(main, VirtualLoop(limit, lateness)).result(patience, effort)


class _Run(Generic[T]):
    """One simulation: its loop, its thread, and what came of it."""

    def __init__(self, main: Program[T], loop: VirtualLoop) -> None:
        self._main = main
        self._loop = loop
        self._done = threading.Event()
        self._outcome: Simulation[T] | None = None
        self._error: BaseException | None = None
        self._spent: Callable[[], float] = float  # nothing, until its thread runs
        context = contextvars.copy_context()  # prints find their cell, LangChain its config
        self._thread = threading.Thread(
            target=context.run, args=(self._work,), name="lab.simulate", daemon=True
        )

    def result(self, patience: float, effort: float) -> Simulation[T]:
        try:
            with interruptible():
                self._thread.start()
                self._wait(patience, effort)
        except BaseException as error:  # a KeyboardInterrupt, most likely
            self._stop(error)
            raise
        self._thread.join()
        try:
            if self._error is not None:
                raise self._error
            return cast("Simulation[T]", self._outcome)
        finally:
            self._error = None  # an error that refers to its own frame is not freed at once

    def _wait(self, patience: float, effort: float) -> None:
        impatient_at = time.monotonic() + patience
        while not self._done.wait(_GLANCE):
            late, laborious = time.monotonic() > impatient_at, self._spent() > effort
            if self._done.is_set():
                return  # just then
            if late:
                raise self._unresponsive(f"{patience:g} s of real time")
            if laborious:
                raise self._unresponsive(f"{effort:g} s of the processor's time")

    def _unresponsive(self, spent: str) -> Unresponsive:
        return Unresponsive(
            f"The program is not done after {spent} (and {self._loop.time():g} s of virtual time). "
            f"It is {self._where()}\n"
            "An endless loop or a blocking call there stops the event loop: await something in it.",
            "If it only needs longer, pass `patience=`.",
        )

    def _where(self) -> str:
        frame = sys._current_frames().get(self._thread.ident or 0)  # noqa: SLF001 - documented
        return f"in {describe_call(frame)}" if frame else "about to end."

    def _stop(self, error: BaseException) -> None:
        """Cancel the program; where it does not yield, raise within its thread."""
        self._loop.interrupt(_Stopped())
        for _ in range(_GLANCES_TO_STOP):
            rounds = self._loop.rounds
            if self._done.wait(_GLANCE):
                self._thread.join()
                return
            if self._loop.rounds == rounds:
                _raise_in(self._thread, _Stopped)
        error.add_note("The program did not react and was left behind in its thread.")

    def _work(self) -> None:
        self._spent = _processor_time()
        try:
            self._outcome = self._simulate()
        except BaseException as error:  # noqa: BLE001 - it is raised again in the calling thread
            self._error = error
        finally:
            self._done.set()

    def _simulate(self) -> Simulation[T]:
        main = self._loop.create_task(self._timed(), name="main")
        try:
            return cast("Simulation[T]", self._loop.run_until_complete(main))
        finally:
            try:
                _wind_up(self._loop)
            finally:
                self._loop.close()

    async def _timed(self) -> Simulation[T]:
        awaitable = self._main() if callable(self._main) else self._main
        if not inspect.isawaitable(awaitable):
            raise TypeError(
                f"`main` returned {type(awaitable).__name__}, which cannot be awaited: give "
                "`simulate` an async function."
            )
        value = await awaitable
        return Simulation(value, self._loop.moment)


def _processor_time() -> Callable[[], float]:
    """Tells any thread how many seconds of the processor this one has used by then.

    Where no thread can ask that of another, it is those of the process since now.
    """
    if not hasattr(time, "pthread_getcpuclockid"):
        begun = time.process_time()
        return lambda: time.process_time() - begun
    clock = time.pthread_getcpuclockid(threading.get_ident())

    def spent() -> float:
        try:
            return time.clock_gettime(clock)
        except OSError:  # the thread has ended, and its clock with it
            return 0.0

    return spent


class _Stopped(asyncio.CancelledError):
    """Ends the program of an impatient caller; a task that meets it counts as cancelled."""


def _check(main: object) -> None:
    nested = isinstance(_running_loop(), VirtualLoop)
    if nested and inspect.iscoroutine(main):
        main.close()  # it will not run, and is not to be reported as never awaited
    if nested:
        raise RuntimeError("`simulate` was called inside a simulation: await the program instead.")
    if asyncio.isfuture(main):
        raise TypeError(
            "`simulate` cannot run a task or future of another event loop: give it the coroutine, "
            "or a function that makes it."
        )
    if not (callable(main) or inspect.isawaitable(main)):
        raise TypeError(
            f"`simulate` needs a coroutine or an async function, not {type(main).__name__}."
        )


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _wind_up(loop: VirtualLoop) -> None:
    """Cancel what is left, let it clean up, and close the asynchronous generators."""
    for _ in range(_ROUNDS_TO_CANCEL):
        loop.extend()
        try:
            _cancel(loop, loop.waiting())
            loop.run_until_complete(loop.shutdown_asyncgens())
        except SimulationError:
            continue  # a clean-up that waits for ever is cancelled, too
        return
    left = loop.waiting()
    for task in left:
        _keep_for_ever(task.get_coro())
    names = ", ".join(task.get_name() for task in left)
    raise SimulationError(f"Tasks ignored that they were cancelled: {names}. Let them end.")


def _cancel(loop: VirtualLoop, tasks: list[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.wait(tasks))
    for task in tasks:
        if not task.cancelled() and (error := task.exception()) is not None:
            loop.call_exception_handler(
                {"message": "Task failed while it was cancelled", "exception": error, "task": task}
            )


def _keep_for_ever(coroutine: object) -> None:
    """Let nothing ever delete a coroutine that catches whatever ends it.

    To delete it is to raise `GeneratorExit` in it; it would catch that, too, and without a loop that
    runs there is nothing left that it could wait for: it would go round and round for ever.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(coroutine))


def _raise_in(thread: threading.Thread, error: type[BaseException]) -> None:
    """Raise an error in another thread at its next instruction of Python."""
    identity = ctypes.c_ulong(thread.ident or 0)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(identity, ctypes.py_object(error))
