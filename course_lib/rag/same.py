"""What was worked out of passages lately, found again by which they are, not by what is in them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["LATELY", "Same"]

T = TypeVar("T")

LATELY: Final = 1_024
"""Results that are remembered, of each kind."""


class Same(Generic[T]):
    """A sequence as an argument of a function under `lru_cache`: equal to itself alone.

    What is kept of a stage is handed to each query that asks for it, and nobody changes it. To look
    at all its passages would cost such a query more than any of its stages.

    Args:
        sequence: What stays as it is; it lives as long as its result is remembered.
    """

    __slots__ = ("sequence",)

    def __init__(self, sequence: Sequence[T]) -> None:
        self.sequence = sequence

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and other.sequence is self.sequence

    def __hash__(self) -> int:
        return id(self.sequence)
