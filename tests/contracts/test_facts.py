"""What notebooks say of other people's libraries is so: each test names the notebook and its section."""

import asyncio
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import aiohttp
import pytest
from aiohttp import web
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.rate_limiters import BaseRateLimiter, InMemoryRateLimiter
from langchain_core.runnables import RunnableLambda
from langchain_core.vectorstores import VectorStore
from langchain_openai import ChatOpenAI
from notebook_support import NOTEBOOKS
from openai import InternalServerError

from course_lib.lab import default_threads, run_child, simulate
from course_lib.service import Faults

PATIENCE = (
    600.0  # seconds for threads and processes to come along; on a free machine they do at once
)
STATED = []


def stated(number, section):
    """Names the notebook, and the section of it, that states what a test shows."""
    STATED.append((number, section))
    return lambda test: test


def meeting(parties):
    """A function that returns when so many are in it at once, and counts the most that ever were."""
    barrier, lock, inside = threading.Barrier(parties), threading.Lock(), []

    def meet(_):
        with lock:
            inside.append(1)
            meet.most = max(meet.most, len(inside))
        meet.threads.add(threading.current_thread().name)
        barrier.wait(PATIENCE)
        with lock:
            inside.pop()

    meet.most, meet.threads = 0, set()
    return meet


async def with_pool(threads, program):
    """Runs a program in a loop whose default pool has so many threads."""
    pool = ThreadPoolExecutor(threads, thread_name_prefix="pool")
    asyncio.get_running_loop().set_default_executor(pool)
    return await program


@stated(1, "The pipeline that everybody writes first")
@stated(1, "What `max_concurrency` does, and does not do")
def test_a_sync_function_runs_in_the_loops_default_pool_whatever_max_concurrency():
    """`abatch` of six with `max_concurrency=6`: two threads, two at once."""
    meet = meeting(2)
    batch = RunnableLambda(meet).abatch(range(6), {"max_concurrency": 6})
    asyncio.run(with_pool(2, batch))
    assert meet.most == 2
    assert all(name.startswith("pool") for name in meet.threads)


@stated(1, "What `max_concurrency` does, and does not do")
def test_sync_batch_has_a_pool_of_its_own_that_max_concurrency_sizes():
    """Three at once, and six threads of nobody else."""
    meet = meeting(3)
    RunnableLambda(meet).batch(range(6), {"max_concurrency": 3})
    assert meet.most == 3


@stated(1, "The pipeline that everybody writes first")
def test_the_default_pool_has_as_many_threads_as_the_notebook_says():
    """`min(32, cores + 4)`, as the standard library counts cores."""
    with ThreadPoolExecutor() as pool:
        assert pool._max_workers == default_threads()


@stated(1, "An async side")
def test_each_side_has_its_function():
    """`invoke` and `batch` use the first, `ainvoke` and `abatch` the second."""

    async def second(item):
        return "async", item

    step = RunnableLambda(lambda item: ("sync", item), afunc=second)
    assert [step.invoke(1), *step.batch([2])] == [("sync", 1), ("sync", 2)]
    assert asyncio.run(step.ainvoke(1)) == ("async", 1)
    assert asyncio.run(step.abatch([2])) == [("async", 2)]


@stated(1, "The placeholder")
def test_a_placeholder_hands_the_question_back_and_nothing_in_its_place_is_refused():
    """`lambda x: x` answers with its input; a coroutine function alone raises TypeError."""

    async def search(question):
        return f"answer to {question}"

    assert RunnableLambda(lambda x: x, afunc=search).invoke("why?") == "why?"
    with pytest.raises(TypeError):
        RunnableLambda(search).invoke("why?")


@stated(1, "An async side")
@stated(1, "Where the time goes when waiting is free")
def test_abatch_starts_all_calls_before_it_waits_and_each_in_a_task():
    """All have begun before the first ends, each in a task that is not the caller's."""
    log, tasks = [], set()

    async def step(item):
        tasks.add(asyncio.current_task())
        log.append("begin")
        await asyncio.sleep(1)
        log.append("end")
        return item

    async def main():
        await RunnableLambda(step).abatch(range(5))
        return asyncio.current_task() in tasks

    assert not simulate(main).value
    assert log == ["begin"] * 5 + ["end"] * 5
    assert len(tasks) == 5


