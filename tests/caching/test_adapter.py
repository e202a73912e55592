"""The cache inside a chat model: one call a question, and answers that nobody can spoil."""

import asyncio

import pytest
from langchain_core.callbacks import AsyncCallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, BaseLLM
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult, Generation, LLMResult
from langchain_core.stores import InMemoryByteStore

from course_lib.caching import AsyncCache, CacheAdapter
from course_lib.lab.simulation import simulate


class Chat(BaseChatModel):
    """A chat model that takes a second, counts, and may fail."""

    calls: list = []  # noqa: RUF012 - a pydantic field
    error: BaseException | None = None
    seconds: float = 1
    model_config = {"arbitrary_types_allowed": True}  # noqa: RUF012 - pydantic's

    @property
    def _llm_type(self):
        return "chat"

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        self.calls.append(messages[-1].content)
        if self.error is not None:
            raise self.error
        usage = {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}
        message = AIMessage(f"answer {len(self.calls)}", usage_metadata=usage)
        return ChatResult(generations=[ChatGeneration(message=message)])

    async def _agenerate(self, messages, stop=None, run_manager=None, **kwargs):
        await asyncio.sleep(self.seconds)
        return self._generate(messages)


class Completion(BaseLLM):
    """The older kind of model, which calls in the task of its caller."""

    calls: list = []  # noqa: RUF012 - a pydantic field

    @property
    def _llm_type(self):
        return "completion"

    def _generate(self, prompts, stop=None, run_manager=None, **kwargs):
        raise NotImplementedError

    async def _agenerate(self, prompts, stop=None, run_manager=None, **kwargs):
        assert run_manager is None or isinstance(run_manager, AsyncCallbackManagerForLLMRun)
        await asyncio.sleep(1)
        self.calls.extend(prompts)
        if prompts[0] == "broken":
            raise OSError("down")
        return LLMResult(generations=[[Generation(text=prompt.upper())] for prompt in prompts])


def adapter(**options):
    """A cache as models take it."""
    patience = options.pop("patience", 60)
    cache = AsyncCache(**{"ttl": 60, "maxsize": 100, **options})
    return CacheAdapter(cache, patience=patience)


def chat(**options):
    """A model with a cache of its own."""
    return Chat(calls=[], error=options.pop("error", None), cache=adapter(**options))


def test_fifty_who_ask_the_same_make_one_call():
    """And the next one finds the answer."""
    model = chat()

    async def main():
        answers = await asyncio.gather(*(model.ainvoke("q") for _ in range(50)))
        return {answer.content for answer in answers}, (await model.ainvoke("q")).content

    result = simulate(main)
    assert result.value == ({"answer 1"}, "answer 1")
    assert (model.calls, result.seconds) == (["q"], 1)
    statistics = model.cache.cache.statistics()
    assert (statistics.misses, statistics.coalesced, statistics.hits) == (1, 49, 1)


def test_different_questions_do_not_wait_for_each_other():
    """Nor do other models, or the same with other arguments."""
    model = chat()

    async def main():
        await asyncio.gather(model.ainvoke("a"), model.ainvoke("b"), model.ainvoke("a", stop=["x"]))

    assert simulate(main).seconds == 1
    assert sorted(model.calls) == ["a", "a", "b"]


def test_with_the_first_cancelled_the_next_one_calls():
    """One call more, and everybody else gets its answer."""
    model = chat()

    async def main():
        tasks = [asyncio.create_task(model.ainvoke("q")) for _ in range(5)]
        await asyncio.sleep(0.5)
        tasks[0].cancel()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        return [getattr(answer, "content", None) for answer in answers]

    result = simulate(main)
    assert result.value == [None, *["answer 1"] * 4]
    assert result.seconds == 1.5


def test_an_error_reaches_all_who_wait_and_is_not_kept():
    """With an outage there is one call, and not one for each."""
    model = chat(error=OSError("down"))

    async def main():
        errors = await asyncio.gather(
            *(model.ainvoke("q") for _ in range(5)), return_exceptions=True
        )
        model.error = None
        return {type(error) for error in errors}, (await model.ainvoke("q")).content

    assert simulate(main).value == ({OSError}, "answer 2")
    assert len(model.calls) == 2


def test_an_interruption_of_one_is_not_raised_in_others():
    """Who waits takes over."""

    class StopError(BaseException):
        pass

    model = chat(error=StopError())

    async def main():
        first = asyncio.create_task(model.ainvoke("q"))
        await asyncio.sleep(0.5)
        second = asyncio.create_task(model.ainvoke("q"))
        with pytest.raises((StopError, AttributeError)):  # LangChain takes it for a result
            await first
        model.error = None
        return (await second).content

    assert simulate(main).value == "answer 2"


def test_who_waits_does_so_for_a_while_only():
    """Then they call themselves."""
    model = chat(patience=0.25)

    async def main():
        return [a.content for a in await asyncio.gather(model.ainvoke("q"), model.ainvoke("q"))]

    result = simulate(main)
    assert result.value == ["answer 1", "answer 2"]
    assert result.seconds == 1.25


def test_what_a_caller_changes_is_theirs():
    """The model itself writes to what it finds."""
    model = chat()

    async def main():
        for _ in range(3):
            answer = await model.ainvoke("q")
            answer.content += " and more"
            answer.usage_metadata["input_tokens"] = 99
        return await model.ainvoke("q")

    answer = simulate(main).value
    assert answer.content == "answer 1"
    assert answer.usage_metadata["input_tokens"] == 1


