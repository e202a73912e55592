"""Keys that are the same in every process and run, and differ wherever the question does."""

from __future__ import annotations

from hashlib import sha256
from typing import Any, Final

from course_lib.caching.codec import JsonCodec

__all__ = ["LONGEST", "stable_key"]

LONGEST: Final = 200
"""Characters of a key that are kept as they are; of a longer one, its SHA-256."""

_CODEC: Final = JsonCodec()


def stable_key(*parts: Any, namespace: str = "", codec: JsonCodec = _CODEC) -> str:
    """Return a str for values, equal for equal values, in every process and run.

    It is the canonical JSON of the parts (dicts sorted by key, no spaces). Python's `hash` is no
    key: it differs from process to process for a str, and is the same for 1, 1.0 and True.

        >>> stable_key({"q": "two clocks", "k": 5}, namespace="search")
        'search:{"k":5,"q":"two clocks"}'

    Args:
        parts: What the value depends on: JSON values, tuples, Documents, messages.
        namespace: What tells these keys from those of others in the same cache.
        codec: Writes the parts; one that knows more classes takes more.

    Raises:
        TypeError: A part cannot be written as JSON; the message says which, and what to do.
        ValueError: A number is not finite, or a part contains itself.
    """
    try:
        text = ",".join(codec.dumps(part) for part in parts)
    except (TypeError, ValueError) as error:
        raise type(error)(
            f"no key can be made of {parts!r:.80}: {error}. Give `key=`, a function that returns "
            "a str or what can be written, such as `key=lambda question: question.text`"
        ) from error
    return f"{namespace}:{shortened(text)}"


def shortened(text: str) -> str:
    """Return a text, or if it is long `sha256:` and its digest (no JSON begins like that)."""
    if len(text) <= LONGEST:
        return text
    return f"sha256:{sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()}"
