"""At most one computation a key at a time, among tasks and among threads, whoever gives up."""

from __future__ import annotations

import asyncio
import threading
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

from course_lib.caching.memory import Entry

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping, Sequence

    from course_lib.caching.memory import Memory
    from course_lib.caching.store_tier import Tier

__all__ = ["Flights", "TaskFlight", "TaskSingleFlight", "ThreadSingleFlight", "Work", "is_no_value"]

Compute: TypeAlias = "Callable[[list[Any]], Sequence[Entry]]"
AsyncCompute: TypeAlias = "Callable[[list[Any]], Awaitable[Sequence[Entry]]]"
F = TypeVar("F", bound="Flight")

_inside: ContextVar[frozenset[Work]] = ContextVar("course_lib.caching.inside", default=frozenset())


class Flight:
    """One value being computed, and those who wait for it.

    Args:
        key: What it is kept under.
        loop: The event loop it belongs to; None among threads.

    Attributes:
        landed: Whether the end has come: a value, an error, or the computation was given up.
        entry: The value or the error; None if there is none.
    """

    __slots__ = ("entry", "key", "landed", "loop")

    def __init__(self, key: Hashable, loop: asyncio.AbstractEventLoop | None) -> None:
        self.key = key
        self.loop = loop
        self.landed = False
        self.entry: Entry | None = None

    def land(self, entry: Entry | None) -> None:
        """Give the end to everybody who waits. What has landed stays as it is."""
        if not self.landed:
            self.landed, self.entry = True, entry
            self.wake()

    def wake(self) -> None:
        """Let those go on who wait."""
        raise NotImplementedError

    def is_own(self) -> bool:
        """Return whether whoever asks is part of the computation."""
        raise NotImplementedError

    def refuse_itself(self) -> None:
        """Refuse to let a computation wait for its own end.

        Raises:
            RuntimeError: It would.
        """
        if self.is_own():
            raise RuntimeError(
                f"the computation of {self.key!r} asks the cache for {self.key!r}: compute it "
                "there without the cache, or under another key"
            )


class Flights(Generic[F]):
    """Flights under way, by event loop and key.

    Those of one loop are not shared with another: whoever waited across loops would hang when the
    other stops. What was under way in a loop that has been closed is forgotten.
    """

    __slots__ = ("_tables",)

    def __init__(self) -> None:
        self._tables: dict[asyncio.AbstractEventLoop | None, dict[Hashable, F]] = {}

    def __len__(self) -> int:
        return sum(len(self._tables[loop]) for loop in list(self._tables) if not _is_gone(loop))

    def of(self, loop: asyncio.AbstractEventLoop | None) -> dict[Hashable, F]:
        """Return those of a loop, or of threads."""
        if loop not in self._tables:
            for other in list(self._tables):
                if _is_gone(other):
                    del self._tables[other]
            self._tables[loop] = {}
        return self._tables[loop]

    def is_current(self, flight: F) -> bool:
        """Return whether its result is still to be kept."""
        return self._tables.get(flight.loop, {}).get(flight.key) is flight

    def remove(self, flight: F) -> bool:
        """Forget a flight, and return whether it was current; another of the same key stays."""
        if not self.is_current(flight):
            return False
        table = self._tables[flight.loop]
        del table[flight.key]
        if not table:
            del self._tables[flight.loop]
        return True

    def disown(self, key: Hashable) -> None:
        """Let those of a key go on for who waits, but keep what they find for nobody else."""
        for loop, table in list(self._tables.items()):
            table.pop(key, None)
            if not table:
                del self._tables[loop]

    def clear(self) -> None:
        """Disown all."""
        self._tables.clear()


