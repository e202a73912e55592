"""What batchers promise, whoever comes when, fails or gives up, in virtual time."""

import asyncio

from batches_support import Service
from batching_support import now, others
from hypothesis import given
from hypothesis import strategies as st

from course_lib.batching import BatcherClosed, MicroBatcher, PriorityBatchProcessor
from course_lib.lab.simulation import simulate

TENTHS = st.integers(0, 60).map(lambda n: n / 10)  # so that things often happen at one moment
CALLERS = st.lists(
    st.fixed_dictionaries(
        {
            "comes": TENTHS,
            "gives_up_after": st.one_of(st.none(), st.none(), TENTHS),
            "priority": st.integers(-2, 3),
            "bad": st.sampled_from([False, False, False, True]),
        }
    ),
    max_size=25,
)
EARLY = 1e-5  # seconds


class Watched(Service):
    """A service that takes a while for each item, and remembers who was answered."""

    def __init__(self, callers, seconds):
        bad = [number for number, caller in enumerate(callers) if caller["bad"]]
        super().__init__(seconds, bad)


async def call(submit, number, caller, log):
    """One caller: comes, waits, gives up perhaps."""
    await asyncio.sleep(caller["comes"])
    log.append(("came", now(), number))
    try:
        async with asyncio.timeout(caller["gives_up_after"]):
            return await submit(number, caller)
    except (TimeoutError, ValueError, BatcherClosed) as error:
        return type(error).__name__


def check_answers(callers, answers):
    """Everybody was answered, and by their own result."""
    for number, (caller, answer) in enumerate(zip(callers, answers, strict=True)):
        allowed = {"ValueError" if caller["bad"] else 2 * number}
        if caller["gives_up_after"] is not None:
            allowed.add("TimeoutError")
        assert answer in allowed


def check_order(callers, service, log, ageing):
    """No item went in a batch while one stood before it in the order."""
    came = {number: time for _, time, number in log}
    first_try = {}
    for time, batch in zip(service.times, service.batches, strict=True):
        for item in batch:
            first_try.setdefault(item, time)

    def rank(number):
        priority = callers[number]["priority"]
        return came[number] - ageing * priority if ageing else -priority

    for one, started in first_try.items():
        for other, later in first_try.items():
            if came[other] < started < later:
                assert rank(one) <= rank(other)


@given(
    callers=CALLERS,
    batch_size=st.integers(1, 6),
    concurrency=st.integers(1, 3),
    queue_size=st.integers(1, 30),
    seconds=st.sampled_from([0.0, 0.1, 0.7, 2.0]),
    ageing=st.sampled_from([None, 0.5, 30.0]),
)
def test_every_caller_is_answered_once_in_order_and_within_the_limits(
    *, callers, batch_size, concurrency, queue_size, seconds, ageing
):
    """Each gets its own result or its own error, and nothing is left running."""
    service, log = Watched(callers, seconds), []

    async def main():
        async with PriorityBatchProcessor(
            service,
            batch_size=batch_size,
            concurrency=concurrency,
            queue_size=queue_size,
            ageing=ageing,
        ) as processor:
            answers = await asyncio.gather(
                *(
                    call(lambda n, c: processor.submit(n, c["priority"]), number, caller, log)
                    for number, caller in enumerate(callers)
                )
            )
        assert others() == set()
        return answers, processor.statistics()

    answers, statistics = simulate(main).value
    check_answers(callers, answers)
    check_order(callers, service, log, ageing)
    assert service.peak <= concurrency
    assert all(1 <= len(batch) <= batch_size for batch in service.batches)
    assert statistics.waiting == statistics.running == 0
    counts = statistics.answered + statistics.failed + statistics.cancelled
    assert counts == len(callers)
    bad = sum(caller["bad"] for caller in callers)
    extra = 2 * (batch_size - 1).bit_length() * bad
    assert statistics.calls == len(service.batches) <= statistics.batches + extra


@given(
    callers=CALLERS,
    max_size=st.integers(1, 6),
    max_wait=st.sampled_from([0.0, 0.3, 5.0]),
    seconds=st.sampled_from([0.0, 0.1, 0.7]),
)
def test_every_call_is_answered_and_none_waits_longer_than_said(
    *, callers, max_size, max_wait, seconds
):
    """While a batch may start, no call has waited for more than `max_wait`, or for a full batch."""
    service, log = Watched(callers, seconds), []

    async def main():
        async with MicroBatcher(
            service, max_size=max_size, max_wait=max_wait, concurrency=30
        ) as batcher:
            answers = await asyncio.gather(
                *(
                    call(lambda n, _: batcher(n), number, caller, log)
                    for number, caller in enumerate(callers)
                )
            )
        assert others() == set()
        return answers

    check_answers(callers, simulate(main).value)
    came = {number: time for _, time, number in log}
    first_try = {}
    for time, batch in zip(service.times, service.batches, strict=True):
        for item in batch:
            first_try.setdefault(item, time)
    for item, time in first_try.items():
        assert time - came[item] <= max_wait + EARLY


@given(
    callers=CALLERS,
    leaves=TENTHS,
    fails=st.booleans(),
    on_exit=st.sampled_from(["drain", "cancel"]),
    batch_size=st.integers(1, 6),
    queue_size=st.integers(1, 30),
)
def test_whenever_the_block_is_left_everybody_is_told(
    *, callers, leaves, fails, on_exit, batch_size, queue_size
):
    """With a result, their own error, or that it was closed; late ones are refused."""
    service, log, tasks = Watched(callers, 0.7), [], []

    async def submit(processor, number, caller):
        try:
            return await processor.submit(number, caller["priority"])
        except RuntimeError as error:
            assert "not open" in str(error) or isinstance(error, BatcherClosed)  # noqa: PT017
            return "BatcherClosed"

    async def block():
        async with PriorityBatchProcessor(
            service, batch_size=batch_size, queue_size=queue_size, on_exit=on_exit
        ) as processor:
            tasks.extend(
                asyncio.ensure_future(
                    call(lambda n, c: submit(processor, n, c), number, caller, log)
                )
                for number, caller in enumerate(callers)
            )
            await asyncio.sleep(leaves)
            if fails:
                raise KeyError
        assert service.inside == 0

    async def main():
        try:
            await block()
        except KeyError:
            assert fails
        assert service.inside == 0
        return await asyncio.gather(*tasks)

    for number, (caller, answer) in enumerate(zip(callers, simulate(main).value, strict=True)):
        own = "ValueError" if caller["bad"] else 2 * number
        assert answer in {own, "TimeoutError", "BatcherClosed"}
        in_time = caller["comes"] < leaves and caller["gives_up_after"] is None
        assert answer == own or not (in_time and on_exit == "drain" and not fails)
