"""When a call that failed is made again."""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING

from langchain_core.runnables.config import merge_configs

from course_lib.checks import require_positive
from course_lib.errors import RateLimited

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig

    from course_lib.rate_limiting.gate import Gate

__all__ = ["Retry"]


class Retry:
    """How often, after what, and how long after; the parameters are those of `limited`.

    Attributes:
        attempts: How often a call is made at most.
        errors: The errors after which it is made again.

    Raises:
        ValueError: A number is out of range.
    """

    __slots__ = ("_backoff", "_jitter", "_random", "attempts", "errors")

    def __init__(
        self,
        *,
        attempts: int,
        retry_on: tuple[type[Exception], ...],
        backoff: float,
        jitter: float,
        seed: int | None,
    ) -> None:
        if isinstance(attempts, bool) or not isinstance(attempts, int) or attempts < 1:
            raise ValueError(f"attempts={attempts!r}: give a whole number, 1 or above")
        require_positive(backoff=backoff)
        if not 0 <= jitter <= 1:
            raise ValueError(f"jitter={jitter!r}: give a share from 0 to 1")
        self.attempts = attempts
        self.errors: tuple[type[Exception], ...] = (RateLimited, *retry_on)
        self._backoff = backoff
        self._jitter = jitter
        self._random = random.Random(seed)  # noqa: S311 - no cryptography

    def after(self, error: Exception, attempt: int, gate: Gate) -> float:
        """Prepare the next attempt.

        Args:
            error: What became of this one.
            attempt: Its number, from 1.
            gate: Has begun to cool down if the provider said for how long; that is lengthened by
                the jitter.

        Returns:
            Seconds that this caller waits before it gets in line again.
        """
        draw = self._random.random()
        retry_after = error.retry_after if isinstance(error, RateLimited) else 0.0
        if 0 < retry_after < math.inf:
            gate.cool_down(retry_after * (1 + self._jitter * draw))
            return 0.0
        return self._backoff * 2.0 ** (attempt - 1) * draw

    @staticmethod
    def config(given: RunnableConfig | None, attempt: int) -> RunnableConfig | None:
        """Return the config of an attempt: a second one is another run than the first, and tagged."""
        if attempt == 1:
            return given
        again = merge_configs(given, {"tags": [f"retry:attempt:{attempt}"]})
        again.pop("run_id", None)
        return again
