"""Chat models as the pipeline uses them: a prompt in, text and tokens out, errors of one tree.

`ModelChat` asks any LangChain chat model; `open_chat_openai` makes it of a `ChatOpenAI` that owns its
HTTP client. `LeanChat` asks the same endpoint through `ServiceClient`, at a tenth of the CPU.
"""

from __future__ import annotations

from contextlib import aclosing, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, cast

from langchain_core.language_models import BaseChatModel

from course_lib.errors import service_error_of
from course_lib.rag.client import HIDDEN

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterator

    from langchain_core.messages import BaseMessage
    from langchain_core.runnables import Runnable, RunnableConfig
    from pydantic import SecretStr

    from course_lib.rag.settings import RagSettings

__all__ = ["Chat", "LeanChat", "ModelChat", "Reply", "open_chat_openai"]

_CALL: Final = "POST /v1/chat/completions"
_NO_KEY: Final = "none"  # the client insists on a key, also where the provider wants none


class Reply(NamedTuple):
    """What a chat model said, whole or the next piece of it.

    Attributes:
        text: The text.
        input_tokens: Tokens of the prompt; 0 if it was not said.
        output_tokens: Tokens of the answer; 0 if it was not said.
    """

    text: str = ""
    input_tokens: int = 0
    output_tokens: int = 0

    def plus(self, more: Reply) -> Reply:
        """Return this and the next piece as one."""
        return Reply(
            self.text + more.text,
            self.input_tokens + more.input_tokens,
            self.output_tokens + more.output_tokens,
        )


class Chat(Protocol):
    """A chat model: what the pipeline needs of one."""

    async def reply(self, prompt: str, most: int, config: RunnableConfig | None) -> Reply:
        """Return the whole answer, of at most so many tokens."""

    def pieces(
        self, prompt: str, most: int, config: RunnableConfig | None
    ) -> AsyncGenerator[Reply, None]:
        """Yield the answer as it is written."""


class _ChatClient(Protocol):
    async def chat(self, messages: Any, *, max_tokens: int | None, model: str) -> BaseMessage: ...

    def stream_chat(
        self, messages: Any, *, max_tokens: int | None, model: str
    ) -> AsyncGenerator[str, None]: ...


class LeanChat:
    """A chat through `ServiceClient`: JSON over the session that is there, and nothing else.

    Callbacks do not see it, and streams do not tell their tokens.

    Args:
        client: An open client.
        model: Name of the model.
    """

    def __init__(self, client: _ChatClient, model: str) -> None:
        self._client = client
        self._model = model

    async def reply(self, prompt: str, most: int, config: RunnableConfig | None) -> Reply:  # noqa: ARG002 - no callbacks here
        """Return the whole answer."""
        return _reply(await self._client.chat(prompt, max_tokens=most, model=self._model))

    async def pieces(
        self,
        prompt: str,
        most: int,
        config: RunnableConfig | None,  # noqa: ARG002 - no callbacks here
    ) -> AsyncGenerator[Reply, None]:
        """Yield the answer as it is written."""
        stream = self._client.stream_chat(prompt, max_tokens=most, model=self._model)
        async with aclosing(stream) as texts:
            async for text in texts:
                yield Reply(text)


class ModelChat:
    """A chat through a LangChain chat model, or another Runnable that takes a prompt.

    Args:
        model: What is asked. A chat model is told the length of the answer as `max_tokens`.
    """

    def __init__(self, model: Runnable[Any, Any]) -> None:
        self._model = model
        self._takes_length = isinstance(model, BaseChatModel)

    async def reply(self, prompt: str, most: int, config: RunnableConfig | None) -> Reply:
        """Return the whole answer."""
        with _translated():
            return _reply(await self._model.ainvoke(prompt, config, **self._length(most)))

    async def pieces(
        self, prompt: str, most: int, config: RunnableConfig | None
    ) -> AsyncGenerator[Reply, None]:
        """Yield the answer as it is written."""
        with _translated():
            stream = self._model.astream(prompt, config, **self._length(most))
            async with aclosing(cast("AsyncGenerator[Any, None]", stream)) as chunks:
                async for chunk in chunks:
                    yield _reply(chunk)

    def _length(self, most: int) -> dict[str, Any]:
        return {"max_tokens": most} if self._takes_length else {}


@asynccontextmanager
async def open_chat_openai(
    url: str, key: SecretStr | None, settings: RagSettings
) -> AsyncIterator[ModelChat]:
    """Open a `ChatOpenAI` with an HTTP client of its own, closed at the end of the block.

    By default langchain_openai keeps one asynchronous client for all models and event loops, so
    that the second loop meets "Event loop is closed". Retries in it are switched off: they would
    go around the gate.

    Args:
        url: Address of the provider, without "/v1".
        key: Its key, or None.
        settings: Name of the model, seconds for an attempt.
    """
    from langchain_openai import ChatOpenAI  # noqa: PLC0415 - some seconds
    from openai import DefaultAsyncHttpxClient  # noqa: PLC0415 - with it
    from pydantic import SecretStr  # noqa: PLC0415 - beside its use

    hooks = {"response": [] if key is None else [_hiding(key)]}
    async with DefaultAsyncHttpxClient(
        timeout=settings.timeout, trust_env=False, event_hooks=hooks
    ) as http:
        yield ModelChat(
            ChatOpenAI(
                base_url=f"{url}/v1",
                api_key=key or SecretStr(_NO_KEY),
                model=settings.model,
                max_retries=0,
                timeout=settings.timeout,
                stream_usage=True,
                use_responses_api=False,
                http_async_client=http,
            )
        )


def _hiding(key: SecretStr) -> Any:
    """Return a hook that takes the key out of what a provider says of a call that failed."""
    secret = key.get_secret_value().encode()

    async def hide(response: Any) -> None:
        if response.is_error and secret in await response.aread():
            response._content = response.content.replace(secret, HIDDEN.encode())  # noqa: SLF001 - no other place sees it before callbacks do

    return hide


def _reply(message: Any) -> Reply:
    if isinstance(message, str):
        return Reply(message)
    used = getattr(message, "usage_metadata", None) or {}
    text = getattr(message, "text", "")
    return Reply(str(text), used.get("input_tokens", 0), used.get("output_tokens", 0))


@contextmanager
def _translated() -> Iterator[None]:
    """Raise the errors of the model's client as those of the tree.

    Raises:
        ServiceError: In place of each of them. None is chained: they hold the request, key included.
    """
    try:
        yield
    except Exception as error:
        translated = service_error_of(error, _CALL)
        if translated is None or translated is error:
            raise
        raise translated from None
