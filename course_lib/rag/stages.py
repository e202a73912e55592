"""The stages of a query: what each calls, behind a gate of its own, and what is kept of it.

A `Stage` calls one endpoint as often as it takes, `Kept` is the cache as stages use it. Upon them
stand `Retrieval`, which finds passages (embed, retrieve, rerank), and `AnswerWriter`, which has the
chat model write the answer (generate).
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass
from functools import lru_cache, partial
from hashlib import sha256
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, TypeVar, cast

from langchain_core.documents import Document
from langchain_core.runnables import Runnable

from course_lib.batching import MicroBatcher
from course_lib.caching import stable_key
from course_lib.errors import BadRequest, TimedOut, Unavailable
from course_lib.rag.chat import Reply
from course_lib.rag.same import LATELY, Same
from course_lib.rag.trace import StageFailed, Trace
from course_lib.rate_limiting import limited
from course_lib.retry import within

if TYPE_CHECKING:
    from collections.abc import (
        AsyncGenerator,
        AsyncIterator,
        Awaitable,
        Callable,
        Collection,
        Hashable,
        Mapping,
        Sequence,
    )
    from types import TracebackType

    from langchain_core.runnables import RunnableConfig

    from course_lib.caching import AsyncCache
    from course_lib.monitoring import PerformanceMonitor
    from course_lib.rag.chat import Chat
    from course_lib.rag.matrix import MatrixVectorStore
    from course_lib.rag.settings import RagSettings
    from course_lib.rate_limiting import Gate

    _Parts = Callable[[], tuple[Hashable, ...]]

__all__ = ["AnswerWriter", "Kept", "Retrieval", "SearchClient", "Stage"]

Result = TypeVar("Result")
_END: Final = object()
_ABSENT: Final = object()
"""What is not kept."""

_TEXTS: Final = 4_096
"""Passages and prompts whose digests are remembered."""

_LONGEST: Final = 600.0
"""Seconds that a stream goes on, at most: for ever it is no answer."""

_SPARE, _LETTERS = 100, 100
"""Letters of a streamed answer, at most, for each of its tokens, and tokens beyond those asked for."""

_BATCHES: Final = 2
"""Batches of questions embedded at once: one is answered while the next one fills."""


class Stage:
    """Calls one endpoint of a provider.

    A call waits at the gate, and then has `timeout` seconds. What was rejected (429), failed (5xx,
    a broken connection) or took too long is tried again, and holds no slot meanwhile; see `limited`.

    Args:
        name: Name of the stage, for traces, monitor and the gate's statistics.
        gate: What each attempt passes.
        attempts: Attempts at most.
        timeout: Seconds for one of them.
        monitor: Counts attempts under the name, with their wait at the gate; or None.
    """

    def __init__(
        self,
        name: str,
        gate: Gate,
        *,
        attempts: int,
        timeout: float,
        monitor: PerformanceMonitor | None,
    ) -> None:
        self.name = name
        self.gate = gate
        self._monitor = monitor
        attempt = _Attempt(name, timeout, monitor)
        self._limited = limited(
            attempt, gate, attempts=attempts, retry_on=(Unavailable, TimedOut), name=name
        )

    async def call(
        self,
        function: Callable[..., Awaitable[Result]],
        *arguments: Any,
        trace: Trace,
    ) -> Result:
        """Return what a coroutine function returns, called as often as it takes.

        Raises:
            ServiceError: The last attempt's.
        """
        return cast("Result", await self._limited.ainvoke(self._job(function, arguments, trace)))

    async def stream(
        self,
        function: Callable[..., AsyncGenerator[Result, None]],
        *arguments: Any,
        trace: Trace,
    ) -> AsyncGenerator[Result, None]:
        """Yield what a generator function yields; tried again only while nothing has come.

        The time for an attempt is that to its first piece, and from each piece to the next. All of
        it has ten minutes, or that time, if it is more.

        Raises:
            ServiceError: The last attempt's.
        """
        stream = self._limited.astream(self._job(function, arguments, trace))
        async with aclosing(cast("AsyncGenerator[Result, None]", stream)) as pieces:
            async for piece in pieces:
                yield piece

    def _job(self, function: Callable[..., Any], arguments: tuple[Any, ...], trace: Trace) -> _Job:
        planned = None if self._monitor is None else self._monitor.now()
        return _Job(function, arguments, trace, planned)


@dataclass(slots=True, eq=False)
class _Job:
    """A call, for as many attempts as it takes.

    Attributes:
        function: What is called.
        arguments: With what.
        trace: The query that it is for.
        planned: When the next attempt would have started without a wait, on the monitor's clock.
    """

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    trace: Trace
    planned: float | None


class _Attempt(Runnable[_Job, Any]):
    """One attempt, as the Runnable that `limited` puts behind the gate."""

    name: str

    def __init__(self, name: str, timeout: float, monitor: PerformanceMonitor | None) -> None:
        self.name = name
        self._timeout = timeout
        self._monitor = monitor

    async def ainvoke(
        self,
        input: _Job,  # noqa: A002 - LangChain's name
        config: RunnableConfig | None = None,  # noqa: ARG002 - the pipeline's run is what is traced
        **_: Any,
    ) -> Any:
        with _Counted(self._monitor, self.name, input):
            return await within(self._timeout, input.function(*input.arguments), self.name)

    async def astream(
        self,
        input: _Job,  # noqa: A002 - LangChain's name
        config: RunnableConfig | None = None,  # noqa: ARG002 - the pipeline's run is what is traced
        **_: Any,
    ) -> AsyncIterator[Any]:
        clock, most = asyncio.get_running_loop().time, max(_LONGEST, self._timeout)
        end = clock() + most
        with _Counted(self._monitor, self.name, input):
            async with aclosing(input.function(*input.arguments)) as pieces:
                while True:
                    if clock() > end:
                        raise TimedOut(f"{self.name} has not come to an end within {most:g} s")
                    piece = await within(self._timeout, anext(pieces, _END), self.name)
                    if piece is _END:
                        return
                    yield piece

    def invoke(self, input: _Job, config: RunnableConfig | None = None, **_: Any) -> Any:  # noqa: A002, ARG002 - LangChain's
        raise TypeError(f"{self.name} has no sync implementation: await it")


class _Counted:
    """An attempt, as its query's trace and the monitor see it."""

    __slots__ = ("_job", "_measured", "_monitor", "_name", "_start")

    def __init__(self, monitor: PerformanceMonitor | None, name: str, job: _Job) -> None:
        self._monitor = monitor
        self._name = name
        self._job = job

    def __enter__(self) -> None:
        self._start = self._job.trace.clock()
        if self._monitor is not None:
            self._measured = self._monitor.measure(self._name, planned=self._job.planned)
            self._measured.__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._monitor is not None:
            self._measured.__exit__(kind, error, traceback)
            self._job.planned = self._monitor.now()
        self._job.trace.called(self._name, self._job.trace.clock() - self._start)


