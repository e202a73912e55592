"""Requests to the endpoints with a model, read from JSON and checked.

Fields that existing clients send and that change nothing here (`temperature`, `user`, the name of a
model) are not looked at, as by most servers of this wire format. What asks for something that this
provider does not do is refused, never ignored: who sends tools waits for a call of one.
"""

import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeGuard

from course_lib.service.knowledge.tokens import count_tokens
from course_lib.service.values import MOST
from course_lib.service.wire import is_unicode, json_object, unfit

__all__ = [
    "LONGEST_ANSWER",
    "ChatRequest",
    "EmbeddingRequest",
    "RerankRequest",
    "chat_request",
    "embedding_request",
    "rerank_request",
]

MOST_TEXTS: Final = 2_048
MOST_DOCUMENTS: Final = 1_000
MOST_STOPS: Final = 4

LONGEST_PROMPT: Final = 8_192
"""Tokens of a chat's messages together, at most."""

LONGEST_ANSWER: Final = 200
"""Tokens of an answer, at most."""


NO_TOOLS: Final = "this model calls no tools"
UNSUPPORTED: Final[Mapping[str, str]] = {
    "tools": NO_TOOLS,
    "tool_choice": NO_TOOLS,
    "parallel_tool_calls": NO_TOOLS,
    "functions": NO_TOOLS,
    "function_call": NO_TOOLS,
    "top_logprobs": "it quotes, and draws no token by its probability",
    "audio": "it writes text",
    "web_search_options": "it reads the prompt, and nothing else",
}
"""Fields of a chat that ask for what this provider does not do, and why it does not."""


@dataclass(frozen=True, slots=True)
class EmbeddingRequest:
    """Texts to embed.

    Attributes:
        texts: The texts, at least one, none empty.
        base64: Whether vectors are wanted as base64 of little-endian float32.
        dimensions: Length of vector asked for; None for the model's own.
        tokens: Tokens of all texts.
    """

    texts: tuple[str, ...]
    base64: bool
    dimensions: int | None
    tokens: int


