"""Exercises: `await exercise("1.1").check(function)`, `.hint()`, `.solution()`.

One module a notebook holds its exercises, with how they are graded: by what the learner's function
does (calls made, peak in flight, makespan against the bound), in virtual time where that is
possible, so that the score card is exact and the same on every machine.
"""

from course_lib.lab.exercises import async_batch, batching, caching, monitoring, rag, rate_limiting
from course_lib.lab.exercises.card import ScoreCard
from course_lib.lab.exercises.card import named as named
from course_lib.lab.exercises.engine import Exercise, Hint
from course_lib.lab.exercises.solution import Solution

__all__ = ["EXERCISES", "Exercise", "Hint", "ScoreCard", "Solution", "exercise"]

_NOTEBOOKS = (async_batch, rate_limiting, batching, caching, monitoring, rag)

EXERCISES: dict[str, Exercise] = {
    each.id: each for notebook in _NOTEBOOKS for each in notebook.EXERCISES
}
"""All exercises by id."""


def exercise(number: str) -> Exercise:
    """Return the exercise with this number, such as "1.1".

    Raises:
        LookupError: There is no such exercise.
    """
    try:
        return EXERCISES[number]
    except KeyError:
        known = ", ".join(EXERCISES)
        raise LookupError(
            f'no exercise {number!r}: there are {known}; write exercise("1.1")'
        ) from None
