"""Every wrapper beside a plain `RunnableLambda`: whatever LangChain does with one, it does with the other.

Each expectation is a use that LangChain makes of a Runnable. It is done with a wrapper and with a plain
lambda of the same function; what comes of it, and what a handler sees, has to be the same.
"""

import asyncio
from collections import Counter
from contextlib import asynccontextmanager, nullcontext

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.runnables import (
    ConfigurableField,
    Runnable,
    RunnableConfig,
    RunnableLambda,
    RunnableParallel,
    RunnablePassthrough,
)

from course_lib.async_batch import as_runnable
from course_lib.batching import MicroBatcher
from course_lib.caching import AsyncCache, cached
from course_lib.rag import RagAnswer, RagPipeline
from course_lib.rate_limiting import Gate, limited

pytestmark = [
    pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning"),
    pytest.mark.filterwarnings("ignore:astream_log is deprecated"),
]


class Events(BaseCallbackHandler):
    """Writes down what it is told, with the names of runs in place of their ids."""

    run_inline = True

    def __init__(self):
        self.seen, self.names = [], {}

    def on_chain_start(self, serialized, inputs, *, run_id, parent_run_id=None, **told):
        self.names[run_id] = told.get("name")
        around, given = self.names.get(parent_run_id), (plainly(inputs), told.get("tags"))
        self.seen.append(("start", told.get("name"), around, *given, told.get("metadata")))

    def on_chain_end(self, outputs, *, run_id, **_):
        self.seen.append(("end", self.names[run_id], plainly(outputs)))

    def on_chain_error(self, error, *, run_id, **_):
        self.seen.append(("error", self.names[run_id], repr(error)))


def plainly(value):
    """A value without what differs from run to run: an answer has its times."""
    if isinstance(value, tuple):
        return tuple(map(plainly, value))
    return value.text if isinstance(value, RagAnswer) else value


def shouting():
    """A function that fails for what begins with "bad", and the first time for "flaky"."""
    asked = Counter()

    async def shout(text: str) -> str:
        """Say it loudly."""
        await asyncio.sleep(0)
        asked[text] += 1
        if text.startswith("bad") or (text.startswith("flaky") and asked[text] == 1):
            raise ValueError(text)
        return text.upper()

    return shout


def cache():
    return AsyncCache(ttl=60, maxsize=10)


@asynccontextmanager
async def batching():
    """A batcher of a typed function."""
    shout = shouting()

    async def shout_all(texts: list[str]) -> list[str]:
        return await asyncio.gather(*map(shout, texts), return_exceptions=True)

    async with MicroBatcher(shout_all, max_size=4, name="shout") as batcher:
        yield batcher


class Whole(Runnable[str, str]):
    """A plain Runnable that is no lambda: it takes its input whole, and has no pieces."""

    def __init__(self):
        self.name, self._shout = "shout", shouting()

    async def ainvoke(self, input, config=None, **_):  # noqa: A002 - LangChain's name
        return await self._acall_with_config(self._shout, input, config)

    def invoke(self, input, config=None, **_):  # noqa: A002 - LangChain's name
        raise NotImplementedError


MAKERS = {
    "as_runnable": lambda: nullcontext(as_runnable(shouting())),
    "limited": lambda: nullcontext(limited(RunnableLambda(shouting()), Gate(concurrency=9))),
    "cached": lambda: nullcontext(cached(RunnableLambda(shouting()), cache())),
    "all three": lambda: nullcontext(
        cached(limited(as_runnable(shouting()), Gate(concurrency=9)), cache())
    ),
    "MicroBatcher": batching,
}


async def last(value):
    """What follows in a chain."""
    return value, "then"


# --- expectations: what is done with a step, given a config -------------------------------------


async def types(step, _):
    return step.InputType, step.OutputType, step.get_name()


async def schemas(step, _):
    return (
        step.get_input_jsonschema(),
        step.get_output_jsonschema(),
        step.config_schema(include=["tags"]).model_json_schema(),
        step.config_specs,
    )