class Kept:
    """A cache as the stages use it.

    Args:
        cache: Where results are kept.
        stages: Which stages' results are.
        scope: What tells this provider and corpus from others in the same cache.
    """

    def __init__(self, cache: AsyncCache, stages: Collection[str], scope: str) -> None:
        self._cache = cache
        self._stages = frozenset(stages)
        self._scope = scope
        self._key = lru_cache(maxsize=_TEXTS)(self._new_key)  # the same questions come again

    def fetch(
        self, stage: str, parts: _Parts, compute: Callable[[], Awaitable[Result]]
    ) -> Awaitable[Result]:
        """Return a stage's result: the one kept, the one on its way, or a new one.

        Args:
            stage: The stage.
            parts: Returns all that the result depends on, besides provider and corpus; to work it
                out costs something, so it is asked for only where the stage's results are kept.
            compute: Fetches it. It goes on when this caller is cancelled and others wait.
        """
        if stage not in self._stages:
            return compute()
        return self._cache.get_or_compute(self._key(stage, parts()), compute)

    async def look(self, stage: str, parts: _Parts) -> Any:
        """Return a stage's result if it is kept, and `_ABSENT` otherwise."""
        if stage not in self._stages:
            return _ABSENT
        return await self._cache.get(self._key(stage, parts()), _ABSENT)

    async def has(self, stage: str, parts: _Parts) -> bool:
        """Return whether a stage's result is kept."""
        return await self.look(stage, parts) is not _ABSENT

    async def keep(self, stage: str, parts: _Parts, result: Any) -> None:
        """Keep a result that came another way, such as piece by piece."""
        if stage in self._stages:
            await self._cache.set(self._key(stage, parts()), result)

    def _new_key(self, stage: str, parts: tuple[Hashable, ...]) -> str:
        return stable_key(self._scope, *parts, namespace=f"rag/{stage}")


