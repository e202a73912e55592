"""How good retrieval and answers are, measured on questions whose answers are known.

Relevance is binary: a passage answers a question, or it does not. Every figure is a mean over the
questions, from 0 (nothing right) to 1.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from itertools import islice
from statistics import fmean
from typing import TYPE_CHECKING, Final

from course_lib.batching import amap

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from langchain_core.documents import Document
    from langchain_core.runnables import Runnable

    from course_lib.rag.questions import Question

__all__ = [
    "AnswerQuality",
    "Quality",
    "answer_quality",
    "answers_rightly",
    "cited",
    "cites_rightly",
    "evaluate",
    "ndcg",
    "recall",
    "reciprocal_rank",
    "retrieval_quality",
]

_CITATION: Final = re.compile(r"(?<!\w)\[([^\[\]\n]+)\](?!\()")  # neither x[0] nor a link
_DEPTH: Final = 10
"""Results that nDCG looks at."""


@dataclass(frozen=True, slots=True)
class Quality:
    """How well a retriever finds the passages that answer questions.

    Attributes:
        questions: How many were asked.
        k: Results that recall looks at.
        recall: Share of a question's passages among the first `k` results (recall@k).
        mrr: Mean of 1 / rank of the first that is relevant; 0 where none was returned.
        ndcg: nDCG@10 (see `ndcg`).
    """

    questions: int
    k: int
    recall: float
    mrr: float
    ndcg: float


@dataclass(frozen=True, slots=True)
class AnswerQuality:
    """How well answers answer.

    Attributes:
        questions: How many were asked.
        answer_accuracy: Share of right answers, of the questions for which one is known; None if
            it is known for none.
        citation_accuracy: Share of answers that cite passages which answer the question, and no
            others.
    """

    questions: int
    answer_accuracy: float | None
    citation_accuracy: float


def recall(found: Iterable[str], relevant: Collection[str], k: int) -> float:
    """Return the share of the relevant ids that is among the first `k` found.

    Args:
        found: Ids, best first; one that comes again is passed over.
        relevant: Ids that should be found, at least one.
        k: How many results to look at, at least 1.
    """
    wanted = _wanted(relevant, k)
    return len(wanted.intersection(_first(found, k))) / len(wanted)


def reciprocal_rank(found: Iterable[str], relevant: Collection[str]) -> float:
    """Return 1 / rank of the first relevant id, counted from 1, or 0 if there is none."""
    wanted = _wanted(relevant)
    ranks = (rank for rank, each in enumerate(dict.fromkeys(found), 1) if each in wanted)
    return 1 / next(ranks, math.inf)


def ndcg(found: Iterable[str], relevant: Collection[str], k: int = _DEPTH) -> float:
    """Return the normalised discounted cumulated gain of the first `k` found (nDCG@k).

    A relevant id gains 1 / log2(1 + rank); the sum is divided by that of the best possible order.
    K. Järvelin and J. Kekäläinen, "Cumulated gain-based evaluation of IR techniques" (2002), with
    binary gains and the discount that is usual since, which also lowers the second rank.
    """
    wanted = _wanted(relevant, k)
    gains = [_gain(rank) for rank, each in enumerate(_first(found, k), 1) if each in wanted]
    return math.fsum(gains) / math.fsum(map(_gain, range(1, min(k, len(wanted)) + 1)))


def retrieval_quality(
    results: Sequence[Sequence[str]], questions: Sequence[Question], k: int = 5
) -> Quality:
    """Return the quality of results that are there already.

    Args:
        results: For each question the ids found, best first; 10 or more, for nDCG@10.
        questions: The questions, in the same order.
        k: Results that recall looks at.

    Raises:
        ValueError: There is no question, or not one result for each.
    """
    _check_numbers(results, questions)
    pairs = [(found, each.relevant) for found, each in zip(results, questions, strict=True)]
    return Quality(
        questions=len(questions),
        k=k,
        recall=fmean(recall(found, relevant, k) for found, relevant in pairs),
        mrr=fmean(reciprocal_rank(found, relevant) for found, relevant in pairs),
        ndcg=fmean(ndcg(found, relevant) for found, relevant in pairs),
    )


async def evaluate(
    retriever: Runnable[str, list[Document]],
    questions: Sequence[Question],
    *,
    k: int = 5,
    limit: int = 8,
) -> Quality:
    """Ask a retriever all questions, and return the quality of what it finds.

    Args:
        retriever: Returns documents with ids, best first. Have it return at least 10 (nDCG@10):
            `store.as_retriever(search_kwargs={"k": 10})`.
        questions: What to ask.
        k: Results that recall looks at.
        limit: Questions under way at once.

    Raises:
        ValueError: There is no question, or a document has no id.
        Exception: A search failed: its own error.
    """
    texts = [question.text for question in questions]
    async with amap(retriever, texts, limit=limit, ordered=True) as outcomes:
        results = [[_id(found) for found in outcome.result()] async for outcome in outcomes]
    return retrieval_quality(results, questions, k)


def answers_rightly(answer: str | None, question: Question) -> bool:
    """Return whether an answer contains one of the phrases expected.

    Upper and lower case, line breaks, and Markdown's asterisks and backticks make no difference.
    None, for an answer that failed, is not right.
    """
    said = _plain(answer or "")
    return any(_plain(phrase) in said for phrase in question.answers)


def cited(answer: str | None, among: Collection[str] | None = None) -> tuple[str, ...]:
    """Return the ids that an answer cites in square brackets, as in "... [little-law]", each once.

    Brackets behind a letter or digit (`x[0]`) and those of Markdown links are no citations.

    Args:
        answer: Its text; None for one that failed.
        among: Ids that there are, where answers quote code: `f(x)[1:]` looks like a citation. What
            is none of them is passed over, an id that was made up, too.
    """
    found = dict.fromkeys(each.strip() for each in _CITATION.findall(answer or ""))
    return tuple(each for each in found if among is None or each in among)


def cites_rightly(
    answer: str | None, question: Question, among: Collection[str] | None = None
) -> bool:
    """Return whether an answer cites at least one passage, and only such as answer the question.

    Arguments as for `cited`.
    """
    ids = cited(answer, among)
    return bool(ids) and set(ids) <= set(question.relevant)


def answer_quality(answers: Sequence[str | None], questions: Sequence[Question]) -> AnswerQuality:
    """Return the quality of answers.

    Args:
        answers: The text of the answer to each question; None for one that failed.
        questions: The questions, in the same order.

    Raises:
        ValueError: There is no question, or not one answer for each.
    """
    _check_numbers(answers, questions)
    pairs = list(zip(answers, questions, strict=True))
    known = [answers_rightly(answer, each) for answer, each in pairs if each.answers]
    return AnswerQuality(
        questions=len(questions),
        answer_accuracy=fmean(known) if known else None,
        citation_accuracy=fmean(cites_rightly(answer, each) for answer, each in pairs),
    )


def _gain(rank: int) -> float:
    return 1 / math.log2(1 + rank)


def _first(found: Iterable[str], k: int) -> Iterable[str]:
    return islice(dict.fromkeys(found), k)


def _wanted(relevant: Collection[str], k: int = 1) -> set[str]:
    if k < 1:
        raise ValueError(f"k={k!r}: look at 1 result or more")
    if isinstance(relevant, str) or not relevant:
        raise ValueError(f"relevant={relevant!r}: give the ids of at least one passage, as a list")
    return set(relevant)


def _check_numbers(results: Sequence[object], questions: Sequence[Question]) -> None:
    if not questions or len(results) != len(questions):
        raise ValueError(
            f"{len(results)} results for {len(questions)} questions: give one for each, of one or "
            "more"
        )


def _id(document: Document) -> str:
    if not document.id:
        raise ValueError(
            f"a document without id was found ({document.page_content!r:.60}): give each an id"
        )
    return document.id


def _plain(text: str) -> str:
    return " ".join(re.sub(r"[*`]", "", text).casefold().split())
