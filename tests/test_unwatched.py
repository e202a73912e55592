"""A call that nobody watches goes as LangChain's would, and costs what it takes to find that out.

What LangChain builds around a step is held by `tests/contracts/test_runnables.py`, watched and not.
"""

import asyncio
import os
import subprocess
import sys
from contextvars import ContextVar

import pytest
from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler
from langchain_core.globals import set_debug
from langchain_core.runnables import RunnableLambda, RunnablePassthrough
from langchain_core.runnables.config import ensure_config
from langchain_core.tracers.context import collect_runs

from course_lib.async_batch import as_runnable
from course_lib.lab.simulation import simulate
from course_lib.unwatched import ainvoke_of, call_unwatched, unwatched

MARK: ContextVar[str] = ContextVar("mark", default="unset")
MAKERS = {"ours": as_runnable, "plain": RunnableLambda}


class Events(BaseCallbackHandler):
    """Writes down what it is told, ids replaced by the order in which they came up."""

    run_inline = True

    def __init__(self):
        self.seen, self.ids = [], {}

    def number(self, run_id):
        return run_id and self.ids.setdefault(run_id, len(self.ids))

    def on_chain_start(self, serialized, inputs, *, run_id, parent_run_id=None, **kwargs):
        told = (kwargs.get("name"), kwargs.get("tags"), kwargs.get("metadata"))
        self.seen.append(("start", self.number(run_id), self.number(parent_run_id), inputs, told))

    def on_chain_end(self, outputs, *, run_id, parent_run_id=None, **kwargs):
        self.seen.append(("end", self.number(run_id), self.number(parent_run_id), outputs))

    def on_chain_error(self, error, *, run_id, parent_run_id=None, **kwargs):
        self.seen.append(("error", self.number(run_id), self.number(parent_run_id), repr(error)))


async def shout(text):
    """What a step does."""
    await asyncio.sleep(0)
    return text.upper()


async def seen_inside(_):
    """What a function called by a step sees of the config."""
    config = ensure_config()
    return {
        "tags": config["tags"],
        "metadata": config["metadata"],
        "max_concurrency": config.get("max_concurrency"),
        "recursion_limit": config["recursion_limit"],
        "run_name": config.get("run_name"),
        "run_id": config.get("run_id"),
    }


def both(scenario):
    """What comes of a scenario with our Runnable, and with LangChain's own."""
    return tuple(asyncio.run(scenario(MAKERS[kind])) for kind in ("ours", "plain"))


CONFIGS = [
    None,
    {},
    {"tags": ["a"], "metadata": {"m": 1}, "max_concurrency": 3, "recursion_limit": 7},
    {"run_name": "mine", "tags": ["b"]},
    {"configurable": {"tenant": "A"}},
]


@pytest.mark.parametrize("config", CONFIGS)
def test_what_a_step_calls_inherits_the_config(config):
    """Tags, metadata and limits, but not the name of the run; with a chain around it as without."""

    async def scenario(make):
        inner = make(seen_inside)

        async def outer(value):
            return await inner.ainvoke(value)

        step = make(outer)
        alone = await step.ainvoke("x", config)
        chained = await (RunnablePassthrough() | step).ainvoke("x", config)
        return alone, chained, ensure_config().get("tags")

    ours, plain = both(scenario)
    assert ours == plain


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("where", ["call", "bound", "chain", "batch"])
def test_who_watches_sees_the_same_events(config, where):
    """Names, tags, metadata, parents, inputs, outputs and errors."""

    async def scenario(make):
        events = Events()

        async def fails(text):
            raise ValueError(text)

        async def outer(text):
            return await make(shout, name="inner").ainvoke(text)

        watched = {**(config or {}), "callbacks": [events]}
        step = make(outer, name="outer")
        bad = make(fails, name="bad")
        if where == "bound":
            await step.with_config(watched).ainvoke("x")
        elif where == "chain":
            await (step | make(shout, name="last")).ainvoke("x", watched)
        elif where == "batch":
            await step.abatch(["x"], watched)
        else:
            await step.ainvoke("x", watched)
        with pytest.raises(ValueError, match="Y"):
            await (make(shout, name="first") | bad).ainvoke("y", watched)
        return events.seen

    ours, plain = both(scenario)
    assert ours == plain
    assert ours


def test_a_handler_is_noticed_wherever_it_comes_from():
    """In the config, inherited, collected for a context, or asked for by debugging."""

    class Plain(AsyncCallbackHandler):
        pass

    async def inherited(_):
        return unwatched(None)

    async def main():
        outer = RunnableLambda(inherited)
        with collect_runs():
            collected = unwatched(None)
        set_debug(True)
        try:
            debugged = unwatched(None)
        finally:
            set_debug(False)
        return [
            unwatched({"callbacks": [Plain()]}),
            await outer.ainvoke("x", {"callbacks": [Plain()]}),
            collected,
            debugged,
        ]

    assert asyncio.run(main()) == [None] * 4
    assert asyncio.run(RunnableLambda(inherited).ainvoke("x")) is not None


def test_tracing_that_is_switched_on_is_noticed():
    """By its environment variable, in a process of its own: then everything that runs is traced."""
    program = """
import os
from course_lib.unwatched import unwatched
print(unwatched(None), flush=True)
os._exit(0)  # without waiting for the tracer's thread
"""
    tracing = {"LANGSMITH_TRACING": "true", "LANGSMITH_ENDPOINT": "http://127.0.0.1:9"}
    answer = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **tracing, "LANGSMITH_API_KEY": "none"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout == "None\n"


