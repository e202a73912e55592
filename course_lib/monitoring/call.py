"""One call in flight."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from uuid import UUID

    from course_lib.monitoring.records import Ledger

__all__ = ["Call", "Run"]


@dataclass(slots=True, eq=False)
class Call:
    """One call, from its start on; times are whole nanoseconds on the monitor's clock.

    Attributes:
        ledger: Where it is counted.
        id: Its number, from 1.
        name: Name of its step, as the ledger keeps it.
        start: When it began.
        wait: Nanoseconds from its planned start to that.
        parent: The call that it runs in.
    """

    ledger: Ledger
    id: int
    name: str
    start: int
    wait: int
    parent: Call | None


@dataclass(slots=True, eq=False)
class Run(Call):
    """A call that LangChain's events tell of.

    Attributes:
        key: LangChain's id of it.
        tells_end: Whether an end event comes in any case, also when it is cancelled.
        task: The task that its start was told in, if any.
        thread: Number of the thread that its start was told in.
        children: Runs in it that have not ended, by key.
        first: When the first of its children that have ended began; None if none has.
        last: When the last of them ended.
        apart: Whether it is known not to have run where its start was told.
        streams: Whether its first token has come.
    """

    key: UUID = field(init=False)
    tells_end: bool = field(init=False)
    task: asyncio.Task[object] | None = field(init=False)
    thread: int = field(init=False)
    children: dict[UUID, Run] = field(init=False, default_factory=dict)
    first: int | None = field(init=False, default=None)
    last: int = field(init=False, default=0)
    apart: bool = field(init=False, default=False)
    streams: bool = field(init=False, default=False)
