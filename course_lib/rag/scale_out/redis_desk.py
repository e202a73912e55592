"""The line within one process for what a server grants, and the thread that asks for it."""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from itertools import islice
from typing import TYPE_CHECKING, Final

from course_lib.errors import Unavailable
from course_lib.rag.scale_out.redis_desk_parts import NOTHING, Counts, Stake

if TYPE_CHECKING:
    from course_lib.rag.scale_out.redis_desk_parts import Answer, Ask, Caller

__all__ = ["Desk"]

IDLE_SECONDS: Final = 1.0  # after which the thread ends; the next caller starts another
BATCH: Final = 128  # callers in one question
FIRST_PAUSE, LONGEST_PAUSE = 0.02, 0.5  # seconds between two tries while the server is away


class Desk:
    """Takes callers in order, and asks the server for as many as it lets pass.

    A single thread asks, and sleeps until the time that the server names for the first in line. It
    runs only while there is somebody to ask for, and a moment longer. Those behind are unknown to
    the server: they may come and go at no cost, and take the place of who leaves.

    Args:
        ask: Puts the question.
        opens: Whether callers pass while the server is away; otherwise they wait, and fail.
        patience: Seconds that a caller waits for a server that is away.

    Attributes:
        counts: What it has done.
    """

    def __init__(self, ask: Ask, *, opens: bool, patience: float) -> None:
        self._ask = ask
        self._opens = opens
        self._patience = patience
        self.counts = Counts()
        self._begin()

    def _begin(self) -> None:
        self._changed = threading.Condition()
        self._line: OrderedDict[Caller, None] = OrderedDict()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._place = NOTHING  # held by the first in line
        self._back: list[Stake] = []
        self._resume = 0.0  # monotonic seconds from when on to ask (again)
        self._away: Unavailable | None = None
        self._away_since = 0.0
        self._pause = FIRST_PAUSE
        self._pid = os.getpid()

    def __len__(self) -> int:
        return len(self._line)

    def join(self, caller: Caller) -> None:
        """Take the last place, or have it decided at once."""
        if self._pid != os.getpid():  # a fork: thread, lock and places are its parent's
            self._begin()
        with self._changed:
            if self._away and (self._opens or not caller.waits) and time.monotonic() < self._resume:
                self._turn_away(caller, self._away)
            elif self._place.weight and not caller.waits:  # nobody overtakes
                self._settle(caller, outcome=False)
            else:
                self._line[caller] = None
                self._wake(news=len(self._line) == 1)

    def leave(self, caller: Caller) -> None:
        """Let somebody go who was interrupted, perhaps just after they were granted."""
        with self._changed:
            self.counts.cancelled += 1
            self._line.pop(caller, None)
            if caller.stake.weight:
                self.counts.admitted -= 1
                self._back.append(caller.stake)
            self._wake(news=not self._line or bool(self._back))

    def close(self) -> None:
        """Have the thread end as soon as nobody waits; if nobody does, wait a moment for that."""
        with self._changed:
            thread, self._closed = self._thread, True
            idle = not self._line
            self._changed.notify()
        if thread is not None and idle and self._pid == os.getpid():
            thread.join(IDLE_SECONDS)

    def _wake(self, *, news: bool) -> None:
        """See that the thread runs, and tell it if there is something for it to do."""
        self._closed = False
        if self._thread is None:
            thread = threading.Thread(target=self._serve, name="RedisTokenBucket", daemon=True)
            thread.start()
            self._thread = thread
        elif news:
            self._changed.notify()

    def _serve(self) -> None:
        while self._wait_for_work():
            with self._changed:
                back = self._back[0] if self._back else NOTHING
                callers = [] if back.weight else self._first()
                place = NOTHING if back.weight else self._place
            try:
                answer = self._ask([each.wanted for each in callers], place=place, back=back)
            except Unavailable as error:
                with self._changed:
                    self._gone_away(error)
            except Exception as error:  # noqa: BLE001 - it is raised where it is waited for
                with self._changed:
                    self._fail(error)
            else:
                with self._changed:
                    self._away, self._pause = None, FIRST_PAUSE
                    if back.weight:
                        del self._back[0]
                    else:
                        self._take_in(callers, answer)

    def _wait_for_work(self) -> bool:
        """Wait until the server is to be asked; False if nobody has wanted anything for long."""
        with self._changed:
            idle = False
            while True:
                self._drop_who_is_gone()
                if self._line or self._place.weight or self._back:
                    left = self._resume - time.monotonic()
                    to_return = self._back or not self._line
                    if left <= 0 or (to_return and self._away is None):
                        return True
                    self._changed.wait(min(left, self._grace()))
                    idle = False
                elif self._closed or idle:
                    self._thread = None
                    return False
                else:
                    idle = not self._changed.wait(IDLE_SECONDS)

    def _drop_who_is_gone(self) -> None:
        """Let those go who were cancelled, whose loop was closed, or whose patience is over."""
        while self._line:
            first = next(iter(self._line))
            if first.turn.gone:
                del self._line[first]
            elif self._away is not None and self._grace() <= 0:
                del self._line[first]
                self._turn_away(first, self._away)
            else:
                return

    def _grace(self) -> float:
        """Return the seconds that the first in line still waits for a server that is away."""
        if self._away is None or not self._line:
            return threading.TIMEOUT_MAX
        since = max(self._away_since, next(iter(self._line)).turn.arrived)
        return since + self._patience - time.monotonic()

    def _first(self) -> list[Caller]:
        return [caller for caller in islice(self._line, BATCH) if not caller.turn.gone]

    def _take_in(self, callers: list[Caller], answer: Answer) -> None:
        self._place, self._resume = NOTHING, 0.0
        for caller, letter in zip(callers, answer.decided, strict=False):
            stake = Stake(caller.turn.weight, answer.now, answer.run)
            if letter == "w":
                self._place = stake._replace(at=answer.place)
                self._resume = time.monotonic() + max(0.0, answer.place - answer.now) / 1e6
            elif caller in self._line:
                del self._line[caller]
                if letter == "g":
                    caller.stake = stake
                self._settle(caller, outcome=letter == "g")
            elif letter == "g":  # left meanwhile
                self._back.append(stake)
        if self._place.weight:
            for caller in [each for each in self._line if not each.waits]:
                del self._line[caller]
                self._settle(caller, outcome=False)

    def _gone_away(self, error: Unavailable) -> None:
        now = time.monotonic()
        if self._away is None:
            self._away_since = now
            self.counts.outages += 1
        self._away = error
        self._resume = now + self._pause
        self._pause = min(2 * self._pause, LONGEST_PAUSE)
        self._back.clear()  # not worth waiting for: it only means that less is given out
        if not self._line:
            self._place = NOTHING
        for caller in [each for each in self._line if self._opens or not each.waits]:
            del self._line[caller]
            self._turn_away(caller, error)

    def _turn_away(self, caller: Caller, error: Unavailable) -> None:
        self._settle(caller, outcome=True if self._opens else Unavailable(*error.args))

    def _fail(self, error: Exception) -> None:
        self._place, self._back = NOTHING, []
        while self._line:
            caller, _ = self._line.popitem(last=False)
            self._settle(caller, outcome=error)

    def _settle(self, caller: Caller, *, outcome: bool | Exception) -> None:
        now = time.monotonic()
        caller.outcome = outcome
        counts = self.counts
        if isinstance(outcome, Exception):
            counts.failed += 1
        elif not outcome:
            counts.refused += 1
        elif caller.stake.weight:
            counts.admitted += 1
            counts.waits += now - caller.turn.arrived
            counts.longest_wait = max(counts.longest_wait, now - caller.turn.arrived)
        else:
            counts.unlimited += 1
        caller.turn.grant(now)
