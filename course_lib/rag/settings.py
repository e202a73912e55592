"""What a pipeline is set to, and the provider that the environment names."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from pydantic import SecretStr

from course_lib.checks import require_positive, require_whole
from course_lib.errors import without_credentials

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["STAGES", "Endpoint", "RagSettings", "endpoint_from_environment"]

STAGES: Final = ("embed", "retrieve", "rerank", "generate")
"""The stages that a query passes, in this order; "embed" only where a vector store is searched."""


@dataclass(frozen=True, slots=True)
class RagSettings:
    """How a pipeline answers. It can be compared, kept and sent to other processes.

    Attributes:
        candidates: Passages that retrieval finds.
        passages: Passages, the best of them, that go into the prompt.
        rerank: Whether the candidates are put in order by the provider's `/rerank`.
        prompt_tokens: Tokens of the prompt, at most, by an estimate; see `build_prompt`.
        answer_tokens: Tokens of the answer, at most.
        model: Name of the chat model.
        embedding_model: Name of the model that embeds questions for a vector store.
        attempts: How often a call is made, at most, the first time included.
        timeout: Seconds for one attempt, from when it has passed its gate; of a stream those to its
            first piece, and from each piece to the next.
        budget: Seconds for a query; None for no limit. See `RagPipeline` for what is left out
            when they run short.
        cached: Stages whose results are kept, and fetched once for all who ask at the same time.
        embed_batch: Questions embedded with one call, at most.

    Raises:
        ValueError: A number is out of range, or a stage has another name.
    """

    candidates: int = 20
    passages: int = 5
    rerank: bool = True
    prompt_tokens: int = 2_000
    answer_tokens: int = 200
    model: str = "default"
    embedding_model: str = "default"
    attempts: int = 5
    timeout: float = 30.0
    budget: float | None = None
    cached: tuple[str, ...] = ("retrieve", "rerank", "generate")
    embed_batch: int = 64

    def __post_init__(self) -> None:
        require_whole(
            candidates=self.candidates,
            passages=self.passages,
            prompt_tokens=self.prompt_tokens,
            answer_tokens=self.answer_tokens,
            attempts=self.attempts,
            embed_batch=self.embed_batch,
        )
        require_positive(timeout=self.timeout)
        if self.budget is not None:
            require_positive(budget=self.budget)
        if self.passages > self.candidates:
            raise ValueError(
                f"passages={self.passages} of candidates={self.candidates}: retrieve at least as many"
            )
        if unknown := sorted(set(self.cached) - set(STAGES[1:])):
            raise ValueError(f"cached={unknown[0]!r}: name stages among {', '.join(STAGES[1:])}")


class Endpoint(NamedTuple):
    """Where a provider is.

    Attributes:
        url: Its address, without "/v1".
        key: Its key, which is shown nowhere; None if it wants none.
    """

    url: str
    key: SecretStr | None

    def __repr__(self) -> str:
        return f"Endpoint(url={without_credentials(self.url)!r}, key={self.key!r})"


def endpoint_from_environment(environment: Mapping[str, str] | None = None) -> Endpoint:
    """Return the provider that `COURSE_BASE_URL` names, with the key in `COURSE_API_KEY`.

    Args:
        environment: Where to look; by default the process's own.

    Raises:
        ValueError: `COURSE_BASE_URL` is not set.
    """
    environment = os.environ if environment is None else environment
    url = environment.get("COURSE_BASE_URL", "").strip()
    if not url:
        raise ValueError(
            "COURSE_BASE_URL is not set: set it to an address like https://api.example.com/v1, "
            "and COURSE_API_KEY to its key"
        )
    key = environment.get("COURSE_API_KEY", "").strip()
    return Endpoint(without_version(url), SecretStr(key) if key else None)


def without_version(url: str) -> str:
    """Return an address without the "/v1" that clients of this wire format write or leave out."""
    return url.rstrip("/").removesuffix("/v1").rstrip("/")