class SingleFlight(Generic[F]):
    """What tasks and threads do alike: who boards, what is kept, and how it lands.

    A value that was set or invalidated meanwhile is given to those who wait, but not kept.

    Args:
        memory: The first tier.
        tier: The second, if there is one.

    Attributes:
        flights: What is being computed.
    """

    def __init__(self, memory: Memory, tier: Tier | None) -> None:
        self.flights: Flights[F] = Flights()
        self._memory = memory
        self._tier = tier

    def _board(
        self, keys: Sequence[Hashable], table: dict[Hashable, F], make: Callable[[Hashable], F]
    ) -> tuple[list[F], list[F]]:
        """Return the flight of each key, and those among them that are to begin."""
        for key in keys:
            if key in table:
                table[key].refuse_itself()
        new = [make(key) for key in keys if key not in table]
        table.update({flight.key: flight for flight in new})
        self._memory.counts.misses += len(new)
        self._memory.counts.coalesced += len(keys) - len(new)
        return [table[key] for key in keys], new

    def _found(self, flights: list[F], found: Mapping[str, Entry]) -> list[F]:
        """Land the flights whose value is in the second tier; return the others."""
        for flight in flights:
            if (entry := found.get(str(flight.key))) is not None:
                with self._memory.lock:
                    self._memory.counts.misses -= 1
                    self._memory.counts.store_hits += 1
                    if self.flights.remove(flight):
                        self._memory.put(flight.key, entry)
                flight.land(entry)
        return [flight for flight in flights if not flight.landed]

    def _computed(
        self, flights: list[F], entries: Sequence[Entry], start: float
    ) -> dict[str, Entry]:
        """Keep the values in memory and land the errors; return what the second tier is to keep."""
        if len(entries) != len(flights):
            raise ValueError(
                f"{len(flights)} values were to be computed, and {len(entries)} came back: "
                "return one for each key, in the order of the keys"
            )
        cost = self._memory.now() - start
        kept = {}
        for flight, entry in zip(flights, entries, strict=True):
            if entry.failed:
                self._fail(flight, entry.value)
            elif not is_no_value(entry.value) and self._keep(flight, entry, cost):
                kept[str(flight.key)] = entry
        return kept

    def _keep(self, flight: F, entry: Entry, cost: float) -> bool:
        """Put a value in memory, unless the key was set or invalidated since it took off."""
        entry.cost = cost
        with self._memory.lock:
            current = self.flights.is_current(flight)
            if current:
                self._memory.keep(flight.key, entry)
            return current

    def _land(self, flights: Sequence[F], entries: Sequence[Entry]) -> None:
        """Give the values to those who wait; errors have landed.

        Raises:
            BaseException: What stands in the place of a value, and is no `Exception`.
        """
        stop: BaseException | None = None
        for flight, entry in zip(flights, entries, strict=True):
            if is_no_value(entry.value):
                stop = stop or entry.value
                continue
            with self._memory.lock:  # before anybody wakes who may ask again
                self.flights.remove(flight)
            flight.land(entry)
        if stop is not None:
            raise stop

    def _fail(self, flight: F, error: Exception) -> None:
        if flight.landed:
            return
        entry = Entry(error, failed=True)
        memory = self._memory
        with memory.lock:
            memory.counts.errors += 1
            current = self.flights.remove(flight)
            if current and memory.expiry.negative_ttl and not memory.has(flight.key):
                memory.keep(flight.key, entry)
        flight.land(entry)

    def _give_up(self, flights: Iterable[F], entry: Entry | None = None) -> None:
        """Let nobody wait for what will not come; no effect on what has landed.

        Args:
            flights: What was to be computed.
            entry: What is raised in those who wait; by default they are told that it was given up.
        """
        for flight in flights:
            with self._memory.lock:
                self.flights.remove(flight)
            flight.land(entry)


class Work:
    """The task that computes the values of one or more flights.

    Attributes:
        task: The task, while it runs.
        wanted: Flights that somebody still waits for.
    """

    __slots__ = ("task", "wanted")

    def __init__(self) -> None:
        self.task: asyncio.Task[None] | None = None
        self.wanted = 0

    def enter(self) -> None:
        """Mark the running context, and all that is started in it, as part of this work."""
        _inside.set(_inside.get() | {self})


