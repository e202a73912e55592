"""The provider in virtual time: its own engine on the running loop's clock, without HTTP."""

from typing import Any

from course_lib.errors import RateLimited, Unavailable
from course_lib.service import Behaviour, Ledger
from course_lib.service.engine import Dropped, Engine, Failed, Rejected

__all__ = ["VirtualProvider"]


class VirtualProvider:
    """Treats calls as the real provider does, for programs that run in `simulate`.

    Make one for each simulation: its clock is the simulation's, which starts at 0.

    Args:
        behaviour: Fields of `service.Behaviour`: `latency`, `rate_limit`, `capacity`, `faults`.

    Raises:
        ValueError: A field is unknown or out of range.
    """

    def __init__(self, **behaviour: Any) -> None:
        self._engine = Engine(Behaviour(**behaviour))

    def configure(self, **changes: Any) -> None:
        """Change what is named, from the next call on; `None` switches a part off."""
        now = self._engine.behaviour
        parts = {
            name: getattr(now, name) for name in ("latency", "rate_limit", "capacity", "faults")
        }
        self._engine.behaviour = Behaviour(**(parts | changes))

    async def search(self, query: str) -> str:
        """Return an answer to `query`, after the time that it takes.

        Raises:
            RateLimited: The provider refused the call.
            Unavailable: It failed.
        """
        try:
            async with self._engine.admit("/search", query):
                return f"answer to {query}"
        except Rejected as rejected:
            raise RateLimited(str(rejected), retry_after=rejected.retry_after) from None
        except (Failed, Dropped) as failed:
            raise Unavailable(str(failed) or "the connection was cut") from None

    def ledger(self) -> Ledger:
        """Return what it saw."""
        return self._engine.ledger()