def test_context_variables_that_a_step_sets_stay_its_own():
    """And those of the caller are seen in it, also after a wait."""

    async def scenario(make):
        async def step(value):
            before = MARK.get()
            MARK.set(value)
            await asyncio.sleep(0)
            return before, MARK.get()

        MARK.set("caller")
        inside = await make(step).ainvoke("step")
        return inside, MARK.get()

    ours, plain = both(scenario)
    assert ours == plain == (("caller", "step"), "caller")


def test_what_a_step_starts_has_the_steps_context():
    """A task of its own inherits what the step has set."""

    async def scenario(make):
        async def step(value):
            MARK.set(value)
            return await asyncio.create_task(child())

        async def child():
            return MARK.get(), ensure_config()["tags"]

        return await make(step).ainvoke("step", {"tags": ["t"]})

    ours, plain = both(scenario)
    assert ours == plain == ("step", ["t"])


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), StopAsyncIteration("no")])
def test_errors_come_out_as_they_are(error):
    """Before and after a wait."""

    async def main(waits):
        async def step(_):
            for _ in range(waits):
                await asyncio.sleep(0)
            raise error

        try:
            await as_runnable(step).ainvoke("x")
        except (ValueError, KeyboardInterrupt, StopAsyncIteration) as caught:
            return caught

    assert [asyncio.run(main(waits)) for waits in (0, 1, 3)] == [error] * 3


def test_a_step_can_clean_up_when_it_is_cancelled_and_can_refuse():
    """As in any coroutine: the cancellation arrives where it waits."""
    seen = []

    async def stubborn(_):
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            seen.append("cancelled")
            await asyncio.sleep(1)
            seen.append("cleaned")
            return "done all the same"

    async def main():
        task = asyncio.create_task(as_runnable(stubborn).ainvoke("x"))
        await asyncio.sleep(1)
        task.cancel()
        return await task

    simulation = simulate(main)
    assert (simulation.value, simulation.seconds) == ("done all the same", 2)
    assert seen == ["cancelled", "cleaned"]


def test_time_limits_inside_and_outside_hold():
    """Both are those of the caller's task, since there is no other."""

    async def slow(_):
        try:
            async with asyncio.timeout(2):
                await asyncio.sleep(5)
        except TimeoutError:
            return "inner"

    async def main():
        inner = await as_runnable(slow).ainvoke("x")
        try:
            async with asyncio.timeout(1):
                await as_runnable(slow).ainvoke("x")
        except TimeoutError:
            return inner, "outer"

    simulation = simulate(main)
    assert (simulation.value, simulation.seconds) == (("inner", "outer"), 3)


def test_a_call_that_is_given_up_is_closed():
    """The coroutine's own clean-up runs when nobody will ever finish it."""
    closed = []

    async def step():
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            closed.append(MARK.get())

    async def main():
        call = call_unwatched(unwatched(None), step())
        call.send(None)
        call.close()
        return closed

    assert asyncio.run(main()) == ["unset"]


def test_a_step_that_returns_a_runnable_has_it_called():
    """As a lambda does; one that never ends reaches the recursion limit."""

    async def scenario(make):
        async def choose(text):
            return make(shout)

        async def forever(_):
            return make(forever)

        try:
            await make(forever).ainvoke("x", {"recursion_limit": 3})
        except RecursionError:
            return await make(choose).ainvoke("x")

    ours, plain = both(scenario)
    assert ours == plain == "X"


def test_arguments_beside_the_input_are_handed_on():
    """Bound ones, too."""

    async def scenario(make):
        async def add(number, by=1):
            return number + by

        step = make(add)
        return await step.ainvoke(1), await step.ainvoke(1, by=5), await step.bind(by=2).ainvoke(1)

    ours, plain = both(scenario)
    assert ours == plain == (2, 6, 3)


def test_a_function_that_asks_for_the_config_gets_it():
    """Then LangChain's way is taken."""

    async def scenario(make):
        async def step(value, config):
            return config["tags"], "callbacks" in config

        return await make(step).ainvoke("x", {"tags": ["t"]})

    ours, plain = both(scenario)
    assert ours == plain == (["t"], True)


def test_a_plain_lambda_of_a_coroutine_takes_the_short_way_too():
    """Behind `amap`, say: no task of its own where nobody watches, and LangChain's way elsewhere."""

    async def task_of(_):
        return asyncio.current_task()

    async def pieces(text):
        for letter in text:
            yield letter

    async def configured(_, config):
        return config["tags"]

    async def main():
        here, events = asyncio.current_task(), Events()
        plain = ainvoke_of(RunnableLambda(task_of))
        watched = await plain("x", {"callbacks": [events]})
        return (
            await plain("x") is here,
            watched is here,
            [event[0] for event in events.seen],
            await ainvoke_of(RunnableLambda(pieces))("abc"),
            await ainvoke_of(RunnableLambda(str.upper))("x"),
            await ainvoke_of(RunnableLambda(configured))("x", {"tags": ["t"]}),
        )

    assert asyncio.run(main()) == (True, False, ["start", "end"], "abc", "X", ["t"])