@dataclass(frozen=True, slots=True)
class RerankRequest:
    """Documents to put in order.

    Attributes:
        query: What they are compared with.
        documents: Their texts, at least one.
        top_n: How many are wanted back, at most.
        tokens: Tokens of all texts.
    """

    query: str
    documents: tuple[str, ...]
    top_n: int
    tokens: int


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A chat to continue.

    Attributes:
        messages: Role and text of each message.
        most: Tokens of the answer, at most.
        stream: Whether the answer is wanted piece by piece.
        usage: Whether a stream is to end with the tokens used.
        stops: Texts at whose first occurrence the answer ends, themselves left out.
        tokens: Tokens of all messages.
    """

    messages: tuple[tuple[str, str], ...]
    most: int
    stream: bool
    usage: bool
    stops: tuple[str, ...]
    tokens: int


def embedding_request(body: bytes) -> EmbeddingRequest:
    """Read the body of `POST /v1/embeddings`.

    Raises:
        Problem: It does not fit; the message says what would.
    """
    data = json_object(body)
    given = data.get("input")
    if isinstance(given, list) and given and isinstance(given[0], int | list):
        raise unfit(
            "input",
            "input holds tokens made by the client: send texts "
            "(OpenAIEmbeddings: check_embedding_ctx_length=False)",
        )
    texts = _texts("input", [given] if isinstance(given, str) else given, most=MOST_TEXTS)
    form = data.get("encoding_format") or "float"
    if form not in ("float", "base64"):
        raise unfit("encoding_format", f"encoding_format={reprlib.repr(form)}: 'float' or 'base64'")
    dimensions = _whole(data, "dimensions")
    return EmbeddingRequest(texts, form == "base64", dimensions, _tokens(texts))


def rerank_request(body: bytes) -> RerankRequest:
    """Read the body of `POST /rerank`.

    Raises:
        Problem: It does not fit; the message says what would.
    """
    data = json_object(body)
    query, given = data.get("query"), data.get("documents")
    if not _is_text(query):
        raise unfit("query", "query is missing or empty: say what the documents are compared with")
    if isinstance(given, list):
        given = [each.get("text") if isinstance(each, Mapping) else each for each in given]
    documents = _texts("documents", given, most=MOST_DOCUMENTS)
    top_n = _whole(data, "top_n") or len(documents)
    return RerankRequest(query, documents, top_n, _tokens([query, *documents]))


def chat_request(body: bytes) -> ChatRequest:
    """Read the body of `POST /v1/chat/completions`.

    Raises:
        Problem: It does not fit; the message says what would.
    """
    data = json_object(body)
    _refuse_unsupported(data)
    messages = _messages(data.get("messages"))
    tokens = _tokens(text for _, text in messages)
    if tokens > LONGEST_PROMPT:
        raise unfit(
            "messages",
            # In these words, too: LangChain tells it by them where `openai` shows it no code.
            f"the prompt is too long: it has {tokens} tokens: at most {LONGEST_PROMPT}; send less",
            code="context_length_exceeded",
        )
    most = _whole(data, "max_completion_tokens") or _whole(data, "max_tokens") or LONGEST_ANSWER
    stream = _flag(data, "stream")
    return ChatRequest(
        messages,
        most=min(most, LONGEST_ANSWER),
        stream=stream,
        usage=_usage(data.get("stream_options"), stream=stream),
        stops=_stops(data.get("stop")),
        tokens=tokens,
    )


def _refuse_unsupported(data: Mapping[str, Any]) -> None:
    """Refuse what asks for an answer of another kind than there is.

    Raises:
        Problem: Names the field, and why it cannot be had.
    """
    refused = {name: why for name, why in UNSUPPORTED.items() if data.get(name) is not None}
    if (n := data.get("n")) not in (None, 1) or isinstance(n, bool):
        message = f"n={reprlib.repr(n)}: one answer, as the same question has the same answer"
        raise unfit("n", message, code="unsupported_value")
    if _flag(data, "logprobs"):
        refused["logprobs"] = UNSUPPORTED["top_logprobs"]
    if data.get("response_format") not in (None, {"type": "text"}):
        refused["response_format"] = "it quotes sentences, and writes no JSON"
    if data.get("modalities") not in (None, ["text"]):
        refused["modalities"] = UNSUPPORTED["audio"]
    for name, why in refused.items():
        raise unfit(name, f"{name} is not supported: {why}", code="unsupported_parameter")


def _usage(options: Any, *, stream: bool) -> bool:
    """Return whether a stream is to end with its usage."""
    if options is None:
        return False
    if not isinstance(options, Mapping):
        raise unfit("stream_options", f"stream_options={reprlib.repr(options)}: an object")
    if not stream:
        raise unfit("stream_options", "stream_options are for streams: leave out, or stream=true")
    return _flag(options, "include_usage")


def _messages(given: Any) -> tuple[tuple[str, str], ...]:
    if not isinstance(given, list) or not given:
        message = "messages is missing or empty: a list of {'role': ..., 'content': ...}"
        raise unfit("messages", message)
    messages = tuple(_message(number, each) for number, each in enumerate(given))
    if all(role != "user" for role, _ in messages):
        raise unfit("messages", "no message has the role 'user': there is nothing to answer")
    return messages


def _message(number: int, given: Any) -> tuple[str, str]:
    """Return role and text; of a content in parts, the texts one after the other.

    Only a user has to say something: instructions may be empty, and so is a call of a tool.
    """
    if isinstance(given, Mapping) and isinstance(role := given.get("role"), str):
        content = given.get("content")
        if content is None and role == "assistant":
            return role, ""
        parts = content if isinstance(content, list) else [content]
        texts: list[Any] = [
            part.get("text") if isinstance(part, Mapping) else part for part in parts
        ]
        if texts and all(map(is_unicode, texts)):  # no picture, no sound
            text = "\n\n".join(texts)
            if role != "user" or text.strip():
                return role, text
    message = f"messages[{number}] is not {{'role': ..., 'content': ...}} with a text as content"
    raise unfit(f"messages[{number}]", message)


def _texts(name: str, texts: Any, *, most: int) -> tuple[str, ...]:
    if not isinstance(texts, list | tuple) or not texts:
        raise unfit(name, f"{name} is missing or empty: a list of at least one text")
    if len(texts) > most:
        raise unfit(name, f"{name} has {len(texts)} texts: at most {most} in one request")
    for number, text in enumerate(texts):
        if not _is_text(text):
            raise unfit(
                f"{name}[{number}]", f"{name}[{number}] is empty or not a text: leave it out"
            )
    return tuple(texts)


def _is_text(value: Any) -> TypeGuard[str]:
    """Whether it is a string with something in it, that UTF-8 can carry."""
    return is_unicode(value) and bool(value.strip())


def _whole(data: Mapping[str, Any], name: str) -> int | None:
    value = data.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MOST:
        raise unfit(name, f"{name}={reprlib.repr(value)}: a whole number from 1 to {MOST}")
    return value


def _flag(data: Mapping[str, Any], name: str) -> bool:
    value = data.get(name)
    if value is not None and not isinstance(value, bool):
        raise unfit(name, f"{name}={reprlib.repr(value)}: true or false")
    return bool(value)


def _stops(given: Any) -> tuple[str, ...]:
    stops = [given] if isinstance(given, str) else given or []
    if not isinstance(stops, list) or not all(isinstance(each, str) and each for each in stops):
        raise unfit("stop", f"stop={reprlib.repr(given)}: a text or a list of texts, none empty")
    if len(stops) > MOST_STOPS:
        raise unfit("stop", f"stop has {len(stops)} texts: at most {MOST_STOPS}")
    return tuple(stops)


def _tokens(texts: Any) -> int:
    return sum(count_tokens(text) for text in texts)
