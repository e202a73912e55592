"""Exercise 4.3, one computation, whoever leaves: typical answers and what they are told."""

import asyncio
import functools
import gc

import pytest
from exercise_support import card

from course_lib.caching import AsyncCache


class SingleFlight:
    def __init__(self):
        self.flights = {}

    async def run(self, key, compute):
        if key not in self.flights:
            self.flights[key] = task = asyncio.create_task(compute())
            task.add_done_callback(lambda _: self.flights.pop(key))
        return await asyncio.shield(self.flights[key])


class Counted:
    """Stops the work when nobody waits any more."""

    def __init__(self):
        self.flights = {}

    async def run(self, key, compute):
        if key not in self.flights:
            self.flights[key] = [asyncio.ensure_future(compute()), 0]
        flight = self.flights[key]
        flight[1] += 1
        try:
            return await asyncio.shield(flight[0])
        finally:
            flight[1] -= 1
            if flight[0].done() or not flight[1]:
                flight[0].cancel()
                if self.flights.get(key) is flight:
                    del self.flights[key]


class LibrarysFlight:
    def __init__(self):
        self.cache = AsyncCache(ttl=1e-9, maxsize=1)

    async def run(self, key, compute):
        return await self.cache.get_or_compute(key, compute)


class Alone:
    async def run(self, key, compute):
        return await compute()


class Locked(SingleFlight):
    async def run(self, key, compute):
        async with self.flights.setdefault(key, asyncio.Lock()):
            return await compute()


class InlineLeader(SingleFlight):
    async def run(self, key, compute):
        if key in self.flights:
            return await asyncio.shield(self.flights[key])
        self.flights[key] = asyncio.get_running_loop().create_future()
        try:
            self.flights[key].set_result(await compute())
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError):
                self.flights[key].cancel()
            else:
                self.flights[key].set_exception(error)
            raise
        finally:
            future = self.flights.pop(key)
        return future.result()


class SilentLeader(SingleFlight):
    async def run(self, key, compute):
        if key in self.flights:
            return await asyncio.shield(self.flights[key])
        self.flights[key] = asyncio.get_running_loop().create_future()
        value = await compute()
        self.flights[key].set_result(value)
        del self.flights[key]
        return value


class Unshielded(SingleFlight):
    async def run(self, key, compute):
        if key not in self.flights:
            self.flights[key] = task = asyncio.create_task(compute())
            task.add_done_callback(lambda _: self.flights.pop(key))
        return await self.flights[key]


class Restarts(SingleFlight):
    async def run(self, key, compute):
        while True:
            if key not in self.flights:
                self.flights[key] = task = asyncio.create_task(compute())
                task.add_done_callback(functools.partial(self.forget, key))
            task = self.flights[key]
            try:
                return await task
            except asyncio.CancelledError:
                if asyncio.current_task().cancelling():
                    raise

    def forget(self, key, task):
        if self.flights.get(key) is task:
            del self.flights[key]


class Stubborn(SingleFlight):
    async def run(self, key, compute):
        if key not in self.flights:
            self.flights[key] = task = asyncio.create_task(compute())
            task.add_done_callback(lambda _: self.flights.pop(key))
        task = self.flights[key]
        while not task.done():
            try:
                await asyncio.shield(task)
            except asyncio.CancelledError:
                continue
        return task.result()


class OneForAll(SingleFlight):
    async def run(self, key, compute):
        return await super().run("any", compute)


class KeepsAll(SingleFlight):
    async def run(self, key, compute):
        if key not in self.flights:
            self.flights[key] = asyncio.create_task(compute())
        return await asyncio.shield(self.flights[key])


class KeepsValues(SingleFlight):
    async def run(self, key, compute):
        if key not in self.flights:
            self.flights[key] = task = asyncio.create_task(compute())
            task.add_done_callback(lambda _: task.exception() and self.flights.pop(key))
        return await asyncio.shield(self.flights[key])


class NothingForFollowers(SingleFlight):
    async def run(self, key, compute):
        if key in self.flights:
            await asyncio.shield(self.flights[key])
            return None
        return await super().run(key, compute)


class ErrorForTheFirst(SingleFlight):
    async def run(self, key, compute):
        if key in self.flights:
            try:
                return await asyncio.shield(self.flights[key])
            except Exception:  # noqa: BLE001
                return None
        return await super().run(key, compute)


class Mistyped(SingleFlight):
    async def run(self, key, compute):
        return await asyncio.shield(self.flight[key])


WRONG = {
    Alone: "each caller computes for itself",
    Locked: "a lock makes them wait",
    InlineLeader: "behind `asyncio.shield`",
    SilentLeader: "wait for ever for a leader who has gone",
    Unshielded: "behind `asyncio.shield`",
    Restarts: "the others begin again",
    Stubborn: "let CancelledError pass",
    OneForAll: "two keys share one computation",
    KeepsAll: "an error is kept",
    KeepsValues: "what has ended is still handed out",
    NothingForFollowers: "every caller gets the value",
    ErrorForTheFirst: "an error belongs to everybody",
    Mistyped: "it raised AttributeError: 'Mistyped' object has no attribute 'flight'",
}

RIGHT = [SingleFlight, Counted, LibrarysFlight]


@pytest.fixture(autouse=True, scope="module")
def few_objects():
    """What is there already is not looked through at each check for what is left behind."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.parametrize("answer", RIGHT, ids=lambda answer: answer.__name__)
def test_a_right_single_flight_passes(answer):
    """Whatever way it is written."""
    result = card("4.3", answer)
    assert result.passed, result


@pytest.mark.parametrize(
    ("answer", "diagnosis"), WRONG.items(), ids=lambda value: getattr(value, "__name__", "")
)
def test_a_wrong_single_flight_is_told_what_is_wrong(answer, diagnosis):
    """The mistake is named, and nothing is raised."""
    result = card("4.3", answer)
    assert result.verdict == "not yet"
    assert diagnosis in result.diagnosis


def test_mistakes_of_a_single_flight_have_diagnoses_of_their_own():
    """A learner is told more than that it is wrong."""
    assert len({card("4.3", answer).diagnosis for answer in WRONG}) >= len(set(WRONG.values()))


def test_a_stub_of_a_single_flight_is_not_attempted_yet():
    """And is no error."""

    class Stub(SingleFlight):
        async def run(self, key, compute):
            raise NotImplementedError

    assert card("4.3", Stub).verdict == "not attempted yet"