async def graph(step, _):
    drawn = [each.get_graph().draw_mermaid() for each in (step, step | last)]
    return drawn, [node.name for node in step.get_graph().nodes.values()]


async def calls(step, config):
    return (
        await step.ainvoke("a", config),
        sorted(await step.abatch(["b", "c", "d"], config)),
        [piece async for piece in step.astream("e", config)],
        sorted([pair async for pair in step.abatch_as_completed(["f", "g"], config)]),
    )


async def one_bad_in_a_batch(step, config):
    answers = await step.abatch(["bad", "b"], config, return_exceptions=True)
    with pytest.raises(ValueError, match="bad"):
        await step.abatch(["bad2"], config)
    return [repr(answer) for answer in answers]


async def chain(step, config):
    steps = RunnablePassthrough() | step | last
    return await steps.ainvoke("a", config), await steps.abatch(["b", "c"], config)


async def parallel(step, config):
    both = RunnableParallel(one=step, other=RunnablePassthrough())
    assigned = RunnablePassthrough.assign(loud=(lambda given: given["text"]) | step)
    return (
        await both.ainvoke("a", config),
        await both.pick("one").ainvoke("b", config),
        await assigned.ainvoke({"text": "c"}, config),
        await step.map().ainvoke(["d", "e"], config),
    )


async def with_config(step, config):
    own = step.with_config(tags=["own"], metadata={"m": 1}, run_name="renamed")
    return await own.ainvoke("a", config), await own.with_config(tags=["x"]).ainvoke("b", config)


async def with_types(step, config):
    typed = step.with_types(input_type=int)
    return typed.InputType, await typed.ainvoke("a", config)


async def with_fallbacks(step, config):
    good = step.with_fallbacks([RunnableLambda(last)])
    return await good.ainvoke("bad", config), await good.abatch(["a", "bad"], config)


async def as_a_fallback(step, config):
    async def fails(_):
        raise OSError("down")

    return await RunnableLambda(fails).with_fallbacks([step]).ainvoke("a", config)


async def with_retry(step, config):
    again = step.with_retry(wait_exponential_jitter=False, stop_after_attempt=2)
    with pytest.raises(ValueError, match="bad"):
        await again.ainvoke("bad", config)
    return await again.ainvoke("flaky", config), await again.abatch(["a", "flaky 2"], config)


async def with_listeners(step, config):
    heard = []
    told = {f"on_{when}": lambda run, _: heard.append(run.name) for when in ("start", "end")}
    return await step.with_listeners(**told).ainvoke("a", config), heard


async def with_alisteners(step, config):
    heard = []

    async def hear(run, _):
        heard.append(run.name)

    return await step.with_alisteners(on_start=hear, on_end=hear).ainvoke("a", config), heard


async def transform(step, config):
    async def pieces():
        for piece in "abc":
            yield piece

    return [piece async for piece in step.atransform(pieces(), config)]


async def astream_events(step, config):
    return [
        (event["event"], event["name"], event["tags"], event["metadata"], event["data"])
        async for event in (step | last).astream_events("a", config, version="v2")
    ]


async def astream_log(step, config):
    state = None
    async for patch in (step | last).astream_log("a", config):
        state = patch if state is None else state + patch
    logs = state.state["logs"]
    return (
        state.state["final_output"],
        state.state["streamed_output"],
        {name: (log["tags"], log["final_output"]) for name, log in logs.items()},
    )


async def as_tool(step, config):
    tool = step.as_tool(description="Shouts.")
    return tool.name, tool.args, await tool.ainvoke("a", config)


async def as_described_tool(step, _):
    return step.as_tool().description


EXPECTATIONS = (
    types,
    schemas,
    graph,
    calls,
    one_bad_in_a_batch,
    chain,
    parallel,
    with_config,
    with_types,
    with_fallbacks,
    as_a_fallback,
    with_retry,
    with_listeners,
    with_alisteners,
    transform,
    astream_events,
    astream_log,
    as_tool,
    as_described_tool,
)


