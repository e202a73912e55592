"""An event loop whose clock jumps to the next timer: what `lab.simulate` runs on.

Internals of asyncio used here, each guarded by a test: `BaseEventLoop` calls `_run_once` until
`_stopping`, and puts what is ready into `_ready`; `Handle._run` calls a callback in its context;
`_timer_handle_cancelled` and `_write_to_self` are called by it; `_check_closed` refuses late timers.
"""

from __future__ import annotations

import asyncio
import heapq
import math
from itertools import count
from typing import TYPE_CHECKING, Any, NoReturn, TypeVarTuple, Unpack

from course_lib.lab.whereabouts import describe_task

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable
    from contextvars import Context

__all__ = [
    "Deadlock",
    "Livelock",
    "NotSimulated",
    "SimulationError",
    "TimeLimit",
    "Unresponsive",
    "VirtualLoop",
]

Ts = TypeVarTuple("Ts")

MAX_STILL = 500_000  # callbacks run without time moving
_DIGITS = 9  # of a second: what is due within one nanosecond is one moment
_FEW = 1_000  # below this many, finished tasks and cancelled timers are not worth a sweep


class SimulationError(RuntimeError):
    """The simulated program cannot go on, or must not.

    Attributes:
        finding: What is wrong, without the advice about `simulate`'s arguments.
    """

    def __init__(self, finding: str, advice: str = "") -> None:
        super().__init__(f"{finding}\n{advice}" if advice else finding)
        self.finding = finding


class Deadlock(SimulationError):  # noqa: N818 - the vocabulary of the field
    """Every task waits, and no timer will ever wake one."""


class Livelock(SimulationError):  # noqa: N818 - the vocabulary of the field
    """The program is busy, but its time stands still."""


class TimeLimit(SimulationError):  # noqa: N818 - the vocabulary of the field
    """The program wants more virtual seconds than it was given."""


class NotSimulated(SimulationError):  # noqa: N818 - says what happened
    """The program used a thread, a socket or a process, which do not obey virtual time."""


class Unresponsive(SimulationError):  # noqa: N818 - says what happened
    """The program took too much real time."""


