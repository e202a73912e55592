"""Exercise 4.1: a key that holds everywhere."""

import copy
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from course_lib.lab.exercises.card import Grading
from course_lib.lab.exercises.virtual import run_virtually

__all__ = ["grade_key"]

MakeKey = Callable[[str, Mapping[str, Any]], Any]
Question = tuple[str, dict[str, Any]]

ARGUMENTS = {
    "q": "two clocks",
    "k": 5,
    "filter": {"topic": "caching", "newer": True, "ids": [3, 1], "any": [{"a": 1, "b": 2}]},
}
INNER = {
    **ARGUMENTS,
    "filter": {"any": [{"b": 2, "a": 1}], "ids": [3, 1], "newer": True, "topic": "caching"},
}
VALUES = [
    1,
    "1",
    True,
    "True",
    "true",
    0,
    False,
    None,
    "None",
    "null",
    "",
    [],
    [1],
    ["1"],
    {},
    "[1]",
]
EMPTY: tuple[Any, ...] = (None, "", 0, False, [])
NAMES = ("name", "function", "func", "fn", "namespace", "arguments", "args", "__name__", "_name")
"""What an argument may be called, and what a key may call the function."""
LONG = "a long question " * 300


@dataclass(frozen=True, slots=True, eq=False)
class Different:
    """Questions of which no two may share a key.

    Attributes:
        what: What they differ in.
        questions: Function and arguments of each.
        mistake: What is wrong where two share a key.
    """

    what: str
    questions: Sequence[Question]
    mistake: str = ""

    def shared(self, make_key: MakeKey) -> tuple[int, list[tuple[Question, Question]]]:
        """Return how many keys they get, and the pairs that share one."""
        keys = [_key(make_key, *question) for question in self.questions]
        pairs = combinations(range(len(keys)), 2)
        same = [(self.questions[i], self.questions[j]) for i, j in pairs if keys[i] == keys[j]]
        return len(set(keys)), same


def _of(*values: Any) -> list[Question]:
    return [("search", {"q": value}) for value in values]


DIFFERENT = (
    Different(
        "two functions",
        [("search", ARGUMENTS), ("summarise", ARGUMENTS), ("Search", ARGUMENTS)],
        "two functions share a key, and so their answers: put the name into it",
    ),
    Different(
        "arguments of other names",
        [("search", {name: "x"}) for name in ("q", "lang", "Q")]
        + _of({"topic": 1}, {"author": 1})
        + [("search", {"q": "x", "lang": "y"}), ("search", {"q": "y", "lang": "x"})],
        'the same value by another name is another question ({"q": "x"}, {"lang": "x"}): names and '
        "values belong into the key",
    ),
    Different(
        "arguments called `name`, `args` ...",
        [
            (function, {name: value})
            for name in NAMES
            for function in ("search", "summarise")
            for value in ("x", "search", "summarise")
        ],
        "an argument called `name` (or as you call the function in the key) hides the function, or "
        "the function hides it: keep the two apart, as in `[name, arguments]`",
    ),
    Different(
        "a list in another order, or nested",
        _of([3, 1], [1, 3], [1, 3, 3], [[3], [1]], [[1], [3]], [[3, 1]]),
        "[3, 1] and [1, 3] got one key: the order of a list is part of the question, and so are "
        "what is in it twice, and lists within it",
    ),
    Different(f"{len(VALUES)} different values", _of(*VALUES)),
    Different(
        "an argument that is empty, and none",
        [("search", {"q": "x", **more}) for more in ({}, *({"lang": empty} for empty in EMPTY))]
        + _of({"topic": None}, {"topic": ""}, {}),
        "an argument that is None (or empty) got the key of the question without it, or of another "
        "empty one: leave nothing out",
    ),
    Different(
        "whitespace, case, quotes",
        [
            *_of("a b", "ab", "a  b", " a b", "a b ", "a\nb", "A b", '"a b"', "'a b'"),
            *_of('x", "lang": "y', "x', 'lang': 'y", "x, lang=y", "x&lang=y"),
            ("search", {"q": "x", "lang": "y"}),
        ],
        "two texts that differ in whitespace, in case or in quotes got one key: the text goes in as it is",
    ),
    Different(
        "texts that are not ASCII",
        _of("缓存", "時鐘", "é", "e", "", "?", "??", "❤", "😀"),
        "two texts that are not ASCII got one key: encode all of a text (UTF-8), and leave no "
        "letter out",
    ),
    Different(
        "long texts, exact numbers",
        [
            *_of(f"{LONG}a", f"{LONG}b", f"a{LONG}", f"{LONG}a{LONG}", f"{LONG}b{LONG}"),
            *_of(10**20, 10**20 + 1, -1, -2),
        ],
        "two long texts (or numbers) that differ in one place got one key: what is cut off or "
        "rounded is missing in it",
    ),
)


async def grade_key(make_key: MakeKey) -> Grading:
    """One question in several forms, many different ones, and some that cannot be written."""
    return run_virtually(lambda: _graded(make_key)).value  # type: ignore[no-any-return]


async def _graded(make_key: MakeKey) -> Grading:
    arguments = copy.deepcopy(ARGUMENTS)
    key = make_key("search", arguments)
    if inspect.iscoroutine(key):
        key.close()
    grading = Grading()
    grading.observe(
        "a key is", type(key).__name__, "str", isinstance(key, str), _no_text(key),
    )  # fmt: skip
    if isinstance(key, str):
        same = arguments == ARGUMENTS
        grading.observe(
            "the arguments afterwards", "as before" if same else "changed", "as before", same,
            "the caller's own dict is changed, and the call that follows gets it so: make a new one",
        )  # fmt: skip
        _grade_equal(grading, make_key, key)
        for each in DIFFERENT:
            _grade_different(grading, make_key, each)
        _grade_refusal(grading, make_key)
    return grading


