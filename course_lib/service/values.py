"""What the value objects of a behaviour share: checks, and the way to JSON and back."""

import reprlib
from collections.abc import Mapping
from dataclasses import MISSING, Field, asdict
from typing import Any, ClassVar, Final, Self

__all__ = ["LAST_PORT", "LAST_SEED", "MOST", "Value", "require_number", "require_whole"]

LAST_PORT: Final = 65_535
"""The highest number that a TCP port can have."""

LAST_SEED: Final = 2**64 - 1

MOST: Final = 10**9
"""Seconds, rates, counts: a billion is beyond any use, and far from what a float can hold."""

LEAST: Final = 1e-9
"""What is to be above 0, such as a rate, is not below a billionth: it is divided by."""


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
            raise ValueError(_misplaced(cls, data))  # noqa: TRY004 - JSON's error
        if unknown := sorted(set(data) - set(cls.__dataclass_fields__)):
            raise ValueError(
                f"{cls.__name__} has no field {reprlib.repr(unknown[0])}: it has {_names(cls)}"
            )
        if missing := [name for name in _required(cls) if name not in data]:
            raise ValueError(f"{cls.__name__} needs {missing[0]!r}: it has {_names(cls)}")
        return cls(**data)


def _misplaced(cls: type[Value], data: Any) -> str:
    return f"{cls.__name__}: {reprlib.repr(data)} is no JSON object of {_names(cls)}"


def _names(cls: type[Value]) -> str:
    return ", ".join(cls.__dataclass_fields__)


def _required(cls: type[Value]) -> list[str]:
    fields = cls.__dataclass_fields__.values()
    return [field.name for field in fields if field.default is MISSING]


def require_number(
    name: str, value: Any, *, above: float | None = None, most: float = MOST
) -> None:
    """Refuse what is not a number, at least 0 (or `above` a bound) and at most `most`.

    What is to be above 0 is at least `LEAST`: nothing computed with a number that passes overflows.

    Raises:
        ValueError: It is not; the message names the value and the fix.
    """
    bound = "at least 0" if above is None else f"above {above:g}"
    # Compared, not converted: a whole number may have more digits than a float has room for.
    fits = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= most
    if not fits or (above is not None and value < max(LEAST, above)) or value == above:
        raise ValueError(
            f"{name}={reprlib.repr(value)}: give a number {bound} and at most {most:g}"
        )


def require_whole(name: str, value: Any, *, least: int, most: int = MOST) -> None:
    """Refuse what is not a whole number from `least` to `most`.

    Raises:
        ValueError: It is not; the message names the value and the fix.
    """
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise ValueError(
            f"{name}={reprlib.repr(value)}: give a whole number of at least {least} "
            f"and at most {most}"
        )
