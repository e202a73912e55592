"""JSON for what is cached: exact, or refused.

Plain values come back equal and of the same type. Objects come back only if their class is on a
list given beforehand; what is read names a class, but never chooses one (no pickle, no imports).
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, Final

from langchain_core.documents import Document
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    ChatMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)
from langchain_core.messages.base import TextAccessor
from langchain_core.outputs import ChatGeneration, Generation
from langchain_core.prompt_values import ChatPromptValue, StringPromptValue
from pydantic import BaseModel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["KNOWN", "JsonCodec"]

KNOWN: Final[tuple[type[BaseModel], ...]] = (
    Document,
    AIMessage,
    AIMessageChunk,
    ChatMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
    Generation,
    ChatGeneration,
    ChatPromptValue,
    StringPromptValue,
)
"""Classes that can be stored without being named: data, whose constructors do nothing but check."""

_PLAIN: Final = (str, int, bool, type(None))
_TUPLE, _DICT, _TYPE = "$tuple", "$dict", "$type"


class JsonCodec:
    """Writes values as JSON, and reads them back.

    Takes None, bool, int, finite float, str, list, tuple, dict with str keys, the data classes of
    langchain-core in `KNOWN`, and the pydantic models in `allow`. What JSON would change on the way
    (a set, a numpy number, a key that is no str) is refused: a value must not depend on the tier
    it comes from.

    Args:
        allow: More pydantic models to write and read. Their constructors run on what the store
            holds, so name only classes that do nothing but hold data.

    Raises:
        TypeError: One of `allow` is no pydantic model.
        ValueError: Two classes have one name.
    """

    __slots__ = ("_classes",)

    def __init__(self, allow: Iterable[type[BaseModel]] = ()) -> None:
        self._classes: dict[str, type[BaseModel]] = {}
        for kind in (*KNOWN, *allow):
            if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
                raise TypeError(f"allow={kind!r}: name pydantic models, or cache plain values")
            if self._classes.setdefault(kind.__name__, kind) is not kind:
                raise ValueError(f"allow={kind!r}: there is another {kind.__name__}: rename one")

    def dumps(self, value: Any, *, sort: bool = True) -> str:
        """Return JSON.

        Args:
            value: What is written.
            sort: Whether dictionaries are written in the order of their keys: then equal values
                have one text, in every process. Otherwise they come back in their own order.

        Raises:
            TypeError: The value, or something in it, cannot be written exactly.
            ValueError: A number is not finite, or the value contains itself.
        """
        return (_SORTED if sort else _ORDERED).encode(self.encode(value))

    def loads(self, text: str | bytes) -> Any:
        """Return the value of what `dumps` wrote.

        Raises:
            ValueError: It is not what `dumps` wrote, or a class in it is not allowed.
        """
        try:
            return self.decode(json.loads(text, parse_constant=_refuse))
        except (AttributeError, KeyError, RecursionError, TypeError) as error:
            raise ValueError(f"this is not what `dumps` wrote: {error}") from error

    def encode(self, value: Any) -> Any:
        """Return the value in the terms of JSON; see `dumps`."""
        try:
            return self._encode(value)
        except RecursionError:
            raise ValueError(
                "the value contains itself, or is nested too deeply: flatten it"
            ) from None

    def _encode(self, value: Any) -> Any:
        kind = type(value)
        if kind in _PLAIN:
            return value
        if kind in _CONVERTED:
            return _CONVERTED[kind](value)
        if kind is list:
            return [self._encode(item) for item in value]
        if kind is tuple:
            return {_TUPLE: [self._encode(item) for item in value]}
        if kind is dict:
            return self._encode_dict(value)
        if self._classes.get(kind.__name__) is kind:
            return {_TYPE: kind.__name__, **self._encode_fields(value)}
        raise TypeError(
            f"{kind.__module__}.{kind.__qualname__} cannot be written as JSON and read back equal"
        )

    def _encode_dict(self, value: dict[Any, Any]) -> dict[str, Any]:
        if any(type(key) is not str for key in value):
            raise TypeError(
                f"a dict with the keys {list(value)!r:.80} is no JSON: its keys must be str"
            )
        plain = {key: self._encode(item) for key, item in value.items()}
        return {_DICT: plain} if any(key.startswith("$") for key in value) else plain

    def _encode_fields(self, value: BaseModel) -> dict[str, Any]:
        given = {name: getattr(value, name) for name in type(value).model_fields}
        return {"fields": self._encode_dict({**given, **(value.model_extra or {})})}

    def decode(self, data: Any) -> Any:
        """Return the value of what `encode` returned; see `loads`."""
        if isinstance(data, list):
            return [self.decode(item) for item in data]
        if not isinstance(data, dict):
            return data
        if _TYPE in data:
            return self._decode_object(data)
        if _TUPLE in data:
            return tuple(self.decode(item) for item in data[_TUPLE])
        return {key: self.decode(item) for key, item in data.get(_DICT, data).items()}

    def _decode_object(self, data: dict[str, Any]) -> BaseModel:
        kind = self._classes.get(data[_TYPE])
        if kind is None:
            raise ValueError(f"{data[_TYPE]!r} is not allowed: name its class in `allow=`")
        return kind(**self.decode(data["fields"]))


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError(f"{value!r} is no JSON: cache None or a finite number in its place")
    return value


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no JSON")


_CONVERTED: Final[dict[type, Callable[[Any], Any]]] = {
    float: _finite,
    TextAccessor: str,  # what a message's `text` is
}
_SORTED, _ORDERED = (
    json.JSONEncoder(ensure_ascii=False, allow_nan=False, sort_keys=sort, separators=(",", ":"))
    for sort in (True, False)
)