class SearchClient(Protocol):
    """A provider's client, as far as passages are found with it: `ServiceClient` is one."""

    async def search(self, query: str, *, k: int) -> list[Document]:
        """Return the `k` passages that fit best."""

    async def rerank(
        self, query: str, documents: Sequence[Document], *, top_n: int | None
    ) -> list[Document]:
        """Return the passages in order, best first."""

    async def embed(self, texts: Sequence[str], *, model: str) -> list[list[float]]:
        """Return a vector for each text."""


class _Embedded(NamedTuple):
    vector: list[float]
    seconds: float
    attempts: int


class Retrieval:
    """Finds passages: by the provider's search, or in a vector store, with the provider's vectors.

    Args:
        client: The provider.
        store: What is searched; None for the provider's own `/search`.
        settings: How many passages, models.
        stages: The remote stages by name.
        kept: Results kept.
    """

    def __init__(
        self,
        client: SearchClient,
        store: MatrixVectorStore | None,
        settings: RagSettings,
        stages: Mapping[str, Stage],
        kept: Kept,
    ) -> None:
        self._client = client
        self._store = store
        self._settings = settings
        self._stages = stages
        self._kept = kept
        alone = settings.embed_batch == 1
        self.batcher: MicroBatcher[str, _Embedded] = MicroBatcher(
            self._embed_together,
            max_size=settings.embed_batch,
            concurrency=stages["embed"].gate.concurrency if alone else _BATCHES,
            isolate=lambda error: isinstance(error, BadRequest),
            name="embed",
        )

    async def best(self, question: str, k: int, *, rerank: bool) -> list[Document]:
        """Return the `k` passages that fit a question best, as copies.

        Args:
            question: The question.
            k: How many.
            rerank: Whether the candidates are put in order by the reranker.

        Raises:
            ServiceError: A stage failed.
        """
        trace = Trace()
        try:
            found = await self.candidates(question, max(k, self._settings.candidates), trace)
            if found and rerank:
                found = await self.ranked(question, found, k, trace)
        except StageFailed as failed:
            raise failed.error from None
        return [each.model_copy(deep=True) for each in found[:k]]

    async def candidates(self, question: str, k: int, trace: Trace) -> tuple[Document, ...]:
        """Return the `k` passages that fit a question best, best first."""

        def parts() -> tuple[Hashable, ...]:
            store = self._store
            way = None if store is None else (self._settings.embedding_model, *store.version)
            return question, k, way

        async def find() -> tuple[Document, ...]:
            return tuple(await self._found(question, k, trace))

        return await self._kept.fetch("retrieve", parts, find)

    async def ranked(
        self, question: str, documents: Sequence[Document], top_n: int, trace: Trace
    ) -> tuple[Document, ...]:
        """Return the best `top_n` of some passages, in the order of the reranker."""

        async def rank() -> tuple[Document, ...]:
            return tuple(
                await self._stages["rerank"].call(
                    lambda: self._client.rerank(question, documents, top_n=top_n), trace=trace
                )
            )

        parts = partial(_ranking, question, documents, top_n)
        return await self._kept.fetch("rerank", parts, rank)

    async def ranking_is_kept(
        self, question: str, documents: Sequence[Document], top_n: int
    ) -> bool:
        """Return whether `ranked` would make no call."""
        return await self._kept.has("rerank", partial(_ranking, question, documents, top_n))

    async def _found(self, question: str, k: int, trace: Trace) -> list[Document]:
        store = self._store
        if store is None:
            return await self._stages["retrieve"].call(
                lambda: self._client.search(question, k=k), trace=trace
            )
        with trace.within("embed"):
            embedded = await self.batcher(question)
        trace.called("embed", embedded.seconds, embedded.attempts)
        clock = asyncio.get_running_loop().time
        start = clock()
        found = await store.asimilarity_search_with_score_by_vector(embedded.vector, k=k)
        trace.called("retrieve", clock() - start)
        return [_scored(document, score) for document, score in found]

    async def _embed_together(self, questions: list[str]) -> list[_Embedded]:
        together = Trace()
        vectors = await self._stages["embed"].call(
            lambda: self._client.embed(questions, model=self._settings.embedding_model),
            trace=together,
        )
        seconds, attempts = together.service["embed"], together.calls["embed"]
        return [_Embedded(vector, seconds, attempts) for vector in vectors]


