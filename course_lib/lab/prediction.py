"""The learner's guess, made before the measurement and shown beside it."""

import math
from dataclasses import dataclass
from types import EllipsisType

from course_lib.lab.progress import note_prediction
from course_lib.table import Table

__all__ = ["Prediction", "predict", "predictions"]


_CLOSE = 1.05  # nearer than that one decimal would say 1.0x
THOUSAND = 1000
"""From here on numbers are written out, not in powers of ten."""


@dataclass(slots=True, repr=False)
class Prediction:
    """A guess and, once it is revealed, the result.

    Attributes:
        question: What is guessed.
        guess: The guess, in `unit`; None while there is none.
        unit: Unit of guess and result, such as "s".
        actual: The result; None until `reveal`.
    """

    question: str
    guess: float | None
    unit: str
    actual: float | None = None

    def reveal(self, actual: float) -> "Prediction":
        """Keep the result beside the guess and return both, for display."""
        self.actual = actual
        note_prediction(self.question, self.guess, actual)
        return self

    @property
    def factor(self) -> float | None:
        """How far off the guess is, as a factor of at least 1; None while it cannot be told."""
        if self.guess is None or self.actual is None:
            return None
        low, high = sorted((abs(self.guess), abs(self.actual)))
        if low == 0:
            return 1.0 if high == 0 else None  # no factor leads from 0 to anything
        return high / low

    def __repr__(self) -> str:
        if self.guess is None:
            said = "no guess yet: write a number in place of `...` and run the cell again"
        else:
            said = f"you say {self.with_unit(self.guess)}"
        if self.actual is None:
            return f"{self.question}: {said}"
        off = "" if self.factor is None else f", {_off(self.factor)}"
        return f"{self.question}: {said}; it is {self.with_unit(self.actual)}{off}"

    def with_unit(self, value: float) -> str:
        """`value` to three digits, with the unit."""
        number = f"{value:,.0f}" if abs(value) >= THOUSAND else f"{value:.3g}"
        return f"{number} {self.unit}".rstrip()


def _off(factor: float) -> str:
    return "right" if factor == 1 else f"{factor:.{1 if factor >= _CLOSE else 3}f}x off"


_kept: dict[str, Prediction] = {}


def predict(question: str, guess: float | EllipsisType, unit: str = "s") -> Prediction:
    """Keep a guess, to be shown beside the result by `.reveal(result)`.

    Args:
        question: What is guessed; asking it again replaces the earlier guess.
        guess: A number, or `...` while there is none.
        unit: Unit of the guess.

    Raises:
        TypeError: The guess is neither a number nor `...`.
        ValueError: It is none that a result could be: below 0, infinite, or not a number (nan).
    """
    if guess is not ... and (isinstance(guess, bool) or not isinstance(guess, int | float)):
        raise TypeError(f"guess={guess!r} is not a number: write one in {unit or 'plain figures'}")
    if guess is not ... and not 0 <= guess < math.inf:
        raise ValueError(f"guess={guess!r} is no result: write a finite number, 0 or above")
    number = None if guess is ... else float(guess)
    _kept[question] = Prediction(question, number, unit)
    note_prediction(question, number, None)
    return _kept[question]


def predictions() -> Table:
    """Every guess of this session with its result, as a table."""
    rows = [
        [
            kept.question,
            "none" if kept.guess is None else kept.with_unit(kept.guess),
            "not measured" if kept.actual is None else kept.with_unit(kept.actual),
            "" if kept.factor is None else _off(kept.factor).removesuffix(" off"),
        ]
        for kept in _kept.values()
    ]
    return Table(["question", "your guess", "result", "off by"], rows)
