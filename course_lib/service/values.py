"""What the value objects of a behaviour share: checks, and the way to JSON and back."""

import math
from collections.abc import Mapping
from dataclasses import MISSING, Field, asdict
from typing import Any, ClassVar, Self

__all__ = ["LAST_PORT", "Value", "require_number", "require_whole"]

LAST_PORT = 65_535
"""The highest number that a TCP port can have."""


class Value:
    """Base of frozen dataclasses that travel as JSON objects."""

    __slots__ = ()
    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a JSON object; `from_dict` reads it back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Build the value from a JSON object.

        Args:
            data: Fields by name, as `to_dict` gives them; those with a default may be left out.

        Raises:
            ValueError: A field is unknown, missing or out of range; the message says which.
        """
        if not isinstance(data, Mapping):
            raise ValueError(f"{cls.__name__}: {data!r} is no JSON object of {_names(cls)}")  # noqa: TRY004 - JSON's error
        if unknown := sorted(set(data) - set(cls.__dataclass_fields__)):
            raise ValueError(f"{cls.__name__} has no field {unknown[0]!r}: it has {_names(cls)}")
        if missing := [name for name in _required(cls) if name not in data]:
            raise ValueError(f"{cls.__name__} needs {missing[0]!r}: it has {_names(cls)}")
        return cls(**data)


def _names(cls: type[Value]) -> str:
    return ", ".join(cls.__dataclass_fields__)


def _required(cls: type[Value]) -> list[str]:
    fields = cls.__dataclass_fields__.values()
    return [field.name for field in fields if field.default is MISSING]


def require_number(
    name: str, value: Any, *, above: float | None = None, most: float = math.inf
) -> None:
    """Refuse what is not a finite number, at least 0 (or `above` a bound) and at most `most`.

    Raises:
        ValueError: It is not; the message names the value and the fix.
    """
    bound = "at least 0" if above is None else f"above {above:g}"
    if most < math.inf:
        bound += f" and at most {most:g}"
    fits = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not fits or value > most or (value < 0 if above is None else value <= above):
        raise ValueError(f"{name}={value!r}: give a number {bound}")


def require_whole(name: str, value: Any, *, least: int) -> None:
    """Refuse what is not a whole number of at least `least`.

    Raises:
        ValueError: It is not; the message names the value and the fix.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name}={value!r}: give a whole number of at least {least}")