def test_answers_outlive_the_process_in_a_store():
    """As generations with their messages; clearing empties the store, too."""
    store = InMemoryByteStore()
    first, second = chat(store=store), chat(store=store)

    async def main():
        one, two = await first.ainvoke("q"), await second.ainvoke("q")
        await second.cache.aclear()
        return one.content, two.content, two.usage_metadata["output_tokens"]

    assert simulate(main).value == ("answer 1", "answer 1", 2)
    assert second.calls == []
    assert list(store.yield_keys()) == []


def test_synchronous_callers_use_the_same_answers():
    """And clear them."""
    model = chat()
    assert model.invoke("q").content == model.invoke("q").content == "answer 1"
    assert asyncio.run(model.ainvoke("q")).content == "answer 1"
    model.cache.clear()
    assert model.invoke("q").content == "answer 2"


def test_a_model_that_calls_in_its_callers_task_works_as_well():
    """Several prompts at once, the same one twice, two callers crosswise: nobody waits for ever."""
    model = Completion(calls=[], cache=adapter())

    async def main():
        both = await asyncio.gather(
            model.agenerate(["a", "b", "a"]), model.agenerate(["b", "a"]), model.agenerate(["b"])
        )
        return [[g[0].text for g in result.generations] for result in both]

    result = simulate(main)
    assert result.value == [["A", "B", "A"], ["B", "A"], ["B"]]
    assert result.seconds <= 2


def test_a_caller_that_outlives_its_failed_call_keeps_nobody_waiting():
    """Who waits goes on as soon as the call has failed."""
    model = Completion(calls=[], cache=adapter(patience=50))

    async def lives_on():
        with pytest.raises(OSError, match="down"):
            await model.ainvoke("broken")
        await asyncio.sleep(100)

    async def main():
        task = asyncio.create_task(lives_on())
        await asyncio.sleep(0.5)
        with pytest.raises(OSError, match="down"):
            await model.ainvoke("broken")
        now = asyncio.get_running_loop().time()
        task.cancel()
        return now

    assert simulate(main).value == 1 + 1


def test_a_call_given_up_by_a_caller_who_lives_on_is_taken_over_by_one():
    """And the others wait for that one."""
    model = Completion(calls=[], cache=adapter())

    async def gives_up():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await model.ainvoke("q")
        await asyncio.sleep(100)

    async def main():
        task = asyncio.create_task(gives_up())
        await asyncio.sleep(0.1)
        answers = await asyncio.gather(*(model.ainvoke("q") for _ in range(5)))
        task.cancel()
        return answers

    result = simulate(main)
    assert (result.value, result.seconds, model.calls) == (["Q"] * 5, 1.5, ["q"])


def test_workers_that_make_call_after_call_share_them():
    """Who has been waited for once can wait for others later on."""
    model = Completion(calls=[], cache=adapter())

    async def worker():
        return [await model.ainvoke(question) for question in "abc"]

    async def main():
        return await asyncio.gather(*(worker() for _ in range(4)))

    result = simulate(main)
    assert (result.value, result.seconds) == ([["A", "B", "C"]] * 4, 3)
    assert model.calls == ["a", "b", "c"]


def test_who_asks_the_cache_without_a_model_keeps_nobody_waiting_either():
    """The function that asked is the call."""
    cache = adapter(patience=50)

    async def call():
        assert await cache.alookup("q", "m") is None
        await asyncio.sleep(1)
        raise OSError

    async def lives_on():
        with pytest.raises(OSError):  # noqa: PT011 - the only one
            await call()
        await asyncio.sleep(100)

    async def main():
        task = asyncio.create_task(lives_on())
        await asyncio.sleep(0.5)
        assert await cache.alookup("q", "m") is None
        now = asyncio.get_running_loop().time()
        task.cancel()
        return now

    assert simulate(main).value == 1


def test_what_else_goes_wrong_with_a_caller_is_not_passed_on():
    """Only the error of the call itself is for those who wait; else they call themselves."""
    model = Completion(calls=[], cache=adapter())

    async def fails_later():
        with pytest.raises(OSError, match="down"):
            await model.ainvoke("broken")
        await asyncio.sleep(1)
        raise ValueError("of another kind")

    async def main():
        task = asyncio.create_task(fails_later())
        await asyncio.sleep(0.5)
        with pytest.raises(OSError, match="down"):
            await model.ainvoke("broken")
        with pytest.raises(ValueError, match="of another kind"):
            await task

    assert simulate(main).seconds == 2


def test_it_goes_on_in_a_second_loop():
    """Nobody waits for a loop that is gone."""
    model = chat()
    model.seconds = 0.02

    async def ask():
        return (await model.ainvoke("q")).content

    async def give_up():
        task = asyncio.create_task(model.ainvoke("q"))
        await asyncio.sleep(0.01)
        task.cancel()

    asyncio.run(give_up())
    assert asyncio.run(ask()) == "answer 1"


def test_patience_is_above_zero():
    """Refused at once."""
    with pytest.raises(ValueError, match="patience=0: give seconds above 0"):
        adapter(patience=0)
    assert repr(adapter()).startswith("CacheAdapter(<AsyncCache 0 of 100")
