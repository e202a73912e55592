"""The exercises' verbs: `check`, `hint`, `solution`, the same three for all."""

import asyncio
import functools
import gc
import inspect
import linecache
import traceback
import warnings
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from course_lib.lab.exercises.card import Grading, ScoreCard, named
from course_lib.lab.exercises.offers import OFFERS
from course_lib.lab.exercises.solution import Solution, solution_of
from course_lib.lab.hygiene import expected
from course_lib.lab.joining import share
from course_lib.lab.progress import note_check, note_hint, solved
from course_lib.lab.simulation import SimulationError

__all__ = ["Exercise", "Hint", "cause_of"]

LEARNERS_LEAKS = ("coroutine never awaited", "lost task", "task exception never retrieved")
"""What a wrong answer may leave behind: a diagnosis names it, `hygiene` need not."""


_EXERCISES = Path(__file__).parent
_STUMBLES = (TypeError, ValueError, AttributeError, LookupError, ArithmeticError)
"""What a grader raises that was given something else than it expects: not the learner's error."""


@dataclass(frozen=True, slots=True, repr=False)
class Hint:
    """One hint, shown as text.

    Attributes:
        text: The hint, with its number.
    """

    text: str

    def __repr__(self) -> str:
        return self.text

    def _repr_markdown_(self) -> str:
        return self.text


@dataclass(slots=True, repr=False)
class Exercise:
    """An exercise: how it is graded, and the ways on when one is stuck.

    Attributes:
        id: Number of the notebook and of the exercise, such as "1.1".
        title: What is built.
        parameters: Names of the function's parameters, in order.
        grade: Runs the learner's function and says what it observed.
        hints: Up to three, from a nudge to nearly the answer.
        wrong_here: Whether a faulty program is given. Then the learner hands over an input that
            shows the fault, beside the mended program; `grade` gets both.
    """

    id: str
    title: str
    parameters: tuple[str, ...]
    grade: Callable[..., Awaitable[Grading]]
    hints: tuple[str, ...]
    wrong_here: bool = False
    _shown: int = field(default=0, init=False)

    def __repr__(self) -> str:
        given = "function, input" if self.wrong_here else "function"
        return (
            f"Exercise {self.id} · {self.title}: a function of ({', '.join(self.parameters)})\n"
            f'  await exercise("{self.id}").check({given})   what it does, against what it should\n'
            f'  exercise("{self.id}").hint()                  the next of {len(self.hints)} hints\n'
            f'  exercise("{self.id}").solution()              one way, as it was executed'
        )

    @property
    def solved(self) -> bool:
        """Whether the learner has solved it: in this kernel, or earlier in their own copy."""
        return solved(self.id)

    async def check(self, function: Callable[..., Any], breaks: Any = ...) -> ScoreCard:
        """Run the learner's function and return a score card of its behaviour.

        Nothing that the function does wrong is raised: it is named on the card.

        Args:
            function: The function asked for, not its result.
            breaks: Where a faulty program is given, an input that shows its fault.
        """
        given = (breaks,) if self.wrong_here else ()
        card = await self._checked(function, *given)
        if card.verdict == "not attempted yet":
            note_check(self.id, attempted=False, passed=False)
        else:
            kept = note_check(self.id, attempted=True, passed=card.passed, diagnosis=card.name)
            share(self.id, passed=card.passed, diagnosis=card.name, **kept)
        return card

    async def _checked(self, function: Callable[..., Any], *given: Any) -> ScoreCard:
        title = f"Exercise {self.id} · {self.title}"
        misuse = self._misuse(function)
        if misuse:
            return ScoreCard(title, "not yet", diagnosis=misuse, name="not-called-as-asked")
        with expected(*LEARNERS_LEAKS), warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # "never awaited": the card says it
            try:
                return await self._graded(title, function, *given)
            finally:
                gc.collect()  # what a mistake leaves goes now, not in the notebook's last cell

    async def _graded(self, title: str, function: Callable[..., Any], *given: Any) -> ScoreCard:
        try:
            grading = await self.grade(function, *given)
        except SimulationError as error:
            return ScoreCard(title, "not yet", diagnosis=error.finding, name=_name_of(error))
        except (Exception, SystemExit, asyncio.CancelledError) as error:
            if _cancelled_from_outside(error):
                raise
            cause = cause_of(error)
            if isinstance(cause, NotImplementedError):
                return ScoreCard(title, "not attempted yet", diagnosis="write it, then check again")
            said = _raised(function, cause)
            return ScoreCard(title, "not yet", diagnosis=said, name=_name_of(cause))
        return grading.card(title, OFFERS.get(self.id))

    def hint(self) -> Hint:
        """Return the next hint; after the last one, say where the solution is."""
        if self._shown == len(self.hints):
            self._shown = 0
            return Hint(
                f'That was the last hint. `exercise("{self.id}").solution()` shows one way.'
            )
        self._shown += 1
        note_hint(self.id)
        text = self.hints[self._shown - 1]
        return Hint(f"**Hint {self._shown} of {len(self.hints)}.** {text}")

    def solution(self) -> Solution:
        """Return a solution as it was executed: the code, and the score card it got.

        Raises:
            LookupError: The notebook with the solutions is not beside this package.
        """
        return solution_of(self.id)

    def _misuse(self, function: object) -> str:
        call = f'`await exercise("{self.id}").check(your_function)`'
        if inspect.iscoroutine(function):
            function.close()
            return f"this is the result of a call: pass the function itself, {call}"
        if not callable(function):
            return f"{type(function).__name__} is not a function: {call}"
        try:
            inspect.signature(function).bind(*self.parameters)
        except (TypeError, ValueError):
            return (
                f"the function is called with ({', '.join(self.parameters)}): take these parameters"
            )
        return ""


def _cancelled_from_outside(error: BaseException) -> bool:
    """Whether somebody pressed stop, rather than the function cancelling itself."""
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling() > 0


def cause_of(error: BaseException) -> BaseException:
    """Return the first error within a group, or the error itself."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _name_of(error: BaseException) -> str:
    """Return the name of the diagnosis that something was raised.

    A class of Python's or of this package is named; one of the learner's own is part of their code.
    """
    kind = type(error)
    known = kind.__module__.partition(".")[0] in {"builtins", "asyncio", "course_lib"}
    return named(f"raised {kind.__name__}" if known else "raised an error")


def _raised(function: Callable[..., Any], error: BaseException) -> str:
    """What was raised and, where it is known, in which line of the learner's code."""
    said = f"it raised {type(error).__name__}: {error}" if str(error) else f"it raised {error!r}"
    file, frames = _file_of(function), traceback.extract_tb(error.__traceback__)
    for frame in reversed(frames):
        if frame.filename == file:
            line = frame.line or linecache.getline(frame.filename, frame.lineno or 0).strip()
            return f"{said}, in the line `{line}`" if line else said
    if isinstance(error, _STUMBLES) and frames and _EXERCISES in Path(frames[-1].filename).parents:
        return (
            "what it gave back cannot be looked at as what was asked for: read the exercise's text "
            f"again ({type(error).__name__} while it was compared)"
        )
    return said


def _file_of(function: Any) -> str | None:
    """Where the learner's function, class or partial was written."""
    while isinstance(function, functools.partial):
        function = function.func
    if inspect.isclass(function):
        methods = (vars(each) for each in function.__mro__ if each is not object)
        codes = (getattr(each, "__code__", None) for names in methods for each in names.values())
        return next((code.co_filename for code in codes if code), None)
    return getattr(getattr(inspect.unwrap(function), "__code__", None), "co_filename", None)