class AnswerWriter:
    """Asks a chat model, unless its answer is kept.

    Args:
        chat: What is asked.
        model: Its name, which answers depend on.
        stage: The remote stage.
        kept: Results kept.
    """

    def __init__(self, chat: Chat, model: str, stage: Stage, kept: Kept) -> None:
        self._chat = chat
        self._model = model
        self._stage = stage
        self._kept = kept

    async def reply(
        self, prompt: str, most: int, trace: Trace, config: RunnableConfig | None
    ) -> Reply:
        """Return the answer to a prompt, of at most so many tokens."""

        async def ask() -> tuple[str, int, int]:
            call = self._stage.call(self._chat.reply, prompt, most, config, trace=trace)
            text, put_in, put_out = await call
            return text, put_in, put_out  # a plain tuple, which any store can hold

        return Reply(*await self._kept.fetch("generate", partial(self._parts, prompt, most), ask))

    async def pieces(
        self, prompt: str, most: int, trace: Trace, config: RunnableConfig | None
    ) -> AsyncGenerator[Reply, None]:
        """Yield the answer as it is written; one that is kept comes in one piece.

        Each caller has a stream of their own. One that comes to its end is kept.

        Raises:
            Unavailable: It comes to none: it is far longer than what was asked for.
        """
        parts = partial(self._parts, prompt, most)
        kept = await self._kept.look("generate", parts)
        if kept is not _ABSENT:
            yield Reply(*kept)
            return
        whole = Reply()
        stream = self._stage.stream(self._chat.pieces, prompt, most, config, trace=trace)
        left = _LETTERS * (most + _SPARE)
        async with aclosing(stream) as pieces:
            async for piece in pieces:
                left -= max(1, len(piece.text))
                if left < 0:
                    raise Unavailable(f"the answer has no end: {most} tokens of it were asked for")
                whole = whole.plus(piece)
                yield piece
        await self._kept.keep("generate", parts, tuple(whole))

    async def is_kept(self, prompt: str, most: int) -> bool:
        """Return whether `reply` would make no call."""
        return await self._kept.has("generate", partial(self._parts, prompt, most))

    def _parts(self, prompt: str, most: int) -> tuple[Hashable, ...]:
        return self._model, most, _digest(prompt)


def _scored(document: Document, score: float) -> Document:
    return Document(
        id=document.id,
        page_content=document.page_content,
        metadata={**document.metadata, "score": score},
    )


def _ranking(question: str, documents: Sequence[Document], top_n: int) -> tuple[Hashable, ...]:
    """Return all that a ranking depends on."""
    return question, top_n, _digest_of_all(Same(documents))


@lru_cache(maxsize=LATELY)
def _digest_of_all(documents: Same[Document]) -> str:
    """Return what stands for passages in a key: the texts by their digest, since keys are short."""
    ids_and_texts = ((str(each.id), _digest(each.page_content)) for each in documents.sequence)
    return _digest("\0".join(chain.from_iterable(ids_and_texts)))


@lru_cache(maxsize=_TEXTS)
def _digest(text: str) -> str:
    """Return what stands for a text in a key. Texts come again and again, so it is worked out once."""
    return sha256(text.encode(errors="surrogatepass")).hexdigest()
