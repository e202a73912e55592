"""A Runnable behind a gate."""

import asyncio
import threading
from collections import Counter
from uuid import uuid4

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.runnables import RunnableGenerator, RunnableLambda

from course_lib.async_batch import as_runnable
from course_lib.errors import BadRequest, RateLimited, Unavailable
from course_lib.lab.simulation import simulate
from course_lib.rate_limiting import Gate, TokenBucket, limited


class Provider:
    """Answers after a second, except that some calls fail: by their number, from 1."""

    def __init__(self, failures=None, seconds=1.0):
        self.failures = failures or {}
        self.seconds = seconds
        self.calls = []  # (input, when)
        self.inside = self.peak = 0

    async def call(self, question):
        self.calls.append((question, asyncio.get_running_loop().time()))
        failure = self.failures.get(len(self.calls))
        self.inside += 1
        self.peak = max(self.peak, self.inside)
        try:
            await asyncio.sleep(0 if failure else self.seconds)
        finally:
            self.inside -= 1
        if failure:
            raise failure
        return question.upper()

    @property
    def times(self):
        return [time for _, time in self.calls]


class Runs(BaseCallbackHandler):
    """Notes what starts."""

    run_inline = True

    def __init__(self):
        self.started = []
        self.ids = []

    def on_chain_start(self, serialized, inputs, *, tags=None, metadata=None, **rest):
        self.ids.append(rest["run_id"])
        self.started.append((rest.get("name"), tags, metadata.get("user")))


def behind(provider, gate, **options):
    """The provider's Runnable behind a gate, without chance."""
    return limited(as_runnable(provider.call), gate, jitter=0, **options)


def test_every_item_of_a_batch_passes_the_gate():
    """In order, and no more at once than it lets in."""
    provider = Provider()
    runnable = behind(provider, Gate(concurrency=2))
    done = simulate(lambda: runnable.abatch(list("abcde")))
    assert (done.value, done.seconds) == (list("ABCDE"), 3)
    assert provider.peak == 2
    assert "".join(question for question, _ in provider.calls) == "abcde"


def test_one_gate_holds_for_several_batches_steps_and_nested_calls():
    """Where LangChain's own limits multiply; the whole chain may be behind the gate, too."""

    async def main():
        gate, provider = Gate(concurrency=3), Provider()
        step = behind(provider, gate)
        chain = limited(step | step, gate)
        await asyncio.gather(chain.abatch(list("abc")), step.abatch(list("defg")))
        return provider.peak, len(provider.calls)

    assert simulate(main).value == (3, 10)


def test_a_rejection_cools_everybody_down_and_is_tried_again_without_a_slot():
    """For as long as the provider said; then the one who was rejected goes first."""

    async def main():
        gate, provider = Gate(concurrency=1), Provider({1: RateLimited("429", retry_after=5)})
        runnable = behind(provider, gate)
        task = asyncio.create_task(runnable.abatch(["a", "b"]))
        await asyncio.sleep(1)
        inside = gate.statistics().inside
        return inside, await task, provider.calls

    inside, answers, calls = simulate(main).value
    assert (inside, answers) == (0, ["A", "B"])
    assert calls == [("a", 0), ("a", 5), ("b", 6)]


def test_rejections_are_counted_by_step():
    """Under the name given, or the Runnable's own."""

    async def main():
        gate = Gate(concurrency=9)
        search = behind(Provider({1: RateLimited("429")}), gate, name="search")
        other = behind(Provider({n: RateLimited("429") for n in (1, 2)}), gate)
        await asyncio.gather(search.ainvoke("a"), other.ainvoke("a"))
        return gate.statistics()

    statistics = simulate(main).value
    assert statistics.rejected_by_step == {"search": 1, "call": 2}
    assert statistics.rejected == 3


def test_after_the_last_attempt_the_error_is_raised():
    """As the provider gave it."""
    failure = RateLimited("429", retry_after=1)
    provider = Provider(dict.fromkeys(range(1, 10), failure))
    runnable = behind(provider, Gate(concurrency=1), attempts=3)
    with pytest.raises(RateLimited) as caught:
        simulate(lambda: runnable.ainvoke("a"))
    assert caught.value is failure
    assert provider.times == [0, 1, 2]


