"""Keys that are the same in every process and run, and differ wherever the question does."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from hashlib import sha256
from json.encoder import encode_basestring
from typing import TYPE_CHECKING, Any, Final, TypeVar

from langchain_core.messages import BaseMessage
from langchain_core.runnables import ensure_config

# The config of the run that is under way, which `ensure_config` takes into account.
from langchain_core.runnables.config import var_child_runnable_config as surrounding_config

from course_lib.caching.codec import JsonCodec

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig
    from pydantic import BaseModel

__all__ = ["LONGEST", "KeyMaker", "chosen", "stable_key"]

T = TypeVar("T")
LONGEST: Final = 200
"""Characters of a key that are kept as they are; of a longer one, its SHA-256."""


class _KeyCodec(JsonCodec):
    """Leaves out of messages what is drawn anew each time that one is made."""

    def _encode_fields(self, value: BaseModel) -> dict[str, Any]:
        if isinstance(value, BaseMessage) and value.id is not None:
            value = value.model_copy(update={"id": None})
        return super()._encode_fields(value)


_CODEC: Final = _KeyCodec()


def stable_key(*parts: Any, namespace: str = "") -> str:
    """Return a str for values, equal for equal values, in every process and run.

    It is the canonical JSON of the parts (dicts sorted by key, no spaces). Python's `hash` is no
    key: it differs from process to process for a str, and is the same for 1, 1.0 and True. The ids
    of messages make no difference.

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
    """Makes the keys of a Runnable's inputs: `stable_key` of each, and of what goes with it.

    Args:
        namespace: What tells these keys from others in the same cache.
        key: Returns what of an input the answer depends on; None for all of it.
        ignore: Fields of a config's "configurable" that it does not depend on.

    Raises:
        TypeError: `ignore` is one name, and not a collection of names.
    """

    def __init__(
        self, namespace: str, key: Callable[[Any], Any] | None, ignore: Collection[str]
    ) -> None:
        if isinstance(ignore, str):
            raise TypeError(f"ignore={ignore!r}: give names in a list, ignore=[{ignore!r}]")
        self._namespace = namespace
        self._key = key
        self._prefix = f"{namespace}:"
        self._ignore = frozenset(ignore)

    def key(self, value: Any, config: RunnableConfig | None, kwargs: dict[str, Any]) -> str:
        """Return the key of one input."""
        scope = self._scope(config, kwargs)
        return self._named(value if self._key is None else self._key(value), scope)

    def keys(
        self,
        inputs: Sequence[Any],
        config: RunnableConfig | Sequence[RunnableConfig] | None,
        kwargs: dict[str, Any],
    ) -> list[str]:
        """Return a key for each input; for a str in a tenth of the time that `stable_key` takes."""
        values: Sequence[Any] = inputs if self._key is None else [self._key(one) for one in inputs]
        if isinstance(config, Sequence):
            return self._keys_of_each(values, config, kwargs)
        scope = self._scope(config, kwargs)
        if not scope and set(map(type, values)) == {str}:
            prefix, texts = self._prefix, map(encode_basestring, values)
            return [prefix + (text if len(text) <= LONGEST else shortened(text)) for text in texts]
        return [self._named(value, scope) for value in values]

    def _keys_of_each(
        self, values: Sequence[Any], configs: Sequence[RunnableConfig], kwargs: dict[str, Any]
    ) -> list[str]:
        if len(configs) != len(values):
            raise ValueError(
                f"{len(configs)} configs for {len(values)} inputs: give one for all, or one for each"
            )
        return [
            self._named(value, self._scope(config, kwargs))
            for value, config in zip(values, configs, strict=True)
        ]

    def _named(self, value: Any, scope: list[Any]) -> str:
        if type(value) is str and not scope:
            return self._prefix + shortened(encode_basestring(value))
        return stable_key(value, *scope, namespace=self._namespace)

    def _scope(self, config: RunnableConfig | None, kwargs: dict[str, Any]) -> list[Any]:
        """Return what an answer depends on beside the input: configurable fields, and arguments."""
        if not config and not kwargs and surrounding_config.get() is None:
            return []
        fields = {
            name: value
            for name, value in ensure_config(config)["configurable"].items()
            if name not in self._ignore and not str(name).startswith("__")
        }
        if not fields and not kwargs:
            return []
        for name, value in fields.items():
            _check(
                value,
                f"the configurable field {name!r}",
                f"If answers do not depend on it, leave it out: `cached(..., ignore=[{name!r}])`",
            )
        _check(
            kwargs,
            f"the arguments {kwargs!r:.80}",
            'Bind them before: `cached(runnable.bind(...), cache, namespace="...")`',
        )
        return [fields, kwargs]


def _check(value: Any, what: str, advice: str) -> None:
    """Refuse what no key can be made of."""
    try:
        _CODEC.dumps(value)
    except (TypeError, ValueError) as error:
        raise _kind(error)(f"no key can be made of {what}: {error}. {advice}") from error


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
