"""Exercise 4.4: what is wrong here? A key that is glued together, and comes apart in two ways."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from course_lib.lab.exercises.card import Grading
from course_lib.lab.exercises.virtual import run_virtually

__all__ = ["grade_remember", "remember"]

Search = Callable[..., Awaitable[Any]]
Remember = Callable[[Search], Callable[..., Awaitable[Any]]]
Question = tuple[Any, ...]

GLUES = (
    ":",
    "::",
    "|",
    "/",
    ",",
    ", ",
    ";",
    "-",
    "_",
    " ",
    "\n",
    "\t",
    "\0",
    "\x1f",
    "'",
    '"',
    "\\",
)
"""What keys are glued with: a text on either side may hold it."""
OTHERS: tuple[Question, ...] = (
    ("Ada", "rent"), ("ada", "rent"), ("Ada", "Rent"), ("Ada", "rent "), ("", "Ada"), ("Ada", ""),
    ("Ada", "rent", ("new",)), ("Ada", "rent", ("new", "big")), ("Ada", "rent", ("new,big",)),
    ("Ada", "rent", ("",)), ("Ada", "rent", ("", "")), ("Ada", "rent:()"), ("Ada", "rent:('new',)"),
    ("rent", "Ada"),
)  # fmt: skip
TWO = 2


def remember(search: Search) -> Callable[..., Awaitable[Any]]:
    """Return what the notebook's faulty program returns."""
    kept: dict[str, Any] = {}

    async def ask(user: str, query: str, filters: tuple[str, ...] = ()) -> Any:
        key = f"{user}:{query}:{filters}"
        if key not in kept:
            kept[key] = await search(user, query, filters)
        return kept[key]

    return ask


async def grade_remember(remember_each: Remember, breaks: Any) -> Grading:
    """The learner's questions through the faulty program; then many pairs through the mended one."""
    grading = Grading()
    # The function first: a stub is not attempted yet, whatever the questions are.
    mixed = [pair for pair in _pairs() if _searches(remember_each, pair) != list(map(_full, pair))]
    _grade_questions(grading, breaks)
    grading.observe(
        "pairs of different questions", "mixed up: " + _said(mixed[0]) if mixed else "each searched for",
        "each searched for", not mixed,
        "these two are searched for once, or not as they were asked: a key that is glued together "
        "can come apart in another way, so keep its parts apart" if mixed else "",
    )  # fmt: skip
    again = {"a list": ["mail"], "an empty list": [], "None": None}
    anew = [name for name, result in again.items() if not _kept(remember_each, result)]
    grading.observe(
        "the same question again", f"searched for again, or changed: {anew[0]}" if anew else "kept",
        "kept", not anew,
        "the same question is searched for once, and everybody gets its result, also an empty one",
    )  # fmt: skip
    apart = _two_functions(remember_each)
    grading.observe(
        "two functions", "each with results of its own" if apart else "mixed up",
        "each with results of its own", apart,
        "two functions that were made of two searches hand out each other's results: what is kept "
        "belongs into `remember_each`",
    )  # fmt: skip
    return grading


def _pairs() -> list[tuple[Question, Question]]:
    """Return pairs of different questions that a careless key takes for one."""
    glued = [((f"a{glue}b", "c"), ("a", f"b{glue}c")) for glue in GLUES]
    others = [(one, two) for at, one in enumerate(OTHERS) for two in OTHERS[at + 1 :]]
    return [*glued, *others]


def _full(question: Question) -> Question:
    return question if len(question) > TWO else (*question, ())


def _searches(make: Remember, questions: Sequence[Question]) -> list[Any]:
    """Return what is searched for when some questions are asked, one after another."""
    searched: list[Any] = []

    async def search(*given: Any, **named: Any) -> list[Any]:
        searched.append((*given, *named.values()))
        return [given]

    async def main() -> None:
        ask = make(search)
        for question in questions:
            await ask(*question)

    run_virtually(main)
    return searched


def _kept(make: Remember, result: Any) -> bool:
    """Whether a question that is asked again, also with its filters, gets what was found for it."""
    searched: list[Any] = []

    async def search(*given: Any, **named: Any) -> Any:
        searched.append((given, named))
        return result

    async def main() -> list[Any]:
        ask = make(search)
        questions = (("Ada", "rent"), ("Ada", "rent", ("new",)))
        return [await ask(*each) for each in (*questions, *questions)]

    return bool(run_virtually(main).value == [result] * 4) and len(searched) == TWO


def _two_functions(make: Remember) -> bool:
    async def one(*_: Any) -> str:
        return "one"

    async def two(*_: Any) -> str:
        return "two"

    async def main() -> list[Any]:
        return [await ask("Ada", "rent") for ask in (make(one), make(two))]

    return bool(run_virtually(main).value == ["one", "two"])


def _grade_questions(grading: Grading, breaks: Any) -> None:
    pair = (
        isinstance(breaks, list | tuple) and len(breaks) == TWO and all(map(_is_question, breaks))
    )
    searched = len(_searches(remember, list(map(tuple, breaks)))) if pair else TWO
    different = pair and tuple(breaks[0]) != tuple(breaks[1])
    shown = different and searched < TWO
    grading.observe(
        "your questions, in the program above", f"{searched} of 2 searched for", "1 of 2", shown,
        "hand over two different questions, each a tuple of a user and a query" if not different
        else "the program above searches for both: what stands in its key between the user and the "
        "query, and where else can that stand?",
    )  # fmt: skip


def _is_question(value: Any) -> bool:
    return (
        isinstance(value, tuple | list)
        and len(value) == TWO
        and all(isinstance(v, str) for v in value)
    )


def _said(pair: tuple[Question, Question]) -> str:
    return " and ".join(map(repr, pair))