class TaskFlight(Flight):
    """A flight whose waiters are tasks of one event loop.

    Args:
        key: What the value is kept under.
        work: What computes it.

    Attributes:
        loop: The running event loop.
        waiters: How many wait; an early refresh counts as one that never leaves.
    """

    __slots__ = ("_futures", "waiters", "work")
    loop: asyncio.AbstractEventLoop

    def __init__(self, key: Hashable, work: Work) -> None:
        super().__init__(key, asyncio.get_running_loop())
        self.work = work
        self.waiters = 0
        self._futures: dict[asyncio.Future[None], None] = {}  # in the order they came
        work.wanted += 1

    def is_own(self) -> bool:
        """Return whether whoever asks is part of the computation."""
        return self.work in _inside.get()

    async def wait(self) -> Entry:
        """Wait for the end; return the value or the error.

        Raises:
            asyncio.CancelledError: The caller was cancelled, or the computation was.
        """
        if not self.landed:
            future: asyncio.Future[None] = self.loop.create_future()  # each their own: it is
            self._futures[future] = None  # cancelled with its caller
            try:
                await future
            finally:
                self._futures.pop(future, None)
        if self.entry is None:
            raise asyncio.CancelledError
        return self.entry

    def land(self, entry: Entry | None) -> None:
        """Give the end to everybody who waits. What has landed stays as it is."""
        self.work.wanted -= not self.landed
        super().land(entry)

    def wake(self) -> None:
        """Let those go on who wait; their loop may be gone."""
        if not self.loop.is_closed():
            for future in self._futures:
                if not future.done():
                    future.set_result(None)

    def abandon(self) -> None:
        """Stop the work, unless it computes something else that is wanted, or its loop is gone."""
        self.land(None)
        if not self.work.wanted and self.work.task is not None and not self.loop.is_closed():
            self.work.task.cancel()


