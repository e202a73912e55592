"""Keys that are the same in every process and run, and differ wherever the question does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha256
from json.encoder import encode_basestring
from typing import TYPE_CHECKING, Any, Final, TypeVar

from langchain_core.runnables import ensure_config

from course_lib.caching.codec import JsonCodec

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig

__all__ = ["LONGEST", "KeyMaker", "chosen", "stable_key"]

T = TypeVar("T")
LONGEST: Final = 200
"""Characters of a key that are kept as they are; of a longer one, its SHA-256."""

_CODEC: Final = JsonCodec()


def stable_key(*parts: Any, namespace: str = "") -> str:
    """Return a str for values, equal for equal values, in every process and run.

    It is the canonical JSON of the parts (dicts sorted by key, no spaces). Python's `hash` is no
    key: it differs from process to process for a str, and is the same for 1, 1.0 and True.

        >>> stable_key({"q": "two clocks", "k": 5}, namespace="search")
        'search:{"k":5,"q":"two clocks"}'

    Args:
        parts: What the value depends on: JSON values, tuples, Documents, messages.
        namespace: What tells these keys from those of others in the same cache.

    Raises:
        TypeError: A part cannot be written as JSON; the message says which, and what to do.
        ValueError: A number is not finite, or a part contains itself.
    """
    try:
        text = _CODEC.dumps(list(parts))[1:-1]
    except (TypeError, ValueError) as error:
        raise _kind(error)(
            f"no key can be made of {parts!r:.80}: {error}. Give `key=`, a function that returns "
            "a str or what can be written, such as `key=lambda question: question.text`"
        ) from error
    return f"{namespace}:{shortened(text)}"


def shortened(text: str) -> str:
    """Return a text, or if it is long `sha256:` and its digest (no JSON begins like that)."""
    if len(text) <= LONGEST:
        return text
    return f"sha256:{sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()}"


def _kind(error: Exception) -> type[Exception]:
    return TypeError if isinstance(error, TypeError) else ValueError


class KeyMaker:
    """Makes the keys of a Runnable's inputs.

    Args:
        namespace: What tells these keys from others in the same cache.
        key: Returns what of an input the answer depends on; None for all of it.
        configurable: Fields of a config's "configurable" that the answer depends on.
    """

    def __init__(
        self, namespace: str, key: Callable[[Any], Any] | None, configurable: Sequence[str]
    ) -> None:
        self._namespace = namespace
        self._key = key
        self._prefix = f"{namespace}:"
        self._configurable = configurable

    def key(self, value: Any, config: RunnableConfig | None, kwargs: dict[str, Any]) -> str:
        """Return the key of one input."""
        if type(value) is str and self._key is None and not (kwargs or self._configurable):
            text = encode_basestring(value)
            return self._prefix + (text if len(text) <= LONGEST else shortened(text))
        [key] = self.keys([value], config, kwargs)
        return key

    def keys(
        self,
        inputs: Sequence[Any],
        config: RunnableConfig | Sequence[RunnableConfig] | None,
        kwargs: dict[str, Any],
    ) -> list[str]:
        """Return a key for each input; for a str what `stable_key` returns, in a tenth of the time."""
        values: Sequence[Any] = inputs if self._key is None else [self._key(one) for one in inputs]
        if isinstance(config, Sequence):
            return self._keys_of_each(values, config, kwargs)
        scope = self._scope(config, kwargs)
        if not scope and set(map(type, values)) == {str}:
            prefix, texts = self._prefix, map(encode_basestring, values)
            return [prefix + (text if len(text) <= LONGEST else shortened(text)) for text in texts]
        return [stable_key(value, *scope, namespace=self._namespace) for value in values]

    def _keys_of_each(
        self, values: Sequence[Any], configs: Sequence[RunnableConfig], kwargs: dict[str, Any]
    ) -> list[str]:
        if len(configs) != len(values):
            raise ValueError(
                f"{len(configs)} configs for {len(values)} inputs: give one for all, or one for each"
            )
        return [
            stable_key(value, *self._scope(config, kwargs), namespace=self._namespace)
            for value, config in zip(values, configs, strict=True)
        ]

    def _scope(self, config: RunnableConfig | None, kwargs: dict[str, Any]) -> tuple[str, ...]:
        """Return what a key holds beside the input: arguments, and configurable fields."""
        fields = ensure_config(config).get("configurable", {}) if self._configurable else {}
        declared = {name: fields[name] for name in self._configurable if name in fields}
        if not declared and not kwargs:
            return ()
        try:
            return (_CODEC.dumps([declared, kwargs]),)
        except (TypeError, ValueError) as error:
            raise _kind(error)(
                f"no key can be made of the arguments {kwargs or declared!r:.80}: {error}. Bind them "
                'before: `cached(runnable.bind(...), cache, namespace="...")`'
            ) from error


def chosen(
    missing: list[str],
    keys: list[str],
    inputs: list[T],
    config: RunnableConfig | Sequence[RunnableConfig] | None,
) -> tuple[list[T], RunnableConfig | list[RunnableConfig] | None]:
    """Return the inputs of the missing keys, and their configs."""
    first = {key: index for index, key in reversed(list(enumerate(keys)))}
    indexes = [first[key] for key in missing]
    configs = [config[index] for index in indexes] if isinstance(config, Sequence) else config
    return [inputs[index] for index in indexes], configs