class VirtualLoop(asyncio.BaseEventLoop):
    """Runs callbacks like any event loop, but never waits: time jumps to the next timer.

    Timers run by deadline, those of one nanosecond in the order they were set. None runs before
    its deadline as asked, not even by a rounding error: who waits `until` a time finds it reached.
    The loop never sleeps, so `interrupt` needs no wake-up.

    Args:
        limit: Virtual seconds after which `TimeLimit` is raised.
        lateness: Virtual seconds by which each timer is late, as on a machine that is busy.

    Attributes:
        most_still: Callbacks that may run without time moving, before `Livelock` is raised.
    """

    _ready: deque[asyncio.Handle]
    _stopping: bool

    def __init__(self, limit: float = math.inf, lateness: float = 0.0) -> None:
        super().__init__()
        self.limit = limit
        self.lateness = lateness
        self.rounds = 0  # how often callbacks were run: the guard's proof of life
        self.moment = 0.0  # seconds since the start in whole nanoseconds: rounding does not add up
        self._now = 0.0  # the same, but no earlier than any deadline that was kept
        self.most_still = MAX_STILL
        self._still = 0  # callbacks run since time last moved
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._order = count()
        self._cancelled_timers = 0
        self._numbers = count()
        self._tasks: list[asyncio.Task[Any]] = []  # strong: what waits must not be collected
        self._sweep_at = _FEW
        self._interruption: BaseException | None = None

    def time(self) -> float:
        """Seconds of virtual time since the start, 0.0 at first."""
        return self._now

    def call_at(
        self,
        when: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """Run the callback at a virtual time, or less than a nanosecond later."""
        when += self.lateness
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        return self._set(handle, when)

    def call_later(
        self,
        delay: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """Run the callback after so many virtual seconds."""
        delay += self.lateness
        handle = asyncio.TimerHandle(self._now + delay, callback, args, self, context)
        return self._set(handle, self.moment + delay)

    def _set(self, handle: asyncio.TimerHandle, moment: float) -> asyncio.TimerHandle:
        if math.isnan(moment):
            raise ValueError("A timer's deadline is not a number (nan): check the delay given.")
        self._check_closed()  # type: ignore[attr-defined] # not in typeshed
        if moment != math.inf:  # what is due at infinity wakes nobody
            heapq.heappush(self._timers, (round(moment, _DIGITS), next(self._order), handle))
        return handle

    def create_task(self, coro: Any, *, name: object = None, **options: Any) -> asyncio.Task[Any]:
        """Start a task; unnamed ones bear their number within this simulation."""
        number = next(self._numbers)
        task = super().create_task(coro, name=name or f"Task-{number}", **options)
        self._tasks.append(task)
        if len(self._tasks) > self._sweep_at:
            self._sweep_at = 2 * len(self.waiting()) + _FEW
        return task

    def waiting(self) -> list[asyncio.Task[Any]]:
        """Tasks that are not done, in the order they were started."""
        self._tasks = [task for task in self._tasks if not task.done()]
        return list(self._tasks)

    def interrupt(self, error: BaseException) -> None:
        """End the run at its next round with this error; may be called from any thread."""
        self._interruption = error

    def extend(self) -> None:
        """Start all limits anew, so that what is cancelled can clean up."""
        self._interruption = None
        self._still = 0
        self.limit += self._now

    def _run_once(self) -> None:
        self.rounds += 1
        if self._interruption is not None:
            raise self._interruption
        if not self._ready and not self._stopping:
            self._jump()
        elif self._still > self.most_still:
            raise Livelock(self._livelock())
        while self._timers and self._timers[0][0] <= self.moment:
            timer = heapq.heappop(self._timers)[2]
            if not timer.cancelled():
                self._now = max(self._now, timer.when())
                self._ready.append(timer)
        self._still += len(self._ready)
        for _ in range(len(self._ready)):
            handle = self._ready.popleft()
            if not handle.cancelled():
                handle._run()  # noqa: SLF001 - how a loop runs a handle

    def _jump(self) -> None:
        while self._timers and self._timers[0][2].cancelled():
            heapq.heappop(self._timers)
            self._cancelled_timers -= 1
        if not self._timers:
            raise Deadlock(self._deadlock())
        when = self._timers[0][0]
        if when > self.limit:
            raise TimeLimit(
                f"The program is not done after {self._now:g} virtual seconds, and its next timer "
                f"({when:g} s) is beyond the limit of {self.limit:g} s.{self._list()}",
                "If it should take that long, pass `limit=`.",
            )
        if when > self.moment:
            self.moment, self._still = when, 0
            self._now = max(self._now, when)
        elif self._still > self.most_still:
            raise Livelock(self._livelock())

    def _deadlock(self) -> str:
        return (
            f"At {self._now:g} virtual seconds every task waits, and no timer is set that could "
            "wake one. (Threads and sockets cannot: they do not obey virtual time.) "
            f"What is each waiting for?{self._list()}"
        )

    def _livelock(self) -> str:
        return (
            f"The clock has stood at {self.moment:g} virtual seconds for {self.most_still:,} steps of the "
            "loop: something polls without waiting, with `sleep(0)` or with a delay that rounds "
            f"to no nanosecond. Await an event, or sleep for a real interval.{self._list()}"
        )

    def _list(self, at_most: int = 8) -> str:
        lines = [f"\n  - {describe_task(task)}" for task in self.waiting()]
        more = f"\n  - ... and {len(lines) - at_most} more" if len(lines) > at_most else ""
        return "".join(lines[:at_most]) + more

    def _timer_handle_cancelled(self, _handle: asyncio.TimerHandle) -> None:
        self._cancelled_timers += 1
        if self._cancelled_timers > _FEW and 2 * self._cancelled_timers > len(self._timers):
            self._timers = [timer for timer in self._timers if not timer[2].cancelled()]
            heapq.heapify(self._timers)
            self._cancelled_timers = 0

    def _write_to_self(self) -> None:
        """Do nothing: a loop that never sleeps needs no waking."""


def _refuse(name: str, advice: str) -> Callable[..., NoReturn]:
    def refused(_loop: VirtualLoop, *_args: object, **_options: object) -> NoReturn:
        raise NotSimulated(f"`loop.{name}` does not work in virtual time: {advice}")

    refused.__name__ = name
    return refused


_THREADS = (
    "a thread does not obey it. Use a coroutine instead of `to_thread` or `run_in_executor`. "
    "LangChain runs sync functions in threads: give `RunnableLambda` an `afunc=`."
)
_SOCKETS = (
    "a socket does not obey it. Put a coroutine that sleeps in place of the network call, or "
    "measure in real time with `lab.measure`."
)
_PROCESSES = "signals, pipes and processes do not obey it. Measure in real time with `lab.measure`."
_REFUSED = {
    _THREADS: "run_in_executor",
    _SOCKETS: """getaddrinfo getnameinfo create_connection create_server create_datagram_endpoint
        create_unix_connection create_unix_server connect_accepted_socket start_tls sendfile
        sock_connect sock_accept sock_recv sock_recv_into sock_recvfrom sock_recvfrom_into
        sock_sendall sock_sendto sock_sendfile add_reader add_writer""",
    _PROCESSES: """add_signal_handler connect_read_pipe connect_write_pipe subprocess_exec
        subprocess_shell""",
}
for _advice, _names in _REFUSED.items():
    for _name in _names.split():
        setattr(VirtualLoop, _name, _refuse(_name, _advice))