@stated(1, "One failing question")
def test_a_failure_neither_stops_nor_spares_the_other_calls():
    """`abatch` raises at once, and the others go on; with `return_exceptions` all are kept."""
    done = []

    async def step(seconds):
        if not seconds:
            raise ValueError("none")
        await asyncio.sleep(seconds)
        done.append(seconds)
        return seconds

    async def main():
        with pytest.raises(ValueError, match="none"):
            await RunnableLambda(step).abatch([0, 1, 2])
        before = list(done)
        await asyncio.sleep(3)
        return before, await RunnableLambda(step).abatch([0, 1], return_exceptions=True)

    before, (failed, kept) = simulate(main).value
    assert before == []
    assert done[:2] == [1, 2]
    assert isinstance(failed, ValueError)
    assert kept == 1


@stated(1, "The pool that you *did* get")
def test_an_aiohttp_session_opens_a_hundred_connections():
    """At most, unless its connector is told otherwise."""

    async def main():
        async with aiohttp.ClientSession() as session:
            return session.connector.limit

    assert asyncio.run(main()) == 100


@stated(1, "The pool that you *did* get")
def test_the_total_timeout_runs_while_a_call_waits_for_a_connection():
    """Of two calls over one connection the second times out, and its request was never sent."""
    arrived, come, go = [], asyncio.Event(), asyncio.Event()

    async def hold(request):
        arrived.append(request.path)
        come.set()
        await go.wait()
        return web.Response()

    async def main():
        app = web.Application()
        app.router.add_get("/{name}", hold)
        runner = web.AppRunner(app, shutdown_timeout=0)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        connector = aiohttp.TCPConnector(limit=1)
        try:
            async with aiohttp.ClientSession(url, connector=connector) as session:
                first = asyncio.create_task(session.get("/first"))
                await come.wait()
                with pytest.raises(TimeoutError):
                    await session.get("/second", timeout=aiohttp.ClientTimeout(total=0.05))
                go.set()
                (await first).close()
        finally:
            await runner.cleanup()

    asyncio.run(main())
    assert arrived == ["/first"]


@stated(1, "Event loops in Jupyter")
def test_a_running_loop_refuses_another_one_until_nest_asyncio_patches_it():
    """`asyncio.run` in a running loop raises; patched it answers. In a child: it cannot be undone."""
    program = """
        import asyncio, warnings
        import nest_asyncio

        async def answer():
            return 42

        async def main():
            coroutine = answer()
            try:
                asyncio.run(coroutine)
            except RuntimeError as error:
                coroutine.close()
                refused = str(error)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                nest_asyncio.apply()
            return refused, asyncio.run(answer())

        result = asyncio.run(main())
    """
    refused, answer = asyncio.run(run_child(program, patience=PATIENCE))
    assert "running event loop" in refused
    assert answer == 42


@stated(2, "`max_concurrency` is per call")
def test_limits_of_nested_batches_multiply():
    """Three outside and the same config inside: nine at once."""
    inside, most = [], []

    async def call(_):
        inside.append(1)
        most.append(len(inside))
        await asyncio.sleep(1)
        inside.pop()

    inner = RunnableLambda(call)
    config = {"max_concurrency": 3}

    async def outer(_):
        await inner.abatch(range(6), config)

    simulate(lambda: RunnableLambda(outer).abatch(range(6), config))
    assert max(most) == 9


@stated(2, "The bucket of this course, and others")
def test_langchains_rate_limiter_polls_ten_times_a_second_whatever_the_rate(monkeypatch):
    """It starts empty, and sleeps a tenth of a second before it looks again."""
    slept = []

    async def sleep(seconds):
        slept.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    limiter = InMemoryRateLimiter(requests_per_second=1e9)
    asyncio.run(limiter.aacquire())
    assert set(slept) == {0.1}


@stated(3, "All at once")
def test_abatch_makes_a_task_for_each_item_before_the_first_runs():
    """With `max_concurrency=10`, too."""
    tasks = []

    async def step(_):
        tasks.append(len(asyncio.all_tasks()))
        await asyncio.sleep(0)

    simulate(lambda: RunnableLambda(step).abatch(range(500), {"max_concurrency": 10}))
    assert tasks[0] >= 500


@stated(3, "All at once")
def test_abatch_refuses_a_generator():
    """It has to know how many there are."""

    async def step(item):
        return item

    with pytest.raises(TypeError):
        simulate(lambda: RunnableLambda(step).abatch(item for item in range(3)))


@stated(3, "A chain has barriers, too")
def test_a_chain_takes_each_step_for_the_whole_batch():
    """No item begins the second step before the slowest is through the first."""
    log = []

    def named(name):
        async def step(seconds):
            await asyncio.sleep(seconds)
            log.append((name, seconds))
            return seconds

        return RunnableLambda(step)

    simulate(lambda: (named("first") | named("second")).abatch([1, 9]))
    assert log == [("first", 1), ("first", 9), ("second", 1), ("second", 9)]