@pytest.mark.parametrize("error", [BadRequest("400"), Unavailable("503"), ValueError("no")])
def test_other_errors_are_not_tried_again(error):
    """Unless they are named."""
    provider = Provider({1: error})
    with pytest.raises(type(error)):
        simulate(lambda: behind(provider, Gate(concurrency=1)).ainvoke("a"))
    again = Provider({1: error})
    runnable = behind(again, Gate(concurrency=1), retry_on=(type(error),))
    assert simulate(lambda: runnable.ainvoke("a")).value == "A"


def test_without_a_word_from_the_provider_each_waits_longer_each_time():
    """Between nothing and 0.1, 0.2, 0.4 s: by chance, which can be repeated; nobody else waits."""

    def times(seed):
        failures = {n: RateLimited("429") for n in range(1, 5)}
        provider = Provider(failures, seconds=0)
        runnable = limited(as_runnable(provider.call), Gate(concurrency=1), seed=seed)
        simulate(lambda: runnable.ainvoke("a"))
        return provider.times

    waits = [after - before for before, after in zip(times(1), times(1)[1:], strict=False)]
    assert len(waits) == 4
    assert all(0 < wait < 0.1 * 2**n for n, wait in enumerate(waits))
    assert times(1) == times(1) != times(2)


def test_no_wait_is_longer_than_the_cap():
    """However often a call is made again: 5 s here, 10 s if nothing is said, or the first wait."""

    def longest(attempts, **options):
        provider = Provider(dict.fromkeys(range(1, attempts), RateLimited("429")), seconds=0)
        gate = Gate(concurrency=1)
        runnable = limited(as_runnable(provider.call), gate, attempts=attempts, seed=1, **options)
        simulate(lambda: runnable.ainvoke("a"))
        return max(b - a for a, b in zip(provider.times, provider.times[1:], strict=False))

    assert 4 < longest(60, backoff=1, longest_backoff=5) < 5
    assert 9 < longest(60, backoff=1) < 10
    assert 18 < longest(60, backoff=20) < 20


def test_a_cool_down_is_longer_by_a_random_share():
    """So that several processes do not come back in the same moment."""

    def back(seed):
        provider = Provider({1: RateLimited("429", retry_after=10)})
        runnable = limited(as_runnable(provider.call), Gate(concurrency=1), jitter=0.5, seed=seed)
        simulate(lambda: runnable.ainvoke("a"))
        return provider.times[1]

    assert 10 < back(1) < 15
    assert back(1) == back(1) != back(2)


def test_weight_and_priority_may_depend_on_the_input():
    """As tokens on the length of a prompt."""

    async def main():
        gate, provider = Gate(concurrency=9, bucket=TokenBucket(1, 10, initial=0)), Provider()
        runnable = behind(provider, gate, weight=len, priority=lambda question: question.isupper())
        await asyncio.gather(*(runnable.ainvoke(each) for each in ("aaaa", "bb", "CCC")))
        return provider.calls

    assert simulate(main).value == [("CCC", 3), ("aaaa", 7), ("bb", 9)]


def test_config_is_handed_on():
    """Callbacks, tags and metadata; and each attempt is a run of its own."""
    runs = Runs()
    runnable = behind(Provider({1: RateLimited("429")}), Gate(concurrency=1))
    first = uuid4()
    config = {"callbacks": [runs], "metadata": {"user": "u1"}, "tags": ["t"], "run_id": first}
    simulate(lambda: runnable.ainvoke("a", config))
    assert runs.started == [("call", ["t"], "u1"), ("call", ["retry:attempt:2", "t"], "u1")]
    assert runs.ids[0] == first != runs.ids[1]


async def speak(_):
    """Three words, a second apart."""
    for word in ("one", "two", "three"):
        yield word
        await asyncio.sleep(1)


async def listen(runnable, words=99):
    """Read a stream, or its first words; return what came when."""
    heard = []
    stream = runnable.astream("?")
    async for word in stream:
        heard.append((word, asyncio.get_running_loop().time()))
        if len(heard) == words:
            break
    await stream.aclose()
    return heard


