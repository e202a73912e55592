"""The stage that writes the answer."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

from course_lib.rag.chat import Reply
from course_lib.rag.kept import ABSENT

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from langchain_core.runnables import RunnableConfig

    from course_lib.rag.chat import Chat
    from course_lib.rag.kept import Kept
    from course_lib.rag.stages import Stage
    from course_lib.rag.trace import Trace

__all__ = ["Generation"]


class Generation:
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

        return Reply(*await self._kept.fetch("generate", (self._model, most, prompt), ask))

    async def pieces(
        self, prompt: str, most: int, trace: Trace, config: RunnableConfig | None
    ) -> AsyncGenerator[Reply, None]:
        """Yield the answer as it is written; one that is kept comes in one piece.

        Each caller has a stream of their own. One that comes to its end is kept.
        """
        parts = (self._model, most, prompt)
        kept = await self._kept.look("generate", parts)
        if kept is not ABSENT:
            yield Reply(*kept)
            return
        whole = Reply()
        stream = self._stage.stream(self._chat.pieces, prompt, most, config, trace=trace)
        async with aclosing(stream) as pieces:
            async for piece in pieces:
                whole = whole.plus(piece)
                yield piece
        await self._kept.keep("generate", parts, tuple(whole))

    async def is_kept(self, prompt: str, most: int) -> bool:
        """Return whether `reply` would make no call."""
        return await self._kept.has("generate", (self._model, most, prompt))
