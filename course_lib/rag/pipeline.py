"""Retrieve, rerank, generate: many questions at once, through the five techniques of the course."""

from __future__ import annotations

from contextlib import aclosing, nullcontext
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from langchain_core.runnables import Runnable
from langchain_core.runnables.config import get_config_list, merge_configs

from course_lib.batching import amap
from course_lib.caching import AsyncCache
from course_lib.checks import require_positive, require_whole
from course_lib.rag.answer import RagAnswer
from course_lib.rag.assembly import Assembly, gates_by_stage, places, require_names
from course_lib.rag.budget import Budget
from course_lib.rag.query import Query
from course_lib.rag.settings import RagSettings, endpoint_from_environment
from course_lib.unwatched import unwatched

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Mapping
    from typing import Self

    from langchain_core.documents import Document
    from langchain_core.runnables import RunnableConfig
    from pydantic import SecretStr

    from course_lib.batching import Outcome
    from course_lib.monitoring import PerformanceMonitor
    from course_lib.rag.matrix import MatrixVectorStore
    from course_lib.rate_limiting import Gate

__all__ = ["RagPipeline"]

_KEPT: Final = 10_000
_HOUR: Final = 3600.0
_AHEAD: Final = 2
"""Queries under way for each slot of the gates, so that none is idle while others wait for theirs."""


