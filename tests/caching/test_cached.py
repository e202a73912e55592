"""A Runnable with a cache in front: the same answers, fewer calls."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.documents import Document
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.prompt_values import ChatPromptValue
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import (
    ConfigurableField,
    RunnableConfig,
    RunnableGenerator,
    RunnableLambda,
    RunnablePassthrough,
)
from langchain_core.stores import InMemoryByteStore

from course_lib.caching import AsyncCache, cached, stable_key
from course_lib.lab.simulation import simulate

ROOT = Path(__file__).resolve().parents[2]


class Search:
    """A provider that counts."""

    def __init__(self):
        self.asked = []
        self.broken = set()

    def find(self, question):
        """Answer at once."""
        self.asked.append(question)
        if question in self.broken:
            raise OSError(question)
        return [f"about {question}"]

    async def afind(self, question):
        """Answer after a second."""
        await asyncio.sleep(1)
        return self.find(question)

    def runnable(self):
        """Both, as a Runnable."""
        return RunnableLambda(self.find, afunc=self.afind, name="search")


class Noting(RunnablePassthrough):
    """Notes how each question came."""

    calls: list = []  # noqa: RUF012 - a pydantic field

    async def ainvoke(self, input, config=None, **kwargs):  # noqa: A002 - LangChain's name
        """Note, and answer."""
        self.calls.append((input, config["tags"], kwargs))
        return f"about {input}"

    async def abatch(self, *_, **__):
        """Not to be called: what it hands out may belong to another item."""
        raise AssertionError


class StopError(BaseException):
    """No `Exception`, as KeyboardInterrupt, which would stop the test."""


def new(**options):
    """A cache."""
    return AsyncCache(**{"ttl": 60, "maxsize": 100, **options})


def test_a_second_call_asks_nobody():
    """Whichever way it is made."""
    search = Search()
    chain = cached(search.runnable(), new())

    async def main():
        first = await chain.ainvoke("a")
        return first, await chain.ainvoke("a"), await chain.abatch(["a", "a"])

    result = simulate(main)
    assert result.value == (["about a"], ["about a"], [["about a"]] * 2)
    assert result.seconds == 1
    assert chain.invoke("a") == ["about a"]
    assert chain.batch(["a", "b", "b"]) == [["about a"], ["about b"], ["about b"]]
    assert search.asked == ["a", "b"]


def test_in_a_batch_duplicates_are_asked_once_and_misses_one_by_one():
    """With the config and the arguments of the caller."""
    runnable = Noting(calls=[])
    chain = cached(runnable, new(), namespace="search")
    config = {"tags": ["mine"]}

    async def main():
        await chain.ainvoke("a", {"tags": ["first"]}, stop="x")
        return await chain.abatch(["b", "a", "b", "c"], config, stop="x")

    assert simulate(main).value == ["about b", "about a", "about b", "about c"]
    assert runnable.calls == [
        ("a", ["first"], {"stop": "x"}),
        ("b", ["mine"], {"stop": "x"}),
        ("c", ["mine"], {"stop": "x"}),
    ]


@pytest.mark.parametrize(("limit", "seconds"), [(None, 1), (0, 1), (2, 3)])
def test_a_batch_asks_as_many_at_once_as_it_may(limit, seconds):
    """All, or as many as `max_concurrency` says."""
    search = Search()
    chain = cached(search.runnable(), new())
    result = simulate(lambda: chain.abatch(list("abcde"), {"max_concurrency": limit}))
    assert result.seconds == seconds
    assert sorted(search.asked) == list("abcde")


def test_each_item_of_a_batch_keeps_its_own_config():
    """Those of the misses, in their order."""
    runnable = Noting(calls=[])
    chain = cached(runnable, new(), namespace="search")
    configs = [{"tags": [tag]} for tag in "xyz"]

    async def main():
        await chain.ainvoke("b", {"tags": []})
        await chain.abatch(["a", "b", "c"], configs)
        with pytest.raises(ValueError, match="3 configs for 2 inputs"):
            await chain.abatch(["a", "b"], configs)
        return await chain.abatch([])

    assert simulate(main).value == []
    assert runnable.calls[1:] == [("a", ["x"], {}), ("c", ["z"], {})]


@pytest.mark.parametrize("sync", [True, False])
def test_one_failure_in_a_batch_takes_nobody_along(sync):
    """The others are kept; the failed one is asked again."""
    search = Search()
    search.broken.add("b")
    chain = cached(search.runnable(), new())

    async def main():
        with pytest.raises(OSError, match="b"):
            await chain.abatch(["a", "b", "c"])
        return await chain.abatch(["a", "b", "c"], return_exceptions=True)

    def main_sync():
        with pytest.raises(OSError, match="b"):
            chain.batch(["a", "b", "c"])
        return chain.batch(["a", "b", "c"], return_exceptions=True)

    answers = main_sync() if sync else simulate(main).value
    assert [answers[0], answers[2]] == [["about a"], ["about c"]]
    assert isinstance(answers[1], OSError)
    assert sorted(search.asked) == ["a", "b", "b", "c"]


@pytest.mark.parametrize("sync", [True, False])
def test_what_fails_for_good_has_nobody_elses_answer(sync):
    """LangChain's own batch of a Runnable with retries can hand out a neighbour's."""
    seen = []

    def answer(question):
        seen.append(question)
        if question == "hopeless" or (question == "flaky" and seen.count("flaky") == 1):
            raise OSError(question)
        return f"about {question}"

    async def aanswer(question):
        return answer(question)

    patient = RunnableLambda(answer, afunc=aanswer).with_retry(
        stop_after_attempt=2, wait_exponential_jitter=False
    )
    chain = cached(RunnableLambda(str) | patient, new())
    questions = ["fine", "flaky", "hopeless"]

    async def main():
        return await chain.abatch(questions, return_exceptions=True)

    answers = chain.batch(questions, return_exceptions=True) if sync else asyncio.run(main())
    assert answers[:2] == ["about fine", "about flaky"]
    assert isinstance(answers[2], OSError)
    with pytest.raises(OSError, match="hopeless"):
        chain.invoke("hopeless")


def test_a_step_that_is_cancelled_is_no_answer():
    """It is raised, in the batch and when it is asked for again; the others are kept."""
    asked = []

    async def step(question):
        asked.append(question)
        if question == "b":
            raise asyncio.CancelledError
        return question

    chain = cached(RunnableLambda(step) | RunnableLambda(step), new())

    async def main():
        for call in (lambda: chain.abatch(["a", "b", "c"]), lambda: chain.ainvoke("b")):
            with pytest.raises(asyncio.CancelledError):
                await call()
        return await chain.abatch(["a", "c"])

    assert simulate(main).value == ["a", "c"]
    assert sorted(asked) == ["a", "a", "b", "b", "c", "c"]


def test_an_interruption_of_a_synchronous_batch_is_no_answer():
    """It is raised, and what was under way is asked again."""
    asked = []

    def step(question):
        asked.append(question)
        if len(asked) == 1:
            raise KeyboardInterrupt
        return question

    chain = cached(RunnableLambda(str) | RunnableLambda(step), new())
    with pytest.raises(KeyboardInterrupt):
        chain.batch(["a", "b"], {"max_concurrency": 1})
    assert chain.batch(["a", "b"]) == ["a", "b"]


def test_callbacks_see_the_misses_and_only_them():
    """A hit runs nothing."""

    class Seen(BaseCallbackHandler):
        run_inline = True
        inputs: list = []  # noqa: RUF012 - of this one test

        def on_chain_start(self, _serialized, inputs, **_):
            self.inputs.append(inputs)

    chain = cached(Search().runnable(), new())

    async def main():
        config = {"callbacks": [Seen()]}
        await chain.ainvoke("a", config)
        await chain.ainvoke("a", config)
        await chain.abatch(["a", "b", "b"], config)

    simulate(main)
    assert Seen.inputs == ["a", "b"]


def test_a_stream_is_given_again_piece_by_piece():
    """As the wrapped one gave it, the first time while it comes."""
    times = []

    async def words(text):
        for word in text.split():
            await asyncio.sleep(1)
            times.append(word)
            yield word

    async def main():
        chain = cached(RunnableLambda(words), new())
        now = asyncio.get_running_loop().time
        first = [(piece, now()) async for piece in chain.astream("one two")]
        second = [piece async for piece in chain.astream("one two")]
        return first, second

    result = simulate(main)
    assert result.value == ([("one", 1), ("two", 2)], ["one", "two"])
    assert times == ["one", "two"]


def test_a_stream_that_is_left_early_is_not_kept():
    """Half an answer is none; also from synchronous code."""
    model = GenericFakeChatModel(messages=iter([AIMessage("one two"), AIMessage("three four")]))
    chain = cached(model, new())
    for piece in chain.stream("q"):
        assert piece.content == "one"
        break
    pieces = [piece.content for piece in chain.stream("q")]
    assert [piece.content for piece in chain.stream("q")] == pieces
    assert "".join(pieces) == "three four"


def test_a_stream_that_is_closed_early_closes_the_one_beneath():
    """In the same task, before `aclose` returns; also from synchronous code."""
    closed = []

    def pieces(_):
        try:
            yield from range(9)
        finally:
            closed.append("sync")

    async def apieces(_):
        try:
            for piece in range(9):
                yield piece
        finally:
            closed.append(asyncio.current_task())

    async def main():
        chain = cached(RunnableGenerator(pieces, apieces), new())
        stream = chain.astream("q")
        assert await anext(stream) == 0
        await stream.aclose()
        assert closed == [asyncio.current_task()]
        stream = chain.stream("q")
        assert next(stream) == 0
        stream.close()
        return closed[1:], [piece async for piece in chain.astream("q")]

    assert asyncio.run(main()) == (["sync"], list(range(9)))


def test_it_streams_inside_a_chain():
    """The pieces pass through."""

    async def main():
        model = GenericFakeChatModel(messages=iter([AIMessage("one two")]))
        chain = RunnablePassthrough() | cached(model, new())
        return [[piece.content async for piece in chain.astream("q")] for _ in range(2)]

    first, second = asyncio.run(main())
    assert first == second
    assert first[:3] == ["one", " ", "two"]


def test_what_was_known_to_be_wrong_is_asked_again():
    """By the input itself."""
    search = Search()
    chain = cached(search.runnable(), new())

    async def main():
        await chain.ainvoke("a")
        await chain.invalidate("a")
        await chain.ainvoke("a")

    simulate(main)
    assert search.asked == ["a", "a"]


def test_two_runnables_share_a_cache_without_sharing_answers():
    """Also two that are made of one function."""
    search, cache = Search(), new()
    first, second = (cached(RunnableLambda(search.find), cache) for _ in range(2))
    assert first.invoke("a") == second.invoke("a") == ["about a"]
    assert search.asked == ["a", "a"]


def test_one_runnable_is_known_again():
    """Wrapped twice, it shares its answers; with a namespace, so do two that are alike."""
    search, cache = Search(), new()
    runnable = search.runnable()
    for _ in range(2):
        assert cached(runnable, cache).invoke("a") == ["about a"]
        assert cached(search.runnable(), cache, namespace="n").invoke("a") == ["about a"]
    assert search.asked == ["a", "a"]


def test_a_gone_objects_number_is_never_given_again():
    """Whatever stands at its address later."""
    seen = {cached(RunnableLambda(Search().find), new()).namespace for _ in range(50)}
    assert len(seen) == 50


def test_what_cannot_be_referred_to_weakly_is_never_taken_for_another():
    """It has a new number each time."""

    class Key:
        __slots__ = ()

        def __call__(self, question):
            return question

    key, runnable = Key(), Search().runnable()
    names = {cached(runnable, new(), key=key).namespace for _ in range(3)}
    assert len(names) == 3


def test_with_a_store_a_namespace_is_wanted():
    """Said at once, with what to write."""
    cache = new(store=InMemoryByteStore())
    with pytest.raises(ValueError, match='has a store.*say whose.*namespace="search"'):
        cached(Search().runnable(), cache)
    assert cached(RunnableLambda(Search().find), cache, namespace="s").invoke("a") == ["about a"]


def test_keys_are_the_same_in_every_process():
    """For inputs of all kinds; hash seeds do not matter."""
    program = """