async def outcome(make, expectation, *, watched):
    """What comes of an expectation, and what a handler saw, in no order: batches run at once."""
    events = Events()
    config = {"tags": ["given"], **({"callbacks": [events]} if watched else {})}
    async with make() as step:
        return await expectation(step, config), sorted(map(repr, events.seen))


@pytest.mark.parametrize("watched", [False, True], ids=["unwatched", "watched"])
@pytest.mark.parametrize("expectation", EXPECTATIONS, ids=lambda each: each.__name__)
@pytest.mark.parametrize("kind", MAKERS)
def test_a_wrapper_is_as_a_plain_lambda(kind, expectation, watched):
    """Results, errors, schemas and events are the same, whether a handler is there or not."""

    def plain():
        return nullcontext(
            Whole() if kind == "MicroBatcher" else RunnableLambda(shouting(), name="shout")
        )

    ours = asyncio.run(outcome(MAKERS[kind], expectation, watched=watched))
    theirs = asyncio.run(outcome(plain, expectation, watched=watched))
    assert ours == theirs


WRAPPERS = {
    "as_runnable": as_runnable,
    "limited": lambda function: limited(RunnableLambda(function), Gate(concurrency=9)),
    "cached": lambda function: cached(RunnableLambda(function), cache()),
}


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
def test_arguments_can_be_bound(wrap):
    """They reach the function, and what is bound later counts."""

    async def scale(number: int, by: int = 2) -> int:
        return number * by

    async def main(step):
        return (
            await step.bind(by=5).ainvoke(3),
            await step.bind(by=5).bind(by=7).abatch([1, 2]),
            await (step.bind(by=9) | last).ainvoke(1),
        )

    assert asyncio.run(main(wrap(scale))) == asyncio.run(main(RunnableLambda(scale)))


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
def test_a_function_that_asks_for_its_config_gets_it(wrap):
    """With all that was bound and given, the configurable fields included."""

    async def tell(_, config: RunnableConfig):
        return config["tags"], config["metadata"], config["configurable"]

    async def main(step):
        own = step.with_config(tags=["own"], configurable={"tenant": "A"})
        return await own.ainvoke("x"), await own.ainvoke("x", {"configurable": {"tenant": "B"}})

    assert asyncio.run(main(wrap(tell))) == asyncio.run(main(RunnableLambda(tell)))


class Model(RunnablePassthrough):
    """A Runnable with a field that can be configured."""

    suffix: str = "!"

    def invoke(self, input, config=None, **_):  # noqa: A002 - LangChain's name
        return input + self.suffix

    async def ainvoke(self, input, config=None, **_):  # noqa: A002 - LangChain's name
        return input + self.suffix


@pytest.mark.parametrize(
    "wrap",
    [
        lambda model: limited(model, Gate(concurrency=1)),
        lambda model: cached(model, cache()),
    ],
    ids=["limited", "cached"],
)
def test_configurable_fields_and_alternatives_stay_configurable(wrap):
    """They are listed, stand in the config's schema, and change the answer."""
    suffix = ConfigurableField(id="suffix", name="Suffix", description="What follows.")
    plain = (
        Model()
        .configurable_fields(suffix=suffix)
        .configurable_alternatives(ConfigurableField(id="model"), other=Model(suffix="?"))
    )
    ours = wrap(plain)

    async def main(step):
        configs = [{}, {"suffix": "."}, {"model": "other"}]
        return [
            [await step.ainvoke("a", {"configurable": each}) for each in configs],
            [step.invoke("b", {"configurable": each}) for each in configs],
            await step.with_config(configurable={"suffix": ";"}).ainvoke("c"),
        ]

    assert ours.config_specs == plain.config_specs
    assert ours.config_schema().model_json_schema() == plain.config_schema().model_json_schema()
    assert asyncio.run(main(ours)) == asyncio.run(main(plain))


SYNC = {
    "as_runnable": lambda: as_runnable(shouting(), func=whisper, name="whisper"),
    "limited": lambda: limited(RunnableLambda(whisper), Gate(concurrency=9)),
    "cached": lambda: cached(RunnableLambda(whisper), cache()),
}