class RagPipeline(Runnable[str, RagAnswer]):
    """Answers questions from passages: one Runnable, a question in, a `RagAnswer` out.

        async with RagPipeline(provider.url) as pipeline:
            answer = await pipeline.high_performance_rag("What does Little's law say?")
            answers = await pipeline.batch_rag(questions)

    - **Retrieve** `settings.candidates` passages by the provider's `/search`, or in a vector store,
      where questions that come together are embedded together. **Rerank** them by `/rerank`.
      **Generate** the answer from the best `settings.passages` that fit into the prompt.
    - One HTTP session and one chat model for its life, opened and closed by `async with`.
    - Each remote stage waits at a gate of its own. After a 429 all of the stage hold back together;
      what was rejected, failed or took too long is tried again without a slot in the meantime.
    - Results of the stages are kept, and fetched once for all who ask at the same time: an empty
      one like any other. Failures are not.
    - **A failed query is a failed answer**: `answer.error` has stage and reason, and the others are
      not touched. Cancelling a query cancels its calls, except those that others wait for, too.
    - With a `budget`, what there is no time for is left out, in this order: the reranking (also in
      the middle of it), then all but two passages, then three quarters of the answer's length. The
      answer's `degraded` says so. What is kept takes no time, and is used in any case. When all
      the time is used up, the answer is a failure that names the stage.

    Args:
        provider: Address of the provider, with or without "/v1"; or an open client with the
            methods of `ServiceClient`, which stays open.
        store: A vector store to retrieve from, in place of the provider's `/search`. Its questions
            are embedded by the provider's `/v1/embeddings`, and must be so by the same model as its
            documents were.
        settings: How it answers.
        chat: "openai" for a `ChatOpenAI`; "lean" for the provider's client itself, which costs a
            tenth of the CPU; or a chat model of your own. Where a `cache` is given, too, name it by
            `RagSettings(model=...)`.
        gates: Gates by stage ("embed", "retrieve", "rerank", "generate"), to limit rates or to
            share limits with others. A stage without one gets one of 32 slots.
        cache: Where results are kept, perhaps shared with others; by default one of its own, in
            memory, for an hour.
        corpus: What tells these passages from others in a shared cache: change it when they change.
            Needed where `cache` is given beside a store.
        monitor: Counts "rag" (whole queries) and the attempts of each stage.
        key: The provider's key; shown nowhere and part of no cache key.

    Attributes:
        settings: As given.
        gates: The gates by stage.
        cache: Where results are kept.
        monitor: As given, or None.

    Raises:
        ValueError: `provider` is no address, a gate's stage is unknown, or a name is missing that
            tells passages or chat models apart in a cache.
        TypeError: An argument is of another kind.
    """

    def __init__(
        self,
        provider: str | Any,
        *,
        store: MatrixVectorStore | None = None,
        settings: RagSettings | None = None,
        chat: Literal["openai", "lean"] | Runnable[Any, Any] = "openai",
        gates: Mapping[str, Gate] | None = None,
        cache: AsyncCache | None = None,
        corpus: str | None = None,
        monitor: PerformanceMonitor | None = None,
        key: SecretStr | None = None,
    ) -> None:
        self.settings = settings or RagSettings()
        if cache is not None:
            require_names(store, corpus, chat, self.settings)
        self.gates = gates_by_stage(gates)
        self.cache = AsyncCache(ttl=_HOUR, maxsize=_KEPT) if cache is None else cache
        self.monitor = monitor
        self._assembly = Assembly(
            provider,
            store=store,
            settings=self.settings,
            chat=chat,
            gates=self.gates,
            cache=self.cache,
            corpus=corpus,
            monitor=monitor,
            key=key,
        )

    @classmethod
    def from_environment(
        cls, store: MatrixVectorStore, *, settings: RagSettings | None = None, **options: Any
    ) -> Self:
        """Return a pipeline on the provider that `COURSE_BASE_URL` and `COURSE_API_KEY` name.

        Any provider with this wire format will do. Few of them search or rerank, so passages come
        from the store, and by default their order stays.

        Args:
            store: The passages, embedded by the model that the settings name.
            settings: How it answers; by default without reranking.
            **options: As for the class.

        Raises:
            ValueError: `COURSE_BASE_URL` is not set.
        """
        url, key = endpoint_from_environment()
        settings = settings or RagSettings(rerank=False)
        return cls(url, store=store, settings=settings, key=key, **options)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._assembly!r}>"

    async def __aenter__(self) -> Self:
        await self._assembly.open()
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self._assembly.close(*raised)

    async def high_performance_rag(self, query: str, *, budget: float | None = None) -> RagAnswer:
        """Return the answer to a question, without LangChain's bookkeeping.

        Args:
            query: The question.
            budget: Seconds for it, in place of the settings'.

        Raises:
            TypeError: `query` is not a string.
            RuntimeError: The pipeline is not open, or was opened in another event loop.
        """
        return await self._answer(query, None, budget=budget)

    async def batch_rag(
        self, queries: Iterable[str], *, limit: int | None = None, budget: float | None = None
    ) -> list[RagAnswer]:
        """Return the answers to many questions, in their order; arguments as for `answers`."""
        stream = self.answers(queries, limit=limit, budget=budget, ordered=True)
        async with aclosing(stream) as answers:
            return [answer async for answer in answers]

    async def answers(
        self,
        queries: Iterable[str] | AsyncIterable[str],
        *,
        limit: int | None = None,
        budget: float | None = None,
        ordered: bool = False,
    ) -> AsyncGenerator[RagAnswer, None]:
        """Yield the answers to any number of questions, as they come.

        It holds no more of them than are under way and not fetched. Who stops early closes it,
        `async with contextlib.aclosing(...)`: then what is under way is cancelled.

        Args:
            queries: The questions, which may be endless.
            limit: Questions under way at once; by default two for each slot of the gates.
            budget: Seconds for each, from its start, in place of the settings'.
            ordered: Whether to yield them in the order of the questions.

        Raises:
            TypeError: A question is not a string.
            ValueError: A number is out of range.
            RuntimeError: The pipeline is not open, or was opened in another event loop.
        """

        async def answer(question: str) -> RagAnswer:
            return await self.high_performance_rag(question, budget=budget)

        self._assembly.parts()
        limit = self._window if limit is None else limit
        async with amap(answer, queries, limit=limit, ordered=ordered) as outcomes:
            async for outcome in outcomes:
                yield outcome.result()

    async def retrieve(
        self, query: str, *, k: int | None = None, rerank: bool | None = None
    ) -> list[Document]:
        """Return the passages that fit a question best, best first, without an answer.

        Args:
            query: The question.
            k: How many; by default as many as go into a prompt.
            rerank: Whether to rerank the candidates, in place of the settings'.

        Raises:
            TypeError: `query` is not a string.
            ValueError: `k` is below 1.
            ServiceError: A stage failed.
            RuntimeError: The pipeline is not open, or was opened in another event loop.
        """
        retrieval, settings = self._assembly.parts().retrieval, self.settings
        k = settings.passages if k is None else k
        require_whole(k=k)
        rerank = settings.rerank if rerank is None else rerank
        return await retrieval.best(_checked(query), k, rerank=rerank)

    # --- as a Runnable: LangChain's side, where callbacks see a run for each question -------------

    async def ainvoke(
        self,
        input: str,  # noqa: A002 - LangChain's name
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> RagAnswer:
        """Return the answer to a question; callbacks see a run, with that of the chat model in it.

        Args:
            input: The question.
            config: Callbacks and the like.
            **kwargs: `budget`, as for `high_performance_rag`.
        """
        inherited = unwatched(config)
        if inherited is not None:
            return await self._answer(input, inherited, **kwargs)
        return await self._acall_with_config(
            self._answer,  # type: ignore[arg-type] # given by name what it takes
            input,
            config,
            **kwargs,
        )

    async def astream(
        self,
        input: str,  # noqa: A002 - LangChain's name
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[Any]:
        """Yield the answer's text piece by piece as it is written (str), then the `RagAnswer`.

            async for piece in pipeline.astream(question):
                print(piece if isinstance(piece, str) else piece.sources)

        Arguments as for `ainvoke`. A step behind it in a chain gets the `RagAnswer`.
        """
        if unknown := sorted(set(kwargs) - {"budget"}):
            raise TypeError(f"astream() got an unexpected keyword argument {unknown[0]!r}")

        async def question() -> AsyncIterator[str]:
            yield input

        inherited = unwatched(config)
        if inherited is not None:
            stream = self._stream(question(), inherited, **kwargs)
        else:
            stream = self._atransform_stream_with_config(  # type: ignore[assignment] # a generator
                question(),
                self._stream,  # type: ignore[arg-type] # given by name what it takes
                config,
                **kwargs,
            )
        async with aclosing(stream) as pieces:
            async for piece in pieces:
                yield piece

    async def atransform(
        self,
        input: AsyncIterator[str],  # noqa: A002 - LangChain's name
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[Any]:
        """Do as `astream` does, once the question is whole; closed early, it closes that stream."""
        pieces = [piece async for piece in input]
        if not pieces:
            return
        question = pieces[0] if len(pieces) == 1 else "".join(pieces)
        stream = cast("AsyncGenerator[Any, None]", self.astream(question, config, **kwargs))
        async with aclosing(stream) as answered:
            async for each in answered:
                yield each

    def invoke(
        self,
        input: str,  # noqa: A002, ARG002 - LangChain's name
        config: RunnableConfig | None = None,  # noqa: ARG002 - LangChain's interface
        **kwargs: Any,  # noqa: ARG002 - LangChain's interface
    ) -> RagAnswer:
        """Refuse: what it is made of lives in an event loop.

        Raises:
            TypeError: Always; the message says what to call.
        """
        raise TypeError(
            "RagPipeline has no sync implementation: `await pipeline.ainvoke(...)`, or from sync "
            "code `run_sync(ask())`, where `ask` opens the pipeline, too"
        )

    async def abatch(
        self,
        inputs: list[str],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[RagAnswer]:
        """Return the answers to many questions, in their order, with callbacks for each.

        `max_concurrency` of the config bounds how many are under way; by default as in `answers`.
        Since a failed query is an answer, `return_exceptions` is for what is no question.
        """
        pairs = list(zip(inputs, get_config_list(config, len(inputs)), strict=True))

        async def answer(pair: tuple[str, RunnableConfig]) -> RagAnswer:
            return await self.ainvoke(pair[0], pair[1], **kwargs)

        limit = (pairs[0][1].get("max_concurrency") if pairs else None) or self._window
        async with amap(
            answer, pairs, limit=limit, ordered=True, return_exceptions=return_exceptions
        ) as outcomes:
            return [_value(outcome) async for outcome in outcomes]

    # --- beneath both -------------------------------------------------------------------------

    async def _answer(
        self, question: str, config: RunnableConfig | None, *, budget: float | None = None
    ) -> RagAnswer:
        with self._measured():
            return await self._query(question, budget, config).answer()

    async def _stream(
        self,
        questions: AsyncIterator[str],
        config: RunnableConfig,
        *,
        budget: float | None = None,
    ) -> AsyncGenerator[Any, None]:
        question = await anext(questions)
        with self._measured():
            query = self._query(question, budget, config)
            async with aclosing(query.stream()) as pieces:
                async for piece in pieces:
                    yield piece

    def _query(self, question: str, budget: float | None, config: RunnableConfig | None) -> Query:
        parts = self._assembly.parts()
        if budget is not None:
            require_positive(budget=budget)
        seconds = self.settings.budget if budget is None else budget
        budgeted = Budget(seconds, parts.pace)
        return Query(_checked(question), parts, budgeted, self._watched(config))

    def _watched(self, config: RunnableConfig | None) -> RunnableConfig | None:
        """Add the monitor, so that it sees the chat model's first tokens."""
        if self.monitor is None:
            return config
        return merge_configs(config, {"callbacks": [self.monitor.callback]})

    def _measured(self) -> Any:
        return nullcontext() if self.monitor is None else self.monitor.measure("rag")

    @property
    def _window(self) -> int:
        return _AHEAD * places(self.gates)


def _checked(question: Any) -> str:
    if not isinstance(question, str):
        raise TypeError(f"question={question!r:.80} is not a string: ask in words")
    return question


def _value(outcome: Outcome[RagAnswer]) -> Any:
    return outcome.value if outcome.ok else outcome.error
