"""What is said of bad arguments, at once and in one wording: the name, the value and the fix."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any, TypeGuard

__all__ = ["require_number", "require_positive", "require_seconds", "require_whole"]


def require_whole(*, least: int = 1, **values: Any) -> None:
    """Refuse what is no whole number, `least` or above.

    Args:
        least: The smallest that will do.
        values: The arguments, by name.

    Raises:
        ValueError: Names the argument, its value and the fix.
    """
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"{name}={value!r}: give a whole number, {least} or above")


def require_number(*, least: float = -math.inf, **values: Any) -> None:
    """Refuse what is no finite number, `least` or above.

    Args:
        least: The smallest that will do.
        values: The arguments, by name.

    Raises:
        ValueError: Names the argument, its value and the fix.
    """
    for name, value in values.items():
        if not (_finite(value) and value >= least):
            bound = "" if least == -math.inf else f", {least:g} or above"
            raise ValueError(f"{name}={value!r}: give a finite number{bound}")


def require_positive(**values: Any) -> None:
    """Refuse what is no finite number above 0.

    Args:
        values: The arguments, by name.

    Raises:
        ValueError: Names the argument, its value and the fix.
    """
    for name, value in values.items():
        if not (_finite(value) and value > 0):
            raise ValueError(f"{name}={value!r}: give a finite number above 0")


def require_seconds(**values: Any) -> None:
    """Refuse what is no finite number, 0 or above.

    Args:
        values: The arguments, by name.

    Raises:
        ValueError: Names the argument, its value and the fix.
    """
    require_number(least=0, **values)


def _finite(value: Any) -> TypeGuard[float]:
    real = isinstance(value, Real) and not isinstance(value, bool)
    return real and -math.inf < value < math.inf
