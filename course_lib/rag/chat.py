"""Chat models as the pipeline uses them: a prompt in, text and tokens out, errors of one tree.

`ModelChat` asks any LangChain chat model; `open_chat_openai` makes it of a `ChatOpenAI` that owns its
HTTP client. `LeanChat` asks the same endpoint through `ServiceClient`, at a tenth of the CPU.
"""

from __future__ import annotations

from contextlib import aclosing, asynccontextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, TypeVar, cast

from course_lib.errors import (
    Unavailable,
    credentials_of,
    excerpt,
    service_error_of,
    without_credentials,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection

    from langchain_core.messages import BaseMessage
    from langchain_core.runnables import Runnable, RunnableConfig
    from pydantic import SecretStr

    from course_lib.rag.settings import RagSettings

__all__ = ["Chat", "LeanChat", "ModelChat", "Reply", "open_chat_openai"]

Result = TypeVar("Result")

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
        secrets: What no error may show.
    """

    def __init__(self, model: Runnable[Any, Any], secrets: Collection[str] = ()) -> None:
        from langchain_core.language_models import BaseChatModel  # noqa: PLC0415 - beside its use

        self._model = model
        self._secrets = secrets
        self._takes_length = isinstance(model, BaseChatModel)

    async def reply(self, prompt: str, most: int, config: RunnableConfig | None) -> Reply:
        """Return the whole answer."""
        call = self._model.ainvoke(prompt, config, **self._length(most))
        return _reply(await _understood(call, self._failure))

    async def pieces(
        self, prompt: str, most: int, config: RunnableConfig | None
    ) -> AsyncGenerator[Reply, None]:
        """Yield the answer as it is written."""
        stream = self._model.astream(prompt, config, **self._length(most))
        async with aclosing(_understood_stream(stream, self._failure)) as chunks:
            async for chunk in chunks:
                yield _reply(chunk)

    def _length(self, most: int) -> dict[str, Any]:
        return {"max_tokens": most} if self._takes_length else {}

    def _failure(self, error: Exception) -> Exception:
        return service_error_of(error, _CALL, self._secrets) or error


@asynccontextmanager
async def open_chat_openai(
    url: str, secrets: Collection[str], settings: RagSettings, key: SecretStr | None
) -> AsyncIterator[ModelChat]:
    """Open a `ChatOpenAI` with an HTTP client of its own, closed at the end of the block.

    By default langchain_openai keeps one asynchronous client for all models and event loops, so
    that the second loop meets "Event loop is closed". Retries in it are switched off: they would
    go around the gate.

    Args:
        url: Address of the provider, without "/v1".
        secrets: What neither errors nor callbacks may show.
        settings: Name of the model, seconds for an attempt.
        key: The provider's key, or None.
    """
    from openai import DefaultAsyncHttpxClient  # noqa: PLC0415 - some seconds
    from pydantic import SecretStr  # noqa: PLC0415 - beside its use

    # User and password go this way, since the model shows its address to callbacks.
    async with DefaultAsyncHttpxClient(
        timeout=settings.timeout, trust_env=False, auth=credentials_of(url)
    ) as http:
        model = _chat_openai()(
            base_url=f"{without_credentials(url)}/v1",
            api_key=key or SecretStr(_NO_KEY),
            model=settings.model,
            max_retries=0,
            timeout=settings.timeout,
            stream_usage=True,
            use_responses_api=False,
            http_async_client=http,
        )
        model._secrets = secrets  # noqa: SLF001 - our own; as a field it would be shown
        yield ModelChat(model, secrets)


@cache
def _chat_openai() -> Any:
    """Return a `ChatOpenAI` whose errors are of the tree, also for callbacks.

    Its own hold the request, key included, and what the provider said, which may quote the key.
    """
    import langchain_openai  # noqa: PLC0415 - some seconds
    from pydantic import PrivateAttr  # noqa: PLC0415 - beside its use

    class ChatOpenAI(langchain_openai.ChatOpenAI):
        _secrets: Collection[str] = PrivateAttr(())

        async def _agenerate(self, *args: Any, **kwargs: Any) -> Any:
            result = await _understood(super()._agenerate(*args, **kwargs), self._failure)
            if not result.generations:
                raise Unavailable(f"{_CALL} answered without a message")
            return result

        async def _astream(self, *args: Any, **kwargs: Any) -> AsyncGenerator[Any, None]:
            stream = _understood_stream(super()._astream(*args, **kwargs), self._failure)
            async with aclosing(stream) as chunks:
                async for chunk in chunks:
                    yield chunk

        def _failure(self, error: Exception) -> Exception:
            known = service_error_of(error, _CALL, self._secrets)
            if known is not None:
                return known
            # What it makes of an answer of another shape: TypeError, KeyError and the like.
            said = excerpt(f"{type(error).__name__}: {error}", self._secrets)
            return Unavailable(f"{_CALL} answered with what is no chat ({said})")

    return ChatOpenAI


async def _understood(call: Awaitable[Result], failure: Callable[[Exception], Exception]) -> Result:
    """Await a call, and raise what an error of it means; the error itself is not even its context."""
    try:
        return await call
    except Exception as error:
        raised = failure(error)
        if raised is error:
            raise
    raise raised


async def _understood_stream(
    stream: AsyncIterator[Result], failure: Callable[[Exception], Exception]
) -> AsyncGenerator[Result, None]:
    """Do as `_understood`, with a stream."""
    try:
        async with aclosing(cast("AsyncGenerator[Result, None]", stream)) as chunks:
            async for chunk in chunks:
                yield chunk
    except Exception as error:
        raised = failure(error)
        if raised is error:
            raise
    else:
        return
    raise raised


def _reply(message: Any) -> Reply:
    if isinstance(message, str):
        return Reply(message)
    used = getattr(message, "usage_metadata", None) or {}
    text = getattr(message, "text", "")
    return Reply(str(text), used.get("input_tokens", 0), used.get("output_tokens", 0))