class TaskSingleFlight(SingleFlight[TaskFlight]):
    """Finds out values for tasks: waits for who computes them, or has them computed.

    The computation is a task of its own, in a copy of the context of whoever came first. It goes on
    as long as anybody waits for one of its values; when nobody does any more, it is cancelled. What
    it returns although it was cancelled is not kept: whoever cancels wants no result.

    Args:
        memory: The first tier.
        tier: The second, if there is one.
    """

    def __init__(self, memory: Memory, tier: Tier | None) -> None:
        super().__init__(memory, tier)
        self._refreshing: set[asyncio.Task[None]] = set()  # a loop holds its tasks weakly

    async def join(self, keys: Sequence[Hashable], compute: AsyncCompute) -> list[Entry]:
        """Return what becomes of each key; `keys` are distinct, and were not found in memory.

        Raises:
            asyncio.CancelledError: The caller was cancelled, or the computation was.
            RuntimeError: A computation asks for its own result.
        """
        loop = asyncio.get_running_loop()
        with self._memory.lock:
            flights, new = self._board(
                keys, self.flights.of(loop), partial(TaskFlight, work=Work())
            )
            for flight in flights:
                flight.waiters += 1
        try:
            if new:
                self._start(new, compute, self._tier)
            return [await flight.wait() for flight in flights]
        finally:
            self._leave(flights)

    def refresh(self, key: Hashable, compute: AsyncCompute) -> None:
        """Begin to compute a value anew that is still good; nobody waits for it."""
        with self._memory.lock:
            table = self.flights.of(asyncio.get_running_loop())
            if key in table:
                return
            flight = table[key] = TaskFlight(key, Work())
            flight.waiters = 1  # which never leaves
            self._memory.counts.refreshes += 1
        task = self._start([flight], compute, None)
        self._refreshing.add(task)
        task.add_done_callback(self._refreshing.discard)

    def _leave(self, flights: list[TaskFlight]) -> None:
        with self._memory.lock:
            for flight in flights:
                flight.waiters -= 1
                if not flight.waiters and not flight.landed:
                    self.flights.remove(flight)
                    flight.abandon()

    def _start(
        self,
        flights: list[TaskFlight],
        compute: AsyncCompute,
        asked: Tier | None,
    ) -> asyncio.Task[None]:
        work = flights[0].work
        work.task = task = flights[0].loop.create_task(self._fly(flights, compute, asked))
        task.add_done_callback(partial(self._end, flights))
        return task

    async def _fly(
        self,
        flights: list[TaskFlight],
        compute: AsyncCompute,
        asked: Tier | None,
    ) -> None:
        flights[0].work.enter()
        try:
            if asked is not None:
                flights = self._found(flights, await asked.read([str(f.key) for f in flights]))
            if not flights:
                return
            start = self._memory.now()
            entries = await compute([flight.key for flight in flights])
            _refuse_cancelled()
            kept = self._computed(flights, entries, start)
            if self._tier is not None:
                await self._tier.write(kept)
            self._land(flights, entries)
        except Exception as error:  # noqa: BLE001 - it is raised where it is waited for
            for flight in flights:
                self._fail(flight, error)
        except (asyncio.CancelledError, KeyboardInterrupt, SystemExit):
            raise  # the loop itself raises the last two
        except BaseException as stop:  # noqa: BLE001 - as above, but it is no error to be kept
            self._give_up(flights, Entry(stop, failed=True))

    def _end(self, flights: list[TaskFlight], task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            task.exception()  # has been raised by the loop
        flights[0].work.task = None  # whose context holds the work: a circle, left to the collector
        self._give_up(flights)  # the task may have been cancelled by others


class ThreadFlight(Flight):
    """A flight whose waiters are threads; the one that made it computes the value.

    Args:
        key: What the value is kept under.
    """

    __slots__ = ("_landing", "_thread")

    def __init__(self, key: Hashable) -> None:
        super().__init__(key, None)
        self._thread = threading.get_ident()
        self._landing = threading.Event()

    def is_own(self) -> bool:
        """Return whether whoever asks is part of the computation."""
        return self._thread == threading.get_ident()

    def wait(self) -> Entry | None:
        """Wait for the end; return the value or the error, or None if there is none."""
        self._landing.wait()
        return self.entry

    def wake(self) -> None:
        """Let those go on who wait."""
        self._landing.set()


class ThreadSingleFlight(SingleFlight[ThreadFlight]):
    """Finds out values for threads: the first one computes a value, the others wait for it.

    Unlike a task, a thread cannot be cancelled, and computes for itself. If it is interrupted,
    those who wait take over.
    """

    def join(self, keys: Sequence[Hashable], compute: Compute) -> list[Entry]:
        """Return what becomes of each key; `keys` are distinct, and were not found in memory.

        Raises:
            RuntimeError: A computation asks for its own result.
            BaseException: The thread was interrupted.
        """
        with self._memory.lock:
            flights, new = self._board(keys, self.flights.of(None), ThreadFlight)
        if new:
            self._lead(new, compute)  # before it waits for others, who may wait for it
        return [flight.wait() or self.join([flight.key], compute)[0] for flight in flights]

    def _lead(self, flights: list[ThreadFlight], compute: Compute) -> None:
        try:
            self._look_up(flights, compute)
        except Exception as error:  # noqa: BLE001 - it is raised by whoever gets it
            for flight in flights:
                self._fail(flight, error)
        finally:
            self._give_up(flights)  # when the thread was interrupted

    def _look_up(self, flights: list[ThreadFlight], compute: Compute) -> None:
        if self._tier is not None:
            flights = self._found(flights, self._tier.read_sync([str(f.key) for f in flights]))
        if not flights:
            return
        start = self._memory.now()
        entries = compute([flight.key for flight in flights])
        kept = self._computed(flights, entries, start)
        if self._tier is not None:
            self._tier.write_sync(kept)
        self._land(flights, entries)


def is_no_value(value: Any) -> bool:
    """Return whether this is no value, nor an error: a cancellation, an interruption.

    Batches of others hand them out in the place of values.
    """
    return isinstance(value, BaseException) and not isinstance(value, Exception)


def _refuse_cancelled() -> None:
    """Raise CancelledError if the running task has been cancelled, and went on all the same."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def _is_gone(loop: asyncio.AbstractEventLoop | None) -> bool:
    return loop is not None and loop.is_closed()
