"""The provider in virtual time: its own engine on the running loop's clock, without HTTP."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from course_lib.errors import BadRequest, RateLimited, Unavailable
from course_lib.service import (
    Admitted,
    Behaviour,
    Dropped,
    Engine,
    Failed,
    Ledger,
    Rejected,
    TooLarge,
)
from course_lib.service.knowledge import count_tokens

__all__ = ["VirtualProvider"]


class VirtualProvider:
    """Treats calls as the real provider does, for programs that run in `simulate`.

    Time, limits and faults are the real engine's; answers are labels, so that a program can be
    followed by them. Make one for each simulation: its clock is the simulation's, which starts
    at 0.

    Args:
        behaviour: Fields of `service.Behaviour`: `latency`, `rate_limit`, `capacity`, `faults`,
            `token_limit`, `generation`, `endpoints`.

    Raises:
        ValueError: A field is unknown or out of range.
    """

    def __init__(self, **behaviour: Any) -> None:
        self._engine = Engine(Behaviour().updated(**behaviour))

    def configure(self, *, path: str | None = None, **changes: Any) -> None:
        """Change what is named, from the next call on; `None` switches a part off.

        Args:
            path: Endpoint that this is for, such as "/rerank"; from then on it has a behaviour of
                its own. Without it, for all endpoints that have none.
            **changes: Fields of `service.Behaviour`.
        """
        self._engine.behaviour = self._engine.behaviour.updated(path, **changes)

    async def search(self, query: str) -> str:
        """Return an answer to `query`, after the time that it takes.

        Raises:
            RateLimited: The provider refused the call.
            Unavailable: It failed.
        """
        async with self._admitted("/search", query):
            return f"answer to {query}"

    async def rerank(self, query: str, documents: Sequence[str]) -> list[str]:
        """Return the documents, last one first; errors as in `search`."""
        async with self._admitted("/rerank", query):
            return list(reversed(documents))

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """Return a vector for each text, of its length in characters; errors as in `search`."""
        asked = sum(map(count_tokens, texts))
        async with self._admitted("/v1/embeddings", "\n".join(texts), tokens=asked) as admitted:
            admitted.spend(asked)
            return [[float(len(text))] for text in texts]

    async def chat(self, prompt: str, *, tokens: int = 50) -> str:
        """Return a reply to `prompt`, written as fast as `generation` says; errors as in `search`.

        Args:
            prompt: What is asked.
            tokens: Length of the answer that is simulated; the label is not counted.
        """
        asked = count_tokens(prompt)
        path = "/v1/chat/completions"
        async with self._admitted(path, prompt, tokens=asked + tokens) as admitted:
            with admitted.streams.stream() as stream:
                await stream.until(tokens)
            admitted.spend(asked + tokens)
            return f"reply to {prompt}"

    @asynccontextmanager
    async def _admitted(self, path: str, query: str, *, tokens: int = 0) -> AsyncIterator[Admitted]:
        """Take the call through the engine; its refusals and faults as the clients raise them."""
        try:
            async with self._engine.admit(path, query, tokens=tokens) as admitted:
                yield admitted
        except TooLarge as error:
            raise BadRequest(str(error)) from None
        except Rejected as rejected:
            raise RateLimited(str(rejected), retry_after=rejected.retry_after) from None
        except (Failed, Dropped) as failed:
            raise Unavailable(str(failed) or "the connection was cut") from None

    def ledger(self) -> Ledger:
        """Return what it saw."""
        return self._engine.ledger()