def test_a_stream_holds_its_slot_until_it_ends():
    """And comes through word by word."""

    async def main():
        runnable = limited(RunnableGenerator(speak), Gate(concurrency=1))
        return await asyncio.gather(listen(runnable), listen(runnable))

    first, second = simulate(main).value
    assert first == [("one", 0), ("two", 1), ("three", 2)]
    assert second == [("one", 3), ("two", 4), ("three", 5)]


class Speaker:
    """Speaks without end, and notes in which task it was stopped."""

    def __init__(self):
        self.stopped = []

    async def words(self, inputs):
        """One word after another."""
        async for _ in inputs:
            try:
                while True:
                    yield "word"
            finally:
                self.stopped.append(asyncio.current_task())

    def sync_words(self, inputs):
        """The same, for threads."""
        for _ in inputs:
            try:
                while True:
                    yield "word"
            finally:
                self.stopped.append(threading.current_thread())


async def once(value):
    """A stream of one input."""
    yield value


@pytest.mark.parametrize(
    "begin",
    [
        lambda step, gate: limited(step, gate).astream("?"),
        lambda step, gate: limited(limited(step, gate), gate).astream("?"),
        lambda step, gate: limited(step, gate).atransform(once("?")),
    ],
    ids=["astream", "nested", "atransform"],
)
def test_a_stream_that_is_closed_early_is_closed_below_at_once(begin):
    """When `aclose` returns, what it wraps has cleaned up, in the same task, and the slot is free."""

    async def main():
        gate, speaker = Gate(concurrency=1), Speaker()
        stream = begin(RunnableGenerator(speaker.words), gate)
        heard = await anext(stream)
        await stream.aclose()
        return heard, gate.statistics().inside, speaker.stopped == [asyncio.current_task()]

    assert simulate(main).value == ("word", 0, True)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda step, gate: RunnableLambda(str.strip, afunc=same) | limited(step, gate),
        lambda step, gate: limited(RunnableLambda(str.strip, afunc=same) | step, gate),
    ],
    ids=["at the end of a chain", "around a chain"],
)
def test_a_chain_that_is_closed_early_gives_its_slot_back_by_itself(wrap):
    """LangChain's own chains leave what they wrap to the loop, which closes it in a moment."""

    async def main():
        gate, speaker = Gate(concurrency=1), Speaker()
        stream = wrap(RunnableGenerator(speaker.words), gate).astream("?")
        await anext(stream)
        await stream.aclose()
        await asyncio.sleep(0.001)
        return gate.statistics().inside, len(speaker.stopped)

    assert simulate(main).value == (0, 1)


async def same(value):
    """Hand on what comes."""
    return value


def test_a_sync_stream_that_is_closed_early_is_closed_below_at_once():
    """In a chain, too."""
    gate, speaker = Gate(concurrency=1), Speaker()
    chain = RunnableLambda(str.strip) | limited(RunnableGenerator(speaker.sync_words), gate)
    stream = chain.stream("?")
    assert next(stream) == "word"
    stream.close()
    assert speaker.stopped == [threading.current_thread()]
    assert gate.statistics().inside == 0


def test_a_stream_of_chunks_takes_its_whole_input():
    """As LangChain does it: what adds up is added, of the rest the last one counts."""

    async def transform(*chunks):
        async def pieces():
            for chunk in chunks:
                yield chunk

        async def echo(inputs):
            async for whole in inputs:
                yield whole

        runnable = limited(RunnableGenerator(echo), Gate(concurrency=1))
        return [each async for each in runnable.atransform(pieces())]

    assert simulate(lambda: transform("a", "b", "c")).value == ["abc"]
    assert simulate(lambda: transform({"a": 1}, {"b": 2})).value == [{"b": 2}]
    assert simulate(transform).value == []


def test_a_stream_is_tried_again_only_while_nothing_of_it_has_come():
    """Otherwise its beginning would be said twice."""
    tries = Counter()

    async def flaky(_, fail_at):
        tries[fail_at] += 1
        for n in range(3):
            if n == fail_at and tries[fail_at] == 1:
                raise RateLimited("429", retry_after=2)
            yield n

    def stream(fail_at):
        async def generate(inputs):
            async for chunk in flaky(inputs, fail_at):
                yield chunk

        return limited(RunnableGenerator(generate), Gate(concurrency=1), jitter=0)

    assert simulate(lambda: listen(stream(0))).value == [(0, 2), (1, 2), (2, 2)]
    with pytest.raises(RateLimited):
        simulate(lambda: listen(stream(1)))
    assert tries == {0: 2, 1: 1}