def whisper(text: str) -> str:
    """Say it softly."""
    if text == "bad":
        raise ValueError(text)
    return text.lower()


@pytest.mark.parametrize("watched", [False, True], ids=["unwatched", "watched"])
@pytest.mark.parametrize("kind", SYNC)
def test_the_sync_side_is_as_a_plain_lambdas(kind, watched):
    """Calls, batches, streams, fallbacks, retries and tools, and what a handler sees of them."""

    def told(step):
        events = Events()
        config = {"callbacks": [events]} if watched else {}
        return (
            step.invoke("A", config),
            step.batch(["B", "C"], config),
            list(step.stream("D", config)),
            sorted(step.batch_as_completed(["E", "F"], config)),
            list(map(repr, step.batch(["bad", "G"], config, return_exceptions=True))),
            (step | str.upper).invoke("H", config),
            step.with_fallbacks([RunnableLambda(str.title)]).invoke("bad", config),
            step.with_retry(wait_exponential_jitter=False).invoke("I", config),
            step.with_config(run_name="renamed").invoke("J", config),
            step.as_tool(description="Whispers.").invoke("K", config),
            list(step.transform(iter("LMN"), config)),
            sorted(map(repr, events.seen)),
        )

    assert told(SYNC[kind]()) == told(RunnableLambda(whisper))


# --- the whole pipeline ---------------------------------------------------------------------------


@pytest.fixture
def pipelines(provider):
    """Makes a pipeline, and a plain lambda of it, both open."""

    @asynccontextmanager
    async def ours():
        async with RagPipeline(provider.url, chat="lean") as pipeline:
            yield pipeline

    @asynccontextmanager
    async def plain():
        async with RagPipeline(provider.url, chat="lean") as pipeline:
            hidden = [pipeline.high_performance_rag]  # a lambda looks for Runnables in its function

            async def ask(query: str) -> RagAnswer:
                return await hidden[0](query)

            yield RunnableLambda(ask, name="RagPipeline")

    return ours, plain


QUESTION = "What does Little's law say?"


async def answered(step, config):
    async def fails(_):
        raise OSError("down")

    named = step.with_config(run_name="renamed", tags=["own"])
    answers = [
        await step.ainvoke(QUESTION, config),
        *await step.abatch([QUESTION], config),
        await named.ainvoke(QUESTION, config),
        await step.with_retry().ainvoke(QUESTION, config),
        await step.with_fallbacks([RunnableLambda(last)]).ainvoke(QUESTION, config),
        await RunnableLambda(fails).with_fallbacks([step]).ainvoke(QUESTION, config),
        await step.as_tool(description="Answers.").ainvoke(QUESTION, config),
        (await (step | last).ainvoke(QUESTION, config))[0],
    ]
    return plainly(tuple(answers))


async def started_and_ended(step, config):
    """The events of a chain, but for the pieces, of which the pipeline has more."""
    return [
        (event["event"], event["name"], event["tags"])
        async for event in (step | last).astream_events(QUESTION, config, version="v2")
        if not event["event"].endswith("stream")
    ]


async def logged(step, config):
    """What the log of a chain ends with."""
    state = None
    async for patch in (step | last).astream_log(QUESTION, config):
        state = patch if state is None else state + patch
    tags = {name: log["tags"] for name, log in state.state["logs"].items()}
    return plainly(state.state["final_output"]), tags


async def tool(step, _):
    """What it shows of itself as a tool."""
    made = step.as_tool()
    return made.name, made.args, made.description


@pytest.mark.parametrize("watched", [False, True], ids=["unwatched", "watched"])
@pytest.mark.parametrize(
    "expectation",
    [types, schemas, graph, tool, answered, started_and_ended, logged],
    ids=lambda each: each.__name__,
)
def test_the_pipeline_is_as_a_plain_lambda(pipelines, expectation, watched):
    """It is a step like any other, whatever is in it."""
    ours, plain = (asyncio.run(outcome(make, expectation, watched=watched)) for make in pipelines)
    assert ours == plain
