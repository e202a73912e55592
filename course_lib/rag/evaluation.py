"""How good a pipeline is, measured before and after every speed-up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from course_lib.async_batch import as_runnable
from course_lib.rag.quality import (
    AnswerQuality,
    Quality,
    answer_quality,
    evaluate,
    retrieval_quality,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from course_lib.rag.answer import RagAnswer
    from course_lib.rag.pipeline import RagPipeline
    from course_lib.rag.questions import Question

__all__ = ["RagQuality", "evaluate_rag", "quality_of"]

_DEPTH: Final = 10
"""Passages retrieved for each question: nDCG@10 looks at as many."""

_ROUNDING: Final = 1e-9


@dataclass(frozen=True, slots=True)
class RagQuality:
    """The quality of a pipeline's answers, and of the passages that they were made from.

    Attributes:
        retrieval: Of the passages.
        answers: Of the answers; one that failed is wrong.
        failed: Share of answers that failed.
        degraded: Share of answers for which something was left out.
    """

    retrieval: Quality
    answers: AnswerQuality
    failed: float
    degraded: float

    def as_good_as(self, other: RagQuality) -> bool:
        """Return whether no figure is worse than another pipeline's."""
        return all(
            mine is None or theirs is None or mine >= theirs - _ROUNDING
            for mine, theirs in zip(self._figures, other._figures, strict=True)
        )

    @property
    def _figures(self) -> tuple[float | None, ...]:
        found, said = self.retrieval, self.answers
        return found.recall, found.mrr, found.ndcg, said.answer_accuracy, said.citation_accuracy


def quality_of(
    answers: Sequence[RagAnswer], questions: Sequence[Question], *, k: int = 5
) -> RagQuality:
    """Return the quality of answers that are there already.

    Retrieval is measured on their sources, so nDCG looks at no more passages than prompts hold.

    Args:
        answers: Answers to the questions, in their order.
        questions: What was asked.
        k: Sources that recall looks at.

    Raises:
        ValueError: There is no question, or not one answer for each.
    """
    sources = [[source.id for source in answer.sources] for answer in answers]
    return _quality(retrieval_quality(sources, questions, k), answers, questions)


async def evaluate_rag(
    pipeline: RagPipeline,
    questions: Sequence[Question],
    *,
    k: int = 5,
    rerank: bool | None = None,
    **options: Any,
) -> RagQuality:
    """Ask an open pipeline all questions, and return its quality.

    Passages are retrieved once more, ten of them, in the way of the pipeline: by words without a
    vector store and with `rerank=False`, by vectors with a store, as a cascade with reranking.

    Args:
        pipeline: What is asked.
        questions: What to ask.
        k: Passages that recall looks at.
        rerank: Whether retrieval is measured with reranking, in place of the pipeline's settings.
        **options: As for `pipeline.batch_rag`.

    Raises:
        ValueError: There is no question.
        ServiceError: Retrieval failed; a failed answer is none.
    """

    async def found(question: str) -> Any:
        return await pipeline.retrieve(question, k=_DEPTH, rerank=rerank)

    retrieval = await evaluate(as_runnable(found), questions, k=k)
    answers = await pipeline.batch_rag([each.text for each in questions], **options)
    return _quality(retrieval, answers, questions)


def _quality(
    retrieval: Quality, answers: Sequence[RagAnswer], questions: Sequence[Question]
) -> RagQuality:
    texts = [answer.text if answer.ok else None for answer in answers]
    return RagQuality(
        retrieval=retrieval,
        answers=answer_quality(texts, questions),
        failed=sum(not answer.ok for answer in answers) / len(answers),
        degraded=sum(bool(answer.degraded) for answer in answers) / len(answers),
    )