def test_a_chain_that_streams_passes_the_gate():
    """Through `transform`, which a sequence calls, and in the events of `astream_events`."""

    async def main():
        gate = Gate(concurrency=1)
        chain = RunnableLambda(str.strip, afunc=Provider(seconds=0).call) | limited(
            RunnableGenerator(speak), gate
        )
        words = [chunk async for chunk in chain.astream("?")]
        events = [event["event"] async for event in chain.astream_events("?", version="v2")]
        return words, events.count("on_chain_stream") > 3, gate.statistics().admitted

    assert simulate(main).value == (["one", "two", "three"], True, 2)


def test_who_is_cancelled_leaves_nothing_behind():
    """In line, inside, cooling down or waiting between two attempts."""

    async def main():
        gate = Gate(concurrency=2)
        failures = {1: RateLimited("429"), 2: RateLimited("429", retry_after=9)}
        runnable = behind(Provider(failures, seconds=50), gate, backoff=100)
        tasks = [asyncio.create_task(runnable.ainvoke("a")) for _ in range(6)]
        for task in tasks:
            await asyncio.sleep(3)
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return gate.statistics().inside, gate.statistics().waiting, len(tasks)

    assert simulate(main).value == (0, 0, 6)


def test_threads_pass_the_gate_too():
    """`batch` calls `invoke` in threads: no more at once than it lets in."""
    lock, inside, peak, rejected = threading.Lock(), 0, 0, []

    def call(question):
        nonlocal inside, peak
        with lock:
            inside += 1
            peak = max(peak, inside)
            reject = question == "c" and not rejected
            if reject:
                rejected.append(question)
        threading.Event().wait(0.002)
        with lock:
            inside -= 1
        if reject:
            raise RateLimited("429", retry_after=0.01)
        return question.upper()

    gate = Gate(concurrency=2, bucket=TokenBucket(1000, 3))
    runnable = limited(RunnableLambda(call), gate)
    config = {"max_concurrency": 6}
    assert runnable.batch(list("abcdefgh"), config) == list("ABCDEFGH")
    assert "".join(runnable.stream("x")) == "X"
    assert peak <= 2
    assert gate.statistics().rejected == 1
    assert (gate.statistics().inside, gate.statistics().admitted) == (0, 10)


def test_without_a_sync_side_it_says_so():
    """The Runnable's own refusal comes through, and no slot is lost."""
    gate = Gate(concurrency=1)
    with pytest.raises(TypeError, match="no sync implementation"):
        behind(Provider(), gate).invoke("a")
    assert gate.statistics().inside == 0


def test_it_has_a_name_of_its_own_and_shows_what_it_wraps():
    """Types and schemas are the Runnable's: `tests/contracts/test_runnables.py`."""
    inner = RunnableLambda(str)
    outer = limited(inner, Gate(concurrency=3), name="twice")
    assert (outer.get_name(), limited(inner, Gate(concurrency=3)).get_name()) == ("twice", "str")
    assert repr(outer).startswith("limited(RunnableLambda(")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"attempts": 0}, "attempts=0: give a whole number, 1 or above"),
        ({"attempts": 1.5}, "attempts=1.5"),
        ({"backoff": 0}, "backoff=0"),
        ({"backoff": 1, "longest_backoff": 0.5}, "longest_backoff=0.5: give a finite number, 1 or"),
        ({"longest_backoff": float("inf")}, "longest_backoff=inf"),
        ({"jitter": 2}, "jitter=2: give a share from 0 to 1"),
        ({"weight": 3}, "weight=3: give more than 0 and at most capacity=2"),
        ({"priority": -1}, "priority=-1"),
    ],
)
def test_impossible_options_are_refused_at_once(options, message):
    """Before any call is made."""
    gate = Gate(concurrency=1, bucket=TokenBucket(1, 2))
    with pytest.raises(ValueError, match=message):
        limited(RunnableLambda(str), gate, **options)


def test_what_is_no_runnable_is_refused():
    """With what to do."""
    with pytest.raises(TypeError, match="is no Runnable: wrap it"):
        limited(str, Gate(concurrency=1))
