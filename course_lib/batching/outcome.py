"""What became of one item of a batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar, cast

__all__ = ["Outcome"]

Output = TypeVar("Output")


@dataclass(frozen=True, slots=True)
class Outcome(Generic[Output]):
    """The answer to one item, or the reason why there is none.

    `wait` and `service` are told apart, since they have different remedies: a higher limit shortens
    the one, a faster step the other. Their sum is the time from when the item was there to when it
    was answered. An item of an ordinary iterable is there from the beginning, one of an
    asynchronous iterable from when it is handed over. So with the former and without retries, an
    item started `wait` seconds after the beginning and ended `wait + service` seconds after it.

    Attributes:
        index: Place among the inputs, from 0.
        value: What was returned; None if there is an error.
        error: What was raised at the last attempt; None if there is a value.
        wait: Seconds in which it was not worked on: for a place, for a gate, between attempts.
        service: Seconds in which it was worked on, all attempts together.
        attempts: How often it was tried.
    """

    index: int
    value: Output | None = None
    error: Exception | None = None
    wait: float = 0.0
    service: float = 0.0
    attempts: int = 1

    @property
    def ok(self) -> bool:
        """Whether there is a value."""
        return self.error is None

    def result(self) -> Output:
        """Return the value.

        Raises:
            Exception: The error, if there is one instead.
        """
        if self.error is not None:
            raise self.error
        return cast("Output", self.value)
