"""A Runnable whose sync side is real, or refuses."""

import asyncio
from functools import partial

import pytest
from langchain_core.runnables import RunnableLambda
from typing_extensions import TypedDict

from course_lib.async_batch import as_runnable


async def shout(text: str) -> str:
    return text.upper()


def test_the_async_side_is_the_coroutine_function():
    """`ainvoke`, `abatch` and `astream` use it."""

    async def main():
        runnable = as_runnable(shout)
        streamed = [chunk async for chunk in runnable.astream("c")]
        return await runnable.ainvoke("a"), await runnable.abatch(["b"]), streamed

    assert asyncio.run(main()) == ("A", ["B"], ["C"])


@pytest.mark.parametrize(
    "use",
    [
        lambda runnable: runnable.invoke("a"),
        lambda runnable: runnable.batch(["a", "b"]),
        lambda runnable: list(runnable.stream("a")),
        lambda runnable: (runnable | RunnableLambda(str)).invoke("a"),
    ],
    ids=["invoke", "batch", "stream", "in a chain"],
)
def test_without_a_sync_side_sync_use_says_what_to_call(use):
    """The question never comes back as if it were the answer."""
    with pytest.raises(TypeError, match=r"shout has no sync implementation.*ainvoke.*run_sync"):
        use(as_runnable(shout))


def test_with_a_sync_side_both_work():
    """`func` serves `invoke`, `afunc` serves `ainvoke`."""
    runnable = as_runnable(shout, func=str.lower)
    assert runnable.invoke("aB") == "ab"
    assert asyncio.run(runnable.ainvoke("aB")) == "AB"


def test_a_bound_or_partial_coroutine_function_will_do():
    """As `client.search` and `partial(client.search, k=3)` are."""

    async def join(sep, text):
        return text + sep

    runnable = as_runnable(partial(join, "!"), name="join")
    assert asyncio.run(runnable.ainvoke("a")) == "a!"


def test_an_object_with_an_async_call_will_do():
    """Callable objects are functions too."""

    class Echo:
        async def __call__(self, text):
            return text

    assert asyncio.run(as_runnable(Echo()).ainvoke("a")) == "a"


def test_sync_and_async_mixed_up_are_refused():
    """At once, with the parameter that the function belongs to."""
    with pytest.raises(TypeError, match="a sync one is `func`"):
        as_runnable(str.upper)
    with pytest.raises(TypeError, match="pass it as `afunc`"):
        as_runnable(shout, func=shout)


def test_the_name_shown_in_traces_is_the_functions_own():
    """Unless another one is given."""
    assert as_runnable(shout).get_name() == "shout"
    assert as_runnable(shout, name="yell").get_name() == "yell"


class Asked(TypedDict):
    """What a function of several parameters takes."""

    text: str
    times: int


async def repeat(asked: Asked) -> list[str]:
    return [asked["text"]] * asked["times"]


@pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning")
@pytest.mark.parametrize(
    ("function", "given", "answer"),
    [(repeat, {"text": "a", "times": 2}, ["a", "a"]), (shout, "a", "A")],
)
def test_a_tool_has_the_parameters_of_the_function_and_hands_them_on(function, given, answer):
    """As `RunnableLambda` of it has, schemas and description included."""
    ours, plain = as_runnable(function), RunnableLambda(function)
    tools = [step.as_tool(arg_types=None) for step in (ours, plain)]
    assert tools[0].args == tools[1].args
    assert (tools[0].name, tools[0].description) == (tools[1].name, tools[1].description)
    assert ours.get_input_jsonschema() == plain.get_input_jsonschema()
    assert ours.get_output_jsonschema() == plain.get_output_jsonschema()
    assert asyncio.run(tools[0].ainvoke(given)) == answer
