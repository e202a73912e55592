"""The way of one query through the stages."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

from course_lib.errors import TimedOut
from course_lib.rag.answer import Failure, RagAnswer, Source
from course_lib.rag.budget import until
from course_lib.rag.chat import Reply
from course_lib.rag.prompt import IGNORANCE, build_prompt
from course_lib.rag.same import LATELY, Same
from course_lib.rag.trace import StageFailed, Trace

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from langchain_core.documents import Document
    from langchain_core.runnables import RunnableConfig

    from course_lib.rag.budget import Budget, Pace
    from course_lib.rag.prompt import Prompt
    from course_lib.rag.settings import RagSettings
    from course_lib.rag.stages import AnswerWriter, Retrieval

__all__ = ["Parts", "Query"]

FEW_PASSAGES: Final = 2
"""Passages in the prompt when time is short."""

SHORTENED: Final = 4
"""An answer is this many times shorter when time is very short."""

_BARELY: Final = 0.5
"""Share of the expected time below which fewer passages are thought not to be enough."""


class Parts(NamedTuple):
    """What queries share.

    Attributes:
        settings: How they are answered.
        retrieval: Finds passages.
        writer: Writes answers.
        pace: What stages take.
        clean: Takes secrets out of a message.
    """

    settings: RagSettings
    retrieval: Retrieval
    writer: AnswerWriter
    pace: Pace
    clean: Callable[[str], str]


class Query:
    """One question on its way to its answer. Errors become answers that say so.

    Args:
        question: What is asked.
        parts: What queries share.
        budget: Its time.
        config: Passed on to the chat model; or None.
    """

    def __init__(
        self, question: str, parts: Parts, budget: Budget, config: RunnableConfig | None
    ) -> None:
        self._question = question
        self._parts = parts
        self._budget = budget
        self._config = config
        self._trace = Trace()
        self._sources: tuple[Source, ...] = ()
        self._most = parts.settings.answer_tokens
        self._reply = Reply()
        self._first_token: float | None = None

    async def answer(self) -> RagAnswer:
        """Return the answer, whole."""
        try:
            async with until(self._budget.end):
                prompt = await self._prompt()
                self._reply = await self._written(prompt) if prompt else Reply(IGNORANCE)
        except (StageFailed, TimeoutError) as error:
            return self._answer(self._failure(error))
        return self._answer()

    async def stream(self) -> AsyncGenerator[str | RagAnswer, None]:
        """Yield the answer's text as it is written, and at the end the whole answer."""
        error: Failure | None = None
        try:
            async with until(self._budget.end):
                prompt = await self._prompt()
            async with aclosing(self._pieces(prompt)) as pieces:
                async for piece in pieces:
                    if piece.text:
                        if self._first_token is None:
                            self._first_token = self._trace.seconds
                        yield piece.text
        except (StageFailed, TimeoutError) as failed:
            error = self._failure(failed)
        yield self._answer(error)

    # --- finding passages ----------------------------------------------------------------------

    async def _prompt(self) -> Prompt | None:
        """Return the prompt; None if there is no passage."""
        with self._trace.within("retrieve"):
            retrieval, settings = self._parts.retrieval, self._parts.settings
            found = await retrieval.candidates(self._question, settings.candidates, self._trace)
        self._observe("retrieve")
        if not found:
            return None
        ranked = await self._ranked(found) if settings.rerank else found
        return await self._fitting(ranked)

    async def _ranked(self, found: Sequence[Document]) -> Sequence[Document]:
        """Put passages in order, unless there is no time for it."""
        question, top_n = self._question, self._parts.settings.passages
        retrieval, enough = self._parts.retrieval, self._budget.suffices("rerank", "generate")
        if enough or await retrieval.ranking_is_kept(question, found, top_n):
            with suppress(TimeoutError):
                async with until(self._budget.latest("generate")):
                    with self._trace.within("rerank"):
                        ranked = await retrieval.ranked(question, found, top_n, self._trace)
                    self._observe("rerank")
                    return ranked
            self._trace.stage = ""  # what it was broken off in is done with
            self._parts.pace.observe("rerank", self._trace.elapsed("rerank"))
        self._trace.degraded.append("rerank")
        return found

    async def _fitting(self, ranked: Sequence[Document]) -> Prompt:
        """Return the prompt that there is time for."""
        settings, enough = self._parts.settings, self._budget.suffices
        prompt = self._built(ranked, settings.passages)
        if enough("generate") or await self._parts.writer.is_kept(prompt.text, self._most):
            return prompt
        if len(prompt.documents) > FEW_PASSAGES:
            self._trace.degraded.append("passages")
            prompt = self._built(ranked, FEW_PASSAGES)
        if not enough("generate", share=_BARELY):
            self._trace.degraded.append("length")
            self._most = max(1, self._most // SHORTENED)
        return prompt

    def _built(self, documents: Sequence[Document], few: int) -> Prompt:
        most = self._parts.settings.prompt_tokens
        try:
            prompt, self._sources = _prompt_of(self._question, Same(documents), few, most)
        except ValueError as error:
            raise StageFailed("generate", error) from error
        return prompt

    # --- writing the answer --------------------------------------------------------------------

    async def _written(self, prompt: Prompt) -> Reply:
        with self._trace.within("generate"):
            reply = await self._parts.writer.reply(
                prompt.text, self._most, self._trace, self._config
            )
        self._observe("generate")
        return reply

    async def _pieces(self, prompt: Prompt | None) -> AsyncGenerator[Reply, None]:
        """Yield the answer in pieces, and note what has come; the budget bounds each wait."""
        if prompt is None:
            self._reply = Reply(IGNORANCE)
            yield self._reply
            return
        with self._trace.within("generate"):
            stream = self._parts.writer.pieces(prompt.text, self._most, self._trace, self._config)
            async with aclosing(stream) as pieces:
                while (piece := await self._next(pieces)) is not None:
                    self._reply = self._reply.plus(piece)
                    yield piece
        self._observe("generate")

    async def _next(self, pieces: AsyncGenerator[Reply, None]) -> Reply | None:
        try:
            async with asyncio.timeout_at(self._budget.end) as limit:
                return await anext(pieces, None)
        except TimeoutError as error:
            raise (self._used_up() if limit.expired() else error) from None

    # --- what is told of it --------------------------------------------------------------------

    def _observe(self, stage: str) -> None:
        """Learn from a stage for which calls were made."""
        if stage in self._trace.calls:
            self._parts.pace.observe(stage, self._trace.elapsed(stage))

    def _failure(self, error: StageFailed | TimeoutError) -> Failure:
        if not isinstance(error, StageFailed):
            error = StageFailed(self._trace.stage, self._used_up())
        kind = type(error.error).__name__
        return Failure(error.stage, kind, self._parts.clean(str(error.error) or kind))

    def _used_up(self) -> TimedOut:
        return TimedOut(f"the query's budget of {self._budget.seconds:g} s is used up")

    def _answer(self, error: Failure | None = None) -> RagAnswer:
        trace = self._trace
        return RagAnswer(
            question=self._question,
            text=self._reply.text,
            sources=self._sources,
            timings=trace.timings,
            seconds=trace.seconds,
            first_token=self._first_token,
            from_cache=trace.from_cache,
            retries=trace.retries,
            degraded=tuple(trace.degraded),
            input_tokens=self._reply.input_tokens,
            output_tokens=self._reply.output_tokens,
            error=error,
        )


@lru_cache(maxsize=LATELY)
def _prompt_of(
    question: str, documents: Same[Document], few: int, most: int
) -> tuple[Prompt, tuple[Source, ...]]:
    prompt = build_prompt(question, documents.sequence[:few], most_tokens=most)
    return prompt, tuple(map(_source, prompt.documents))


def _source(document: Document) -> Source:
    about = document.metadata
    return Source(
        id=str(document.id), title=str(about.get("title", "")), score=float(about.get("score", 0.0))
    )