from langchain_core.documents import Document
from langchain_core.runnables import RunnablePassthrough
from course_lib.caching import AsyncCache, cached
chain = cached(RunnablePassthrough(), AsyncCache(ttl=1, maxsize=1), namespace="n")
print(chain.key_of({"b": [1, 2.5, None, True], "a": ("x", Document("d", metadata={"k": "v"}))}))
print(chain.key_of("question"), chain.key_of("q" * 1000, stop=["x"]))
"""
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program],
            cwd=ROOT,
            env={"PYTHONHASHSEED": seed, "PATH": ""},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in "01"
    }
    assert len(outputs) == 1
    assert "sha256:" in outputs.pop()


def test_a_different_question_has_a_different_key():
    """Where Python calls two equal, too."""
    inputs = ["1", 1, 1.0, True, None, "", [], {}, (), [1], (1,), {"a": 1}, {"a": "1"}, ["a", "b"]]
    inputs += ["a", "b" * 300, "b" * 301, Document("a"), HumanMessage("a"), AIMessage("a")]
    keys = [cached(RunnablePassthrough(), new(), namespace="n").key_of(each) for each in inputs]
    assert len(set(keys)) == len(inputs)
    assert keys[0] == stable_key("1", namespace="n") == 'n:"1"'


def test_two_choices_of_key_share_no_answers():
    """What is kept under a part of one input may be the answer to another."""
    cache = new()
    search = Search().runnable()

    def letter(question):
        return question[:1]

    by_letter, again = (cached(search, cache, key=letter) for _ in range(2))
    whole = cached(search, cache)
    assert by_letter.invoke("apple") == again.invoke("a") == ["about apple"]
    assert whole.invoke("a") == ["about a"]


def test_key_says_what_the_answer_depends_on():
    """The rest of the input may differ."""
    search = Search()
    runnable = RunnableLambda(lambda given: search.find(given["q"]))
    chain = cached(runnable, new(), key=lambda given: given["q"])
    chain.invoke({"q": "a", "trace": object()})
    chain.invoke({"q": "a", "trace": object()})
    assert search.asked == ["a"]


@pytest.mark.parametrize("question", [{1, 2}, object(), {"a": {1: 2}}, [float("nan")], b"a"])
def test_an_input_without_a_key_is_refused_with_advice(question):
    """It names the way out."""
    chain = cached(RunnablePassthrough(), new(), namespace="n")
    with pytest.raises((TypeError, ValueError), match="no key can be made of .*Give `key=`"):
        chain.invoke(question)


@pytest.mark.parametrize("sync", [True, False])
def test_in_a_batch_an_input_without_a_key_harms_no_other(sync):
    """It is the error of that item, if errors are wanted; else nothing is asked."""
    search = Search()
    chain = cached(search.runnable(), new())
    questions = ["a", object(), "b", "a"]

    async def main(**options):
        return await chain.abatch(questions, **options)

    def ask(**options):
        return (
            chain.batch(questions, **options) if sync else simulate(lambda: main(**options)).value
        )

    with pytest.raises(TypeError, match="no key can be made of"):
        ask()
    assert search.asked == []
    first, failed, *rest = ask(return_exceptions=True)
    assert isinstance(failed, TypeError)
    assert [first, *rest] == [["about a"], ["about b"], ["about a"]]
    assert sorted(search.asked) == ["a", "b"]


def test_an_input_that_contains_itself_is_refused_too():
    """It does not end in a RecursionError."""
    loop = []
    loop.append(loop)
    with pytest.raises(ValueError, match="contains itself"):
        cached(RunnablePassthrough(), new(), namespace="n").invoke(loop)


def test_arguments_are_part_of_the_key():
    """Those that make no key are to be bound before."""
    seen = []

    def note(question, config: RunnableConfig, **kwargs):
        seen.append(kwargs)
        return question

    chain = cached(RunnableLambda(note), new())
    for stop in ("x", "y", "x"):
        chain.invoke("q", stop=stop)
    chain.invoke("q")
    assert seen == [{"stop": "x"}, {"stop": "y"}, {}]
    with pytest.raises(TypeError, match=r"Bind them before: `cached\(runnable.bind"):
        chain.invoke("q", tool=object())


def test_nobody_gets_what_another_configuration_found():
    """Whether the Runnable declares the field, reads it, or is asked in a run that has it."""

    async def balance(question, config: RunnableConfig):
        return f"{question} of {config['configurable']['tenant']}"

    chain = cached(RunnableLambda(balance), new())
    within = RunnableLambda(lambda question: question) | chain
    configs = [{"configurable": {"tenant": tenant}} for tenant in "AB"]

    async def main():
        return [
            [await chain.ainvoke("balance", config) for config in configs],
            [await within.ainvoke("balance", config) for config in configs],
            [await chain.abatch(["balance"], config) for config in configs],
            await chain.abatch(["balance"] * 2, configs),
            [piece for config in configs async for piece in chain.astream("balance", config)],
        ]

    of = ["balance of A", "balance of B"]
    assert asyncio.run(main()) == [of, of, [[each] for each in of], of, of]
    assert chain.cache.statistics().misses == 4  # one each for the answers and for the streams
    prompt = ChatPromptTemplate.from_template("{q}").configurable_fields(
        messages=ConfigurableField(id="messages")
    )
    declared = cached(prompt, new())
    for text in ("x", "y"):
        found = declared.invoke({"q": "a"}, {"configurable": {"messages": [HumanMessage(text)]}})
        assert found.messages[0].content == text


def test_in_a_run_the_configuration_of_the_run_counts():
    """A function that calls the chain passes no config on by itself."""

    async def tenant(_, config: RunnableConfig):
        return config["configurable"]["tenant"]

    chain = cached(RunnableLambda(tenant), new())

    async def outer(question):
        return await chain.ainvoke(question)

    async def main():
        runnable = RunnableLambda(outer)
        return [await runnable.ainvoke("q", {"configurable": {"tenant": each}}) for each in "AB"]

    assert asyncio.run(main()) == ["A", "B"]


def test_fields_that_answers_do_not_depend_on_can_be_left_out():
    """Those that LangGraph keeps for itself are."""
    search = Search()
    chain = cached(search.runnable(), new(), ignore=["thread_id"])
    for thread in range(3):
        fields = {"thread_id": object(), "__private": object(), "k": 1}
        assert chain.invoke("a", {"configurable": fields}) == ["about a"], thread
    chain.invoke("a", {"configurable": {"k": 2}})
    assert search.asked == ["a", "a"]
    with pytest.raises(TypeError, match=r"give names in a list, ignore=\['k'\]"):
        cached(search.runnable(), new(), ignore="k")


def test_a_field_that_cannot_be_written_is_refused_by_name():
    """With the way to leave it out."""
    chain = cached(RunnablePassthrough(), new())
    advice = r"configurable field 'user'.*leave it out: `cached\(..., ignore=\['user'\]\)"
    with pytest.raises(TypeError, match=advice):
        chain.invoke("q", {"configurable": {"k": 1, "user": object()}})


def test_the_ids_of_messages_make_no_difference():
    """They are drawn anew each time; what else a message holds does."""
    model = GenericFakeChatModel(messages=iter([AIMessage("one"), AIMessage("two")]))
    chain = cached(model, new())

    def question(text, number):
        said = [HumanMessage("hello", id=f"h{number}"), AIMessage("hi", id=f"a{number}")]
        return [*said, HumanMessage(text)]

    assert [chain.invoke(question("q", number)).content for number in range(3)] == ["one"] * 3
    assert chain.invoke(question("other", 0)).content == "two"
    values = [ChatPromptValue(messages=question("q", number)) for number in range(2)]
    assert chain.key_of({"in": [values[0]]}) == chain.key_of({"in": [values[1]]})
    assert chain.key_of(Document("d", id="1")) != chain.key_of(Document("d", id="2"))


def test_answers_outlive_the_cache_in_its_store():
    """Documents and messages come back as what they were; from synchronous code, too."""
    store, search = InMemoryByteStore(), Search()

    def documents(question):
        search.find(question)
        return [Document(question, id="1", metadata={"score": 0.5})], AIMessage(question)

    answers = []
    for _ in range(2):
        cache = new(store=store)
        chain = cached(RunnableLambda(documents), cache, namespace="d")
        answers += [chain.invoke("a"), *chain.batch(["a", "b"])]
    assert answers[:3] == answers[3:]
    assert isinstance(answers[3][1], AIMessage)
    assert search.asked == ["a", "b"]
    assert cache.statistics().store_hits == 2


def test_it_shows_what_it_wraps():
    """With whose answers these are; types and schemas: `tests/contracts/test_runnables.py`."""
    runnable = Search().runnable()
    assert repr(cached(runnable, new(), namespace="s")) == f"cached({runnable!r}, namespace='s')"


def test_what_is_no_runnable_or_no_cache_is_refused():
    """With what to give instead."""
    with pytest.raises(TypeError, match="is no Runnable: make one of a function"):
        cached(len, new())
    with pytest.raises(TypeError, match="pass an AsyncCache"):
        cached(RunnablePassthrough(), {})
