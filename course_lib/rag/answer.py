"""What a question is answered with: text, sources, and an account of how it came about."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Failure", "RagAnswer", "Source", "StageTiming"]


@dataclass(frozen=True, slots=True)
class Source:
    """A passage that was in the prompt.

    Attributes:
        id: Its id, as answers cite it.
        title: Its title; "" if it has none.
        score: How well it fits the question, by the last stage that ranked it: only scores of one
            answer can be compared.
    """

    id: str
    title: str
    score: float


@dataclass(frozen=True, slots=True)
class StageTiming:
    """Where the time of one stage went.

    Attributes:
        stage: "embed", "retrieve", "rerank" or "generate".
        wait: Seconds in which nobody worked for this query: in line for a gate, for a batch, between
            attempts, or for a call that another query had begun.
        service: Seconds in which the provider (or the local search) worked, all attempts together.
    """

    stage: str
    wait: float
    service: float


@dataclass(frozen=True, slots=True)
class Failure:
    """Why there is no answer.

    Attributes:
        stage: The stage that failed.
        kind: Name of the error's class, such as "Unavailable".
        reason: Its message.
    """

    stage: str
    kind: str
    reason: str

    def __str__(self) -> str:
        return f"{self.stage}: {self.kind}: {self.reason}"


@dataclass(frozen=True, slots=True)
class RagAnswer:
    """The answer to one question, or the reason why there is none.

    It holds plain values only, so that it can be compared, pickled and sent to another process.

    Attributes:
        question: What was asked.
        text: The answer; "" if it failed (or, streamed, as much as came).
        sources: Passages that it was made from, best first.
        timings: Seconds by stage, in the order of the stages; a stage that was not run is missing.
        seconds: Seconds from question to answer.
        first_token: Seconds from question to the first piece of the answer; None unless streamed.
        from_cache: Stages for which this query made no call: their result was kept, or was being
            fetched for another query.
        retries: Calls made again for this query.
        degraded: What was left out or failed on the way, in that order: "rerank" (not reranked),
            "passages" (fewer of them), "length" (a shorter answer).
        input_tokens: Tokens of the prompt, as the provider counts; 0 if it does not say.
        output_tokens: Tokens of the answer, likewise. Both are what the answer once cost, also
            where it came from a cache.
        error: What went wrong; None if there is an answer.
    """

    question: str
    text: str = ""
    sources: tuple[Source, ...] = ()
    timings: tuple[StageTiming, ...] = ()
    seconds: float = 0.0
    first_token: float | None = None
    from_cache: tuple[str, ...] = ()
    retries: int = 0
    degraded: tuple[str, ...] = ()
    input_tokens: int = 0
    output_tokens: int = 0
    error: Failure | None = None

    @property
    def ok(self) -> bool:
        """Whether there is an answer."""
        return self.error is None

    @property
    def tokens(self) -> int:
        """Tokens of prompt and answer together."""
        return self.input_tokens + self.output_tokens

    def timing(self, stage: str) -> StageTiming:
        """Return the timing of a stage, zeros for one that was not run."""
        return next(
            (each for each in self.timings if each.stage == stage), StageTiming(stage, 0.0, 0.0)
        )
