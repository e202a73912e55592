"""Which share of requests goes wrong, and how."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from course_lib.service.values import LAST_SEED, Value, require_number, require_whole

__all__ = ["Fault", "Faults"]

Fault = Literal["error", "drop", "hang"]


@dataclass(frozen=True, slots=True)
class Faults(Value):
    """Shares of requests that go wrong, each between 0 and 1, together at most 1.

    A request that goes wrong costs the provider what a good one costs: it waits for its slot and
    its latency first. One that hangs keeps its slot.

    Attributes:
        error: Share answered with 500.
        drop: Share whose connection is cut without an answer.
        hang: Share never answered, until the client leaves or the provider stops.
        seed: What the sequence of draws starts from; the same seed, the same sequence.
    """

    error: float = 0.0
    drop: float = 0.0
    hang: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("error", "drop", "hang"):
            require_number(name, getattr(self, name), most=1)
        require_whole("seed", self.seed, least=0, most=LAST_SEED)
        total = self.error + self.drop + self.hang
        if total > 1 + 1e-9:
            raise ValueError(f"error + drop + hang = {total:g}: shares add up to at most 1")

    def sampler(self) -> Iterator[Fault | None]:
        """Return an endless iterator of what happens to each request; None is a good one."""
        draw = random.Random(self.seed).random  # noqa: S311 - a model of faults, not a secret
        while True:
            yield self._fault(draw())

    def _fault(self, share: float) -> Fault | None:
        if share < self.error:
            return "error"
        if share < self.error + self.drop:
            return "drop"
        return "hang" if share < self.error + self.drop + self.hang else None
