"""LangChain's side of the pipeline: one question, a batch, a stream, with callbacks."""

from __future__ import annotations

from abc import abstractmethod
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from langchain_core.runnables import Runnable
from langchain_core.runnables.config import get_config_list

from course_lib.batching import amap
from course_lib.rag.answer import RagAnswer

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from langchain_core.runnables import RunnableConfig

    from course_lib.batching import Outcome
    from course_lib.rag.query import Query

__all__ = ["AnsweringRunnable"]


class AnsweringRunnable(Runnable[str, RagAnswer]):
    """A Runnable that answers questions by queries; callbacks see each as a run."""

    @abstractmethod
    def _query(self, question: str, budget: float | None, config: RunnableConfig | None) -> Query:
        """Return a query, with the seconds that it has; `budget=None` for as many as usual."""

    @abstractmethod
    def _measured(self) -> Any:
        """Return a context manager that counts a query."""

    @property
    @abstractmethod
    def _window(self) -> int:
        """How many queries are to be under way at once."""

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

        stream = self._atransform_stream_with_config(
            question(),
            self._stream,  # type: ignore[arg-type] # given by name what it takes
            config,
            **kwargs,
        )
        async with aclosing(stream) as pieces:  # type: ignore[type-var] # a generator
            async for piece in pieces:
                yield piece

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

    async def _answer(
        self, question: str, config: RunnableConfig, *, budget: float | None = None
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


def _value(outcome: Outcome[RagAnswer]) -> Any:
    return outcome.value if outcome.ok else outcome.error