def _key(make_key: MakeKey, name: str, arguments: Mapping[str, Any]) -> Any:
    return make_key(name, copy.deepcopy(dict(arguments)))


def _no_text(key: Any) -> str:
    if inspect.iscoroutine(key):
        return "it is called without `await`: write `def`, not `async def`, and return a str"
    if key is None:
        return "it returns None: return a str (is a `return` missing?)"
    return "a cache on disk, or one that others share, needs text for a key: return a str"


def _grade_equal(grading: Grading, make_key: MakeKey, key: str) -> None:
    turned = dict(reversed(ARGUMENTS.items()))
    grading.observe(
        "the same question again", *_same(_key(make_key, "search", ARGUMENTS) == key),
        "the same question got another key: nothing but the name and the arguments may be in it (no "
        "`id`, no time, no counter)",
    )  # fmt: skip
    grading.observe(
        "arguments in another order", *_same(_key(make_key, "search", turned) == key),
        "the same arguments in another order got another key: sort them by name",
    )  # fmt: skip
    grading.observe(
        "a dict within them in another order", *_same(_key(make_key, "search", INNER) == key),
        "a dict within the arguments got another key in another order: sort at every depth, also in "
        "a list",
    )  # fmt: skip
    grading.observe(
        "in another process", *_same(_key_elsewhere(make_key) == key),
        "another process makes another key: Python's `hash`, and so the order of a set, is salted "
        "anew in each. Write the arguments down as text",
    )  # fmt: skip


def _grade_different(grading: Grading, make_key: MakeKey, each: Different) -> None:
    keys, shared = each.shared(make_key)
    (_, first), (_, second) = (shared or [(("", {}), ("", {}))])[0]
    grading.observe(
        f"keys, {each.what}", keys, len(each.questions), not shared,
        each.mistake
        or f"{first.get('q')!r} and {second.get('q')!r} got one key, and are two questions",
    )  # fmt: skip


def _grade_refusal(grading: Grading, make_key: MakeKey) -> None:
    got = _attempt(make_key, {"q": _Unwritable()})
    raised = isinstance(got, TypeError)
    grading.observe(
        "what cannot be written", _outcome(got), "TypeError", raised,
        f"{_outcome(got)} in place of a TypeError: the caller goes on, and must not. Let the "
        "TypeError out"
        if got is None or isinstance(got, Exception) else
        "an object without a text of its own got a key: the next one like it gets another, or the "
        "same by chance. Let it raise a TypeError",
    )  # fmt: skip
    _grade_left_out(grading, make_key)


def _grade_left_out(grading: Grading, make_key: MakeKey) -> None:
    """A set, or a dict with pairs for names: written down, or refused, but not left out."""
    pairs = _attempt(make_key, {"q": {("a", "b"): 1}})
    kept = isinstance(pairs, TypeError) or pairs != _key(make_key, "search", {"q": {}})
    grading.observe(
        "a dict by pairs", _outcome(pairs) if kept else "left out", "TypeError, or in the key", kept,
        "what cannot be written is left out (`skipkeys`), and the key is that of another question: "
        "let it raise a TypeError",
    )  # fmt: skip
    members = set("abcdefgh")
    made, elsewhere = (_attempt(make_key, {"q": each}) for each in (members, _moved(members)))
    same = isinstance(made, TypeError) or (
        made == elsewhere and made != _key(make_key, "search", {"q": sorted(members)})
    )
    grading.observe(
        "a set", _outcome(made) if same else "a key by chance", "TypeError, or one key", same,
        "a set got the key of a list, or another one in each process: its order is by chance. Let "
        "it raise a TypeError",
    )  # fmt: skip


def _attempt(make_key: MakeKey, arguments: dict[str, Any]) -> Any:
    """Return the key, or the error in place of it."""
    try:
        return make_key("search", arguments)
    except NotImplementedError:
        raise
    except Exception as error:  # noqa: BLE001 - said on the card
        return error


def _outcome(got: Any) -> str:
    if got is None:
        return "None"
    return type(got).__name__ if isinstance(got, Exception) else "a key"


def _same(same: bool) -> tuple[str, str, bool]:  # noqa: FBT001 - an observation
    return "the same key" if same else "another key", "the same key", same


def _key_elsewhere(make_key: MakeKey) -> Any:
    """Return the key as another process would make it: there equal texts have other hashes."""
    try:
        return make_key(_Elsewhere("search"), _moved(ARGUMENTS))
    except TypeError:  # it takes no subclass of str: then this cannot be told
        return _key(make_key, "search", ARGUMENTS)


def _moved(value: Any) -> Any:
    if isinstance(value, dict):
        return {_Elsewhere(name): _moved(item) for name, item in value.items()}
    if isinstance(value, list | set):
        return type(value)(map(_moved, value))
    return _Elsewhere(value) if isinstance(value, str) else value


class _Elsewhere(str):
    """A text with the hash that it may have in another process."""

    __slots__ = ()

    def __hash__(self) -> int:
        return ~super().__hash__()


_Elsewhere.__name__ = "str"  # who writes down the type of a value writes this


class _Unwritable:
    """No JSON, and a `repr` that holds an address."""
