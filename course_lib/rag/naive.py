"""The pipeline as it is usually written first: the baseline to beat."""

from __future__ import annotations

import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from course_lib.async_batch import SyncServiceClient
from course_lib.errors import credentials_of, without_credentials
from course_lib.rag.answer import RagAnswer, Source, StageTiming
from course_lib.rag.prompt import IGNORANCE, build_prompt
from course_lib.rag.settings import RagSettings, without_version

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["naive_rag"]


def naive_rag(
    url: str, questions: Iterable[str], *, settings: RagSettings | None = None
) -> list[RagAnswer]:
    """Answer questions one after the other, with a new client for each call.

    It does the same work as `RagPipeline` with the same settings, and gives the same answers. It
    knows no limit, no cache, no concurrency; the first call that fails ends it, and what was
    answered before is lost. It blocks its thread.

    Args:
        url: Address of the provider. A user and a password in it are sent with each call, and
            shown nowhere.
        questions: What to ask.
        settings: How many passages, and how long prompt and answer may be.

    Returns:
        The answers, in the order of the questions.

    Raises:
        ServiceError: A search failed.
        openai.OpenAIError: The chat model failed; it has tried three times.
    """
    url, settings = without_version(url), settings or RagSettings()
    return [_answer(url, question, settings) for question in questions]


def _answer(url: str, question: str, settings: RagSettings) -> RagAnswer:
    timings: list[StageTiming] = []
    documents = _timed(timings, "retrieve", lambda: _search(url, question, settings))
    if not documents:
        return RagAnswer(question, IGNORANCE, timings=tuple(timings), seconds=_sum(timings))
    if settings.rerank:
        documents = _timed(timings, "rerank", lambda: _rerank(url, question, documents, settings))
    prompt = build_prompt(
        question, documents[: settings.passages], most_tokens=settings.prompt_tokens
    )
    message = _timed(timings, "generate", lambda: _generate(url, prompt.text, settings))
    used = message.usage_metadata or {}
    return RagAnswer(
        question,
        str(message.text),
        sources=tuple(
            Source(str(each.id), each.metadata["title"], each.metadata["score"])
            for each in prompt.documents
        ),
        timings=tuple(timings),
        seconds=_sum(timings),
        input_tokens=used.get("input_tokens", 0),
        output_tokens=used.get("output_tokens", 0),
    )


def _search(url: str, question: str, settings: RagSettings) -> Any:
    with SyncServiceClient(url, timeout=settings.timeout) as client:
        return client.search(question, k=settings.candidates)


def _rerank(url: str, question: str, documents: Any, settings: RagSettings) -> Any:
    with SyncServiceClient(url, timeout=settings.timeout) as client:
        return client.rerank(question, documents, top_n=settings.passages)


def _generate(url: str, prompt: str, settings: RagSettings) -> Any:
    from langchain_openai import ChatOpenAI  # noqa: PLC0415 - some seconds
    from openai import DefaultHttpxClient  # noqa: PLC0415 - with the above
    from pydantic import SecretStr  # noqa: PLC0415 - beside its use

    # User and password go this way, since the model shows its address to callbacks.
    credentials = credentials_of(url)
    with DefaultHttpxClient(auth=credentials) if credentials else nullcontext() as http:
        model = ChatOpenAI(
            base_url=f"{without_credentials(url)}/v1",
            api_key=SecretStr("none"),
            model=settings.model,
            http_client=http,
        )
        return model.invoke(prompt, max_tokens=settings.answer_tokens)


def _timed(timings: list[StageTiming], stage: str, call: Callable[[], Any]) -> Any:
    start = time.perf_counter()
    result = call()
    timings.append(StageTiming(stage, 0.0, time.perf_counter() - start))
    return result


def _sum(timings: list[StageTiming]) -> float:
    return sum(each.service for each in timings)