class Told(BaseCallbackHandler):
    """Notes what LangChain tells of each step."""

    run_inline = True

    def __init__(self):
        self.starts, self.ends = {}, []

    def on_chain_start(self, *_, run_id, parent_run_id=None, name=None, **__):
        """See `on_chain_end`."""
        self.starts[run_id] = (name, parent_run_id)

    def on_chain_end(self, *_, run_id, **about):
        """Only the run's id tells whose end it is."""
        self.ends.append((self.starts[run_id][0], "name" in about))

    def on_chain_error(self, error, *, run_id, **_):
        """See `on_chain_end`."""
        self.ends.append((self.starts[run_id][0], type(error)))


@stated(5, "One line instead of wrappers")
def test_a_callback_is_told_of_every_step_by_name_also_what_fails_and_what_is_inside_what():
    """A chain of two: three starts, the steps' parent is the chain, three ends."""

    async def find(_):
        return "found"

    async def fail(_):
        raise ValueError("none")

    told = Told()
    chain = RunnableLambda(find) | RunnableLambda(fail)
    with suppress(ValueError):
        simulate(lambda: chain.ainvoke("why?", {"callbacks": [told]}))
    (root, *_), names = told.starts, [name for name, _ in told.starts.values()]
    assert names == ["RunnableSequence", "find", "fail"]
    assert [parent for _, parent in told.starts.values()] == [None, root, root]
    assert told.ends == [("find", False), ("fail", ValueError), ("RunnableSequence", ValueError)]


class Counted(BaseRateLimiter):
    """Counts the permits that it gives."""

    def __init__(self):
        self.permits = 0

    def acquire(self, *, blocking=True):
        """Never refuse."""
        self.permits += 1
        return blocking

    async def aacquire(self, *, blocking=True):
        """Never refuse."""
        return self.acquire(blocking=blocking)


def chat_model(provider, **options):
    """A chat model of OpenAI's on the provider."""
    return ChatOpenAI(base_url=f"{provider.url}/v1", api_key="none", model="any", **options)


@stated(2, "The bucket of this course, and others")
@stated(6, "Retries inside the client")
def test_a_chat_model_takes_a_rate_limiter_and_asks_it_once_for_three_requests(provider):
    """It tries again twice, by itself."""
    limiter = Counted()
    provider.configure(faults=Faults(error=1.0))
    with pytest.raises(InternalServerError):
        chat_model(provider, rate_limiter=limiter).invoke("why?")
    assert (limiter.permits, provider.ledger().requests) == (1, 3)


@stated(6, "One client, two event loops")
def test_chat_models_share_an_http_client_that_belongs_to_the_first_event_loop(provider):
    """A second loop meets connections of a closed one. In a child: it would stay so here."""
    program = """
        import asyncio
        from langchain_openai import ChatOpenAI

        def chat():
            return ChatOpenAI(base_url=url + "/v1", api_key="none", model="any", max_retries=0)

        result = []
        for _ in range(2):
            try:
                asyncio.run(chat().ainvoke("why?"))
                result.append("answered")
            except Exception as error:
                while error.__cause__ is not None:
                    error = error.__cause__
                result.append(str(error))
    """
    first, second = asyncio.run(run_child(program, patience=PATIENCE, url=provider.url))
    assert first == "answered"
    assert "Event loop is closed" in second


class Store(VectorStore):
    """A vector store without asynchronous methods of its own."""

    embeddings = DeterministicFakeEmbedding(size=3)
    threads = ()

    def similarity_search(self, query, k=4, **_):
        """Find nothing, and note where."""
        self.threads = (*self.threads, threading.current_thread().name)
        return []

    @classmethod
    def from_texts(cls, texts, embedding, metadatas=None, **_):
        """Return an empty one."""
        return cls()


@stated(6, "A vector store on the event loop")
def test_a_store_without_asynchronous_methods_runs_in_the_default_pool():
    """So as many searches are under way as it has threads."""
    store = Store()
    asyncio.run(with_pool(1, store.as_retriever().ainvoke("why?")))
    assert [name.startswith("pool") for name in store.threads] == [True]


def test_the_sections_are_there():
    """Each that a test names is a heading of its notebook."""
    for number, section in STATED:
        (source,) = (NOTEBOOKS / "sources").glob(f"{number:02}_*.py")
        assert re.search(rf"^# ##+ {re.escape(section)}$", source.read_text("utf-8"), re.MULTILINE)
