"""Exercise 4.1: a key that holds everywhere."""

import inspect
from collections.abc import Callable, Mapping
from itertools import combinations
from typing import Any

from course_lib.lab.exercises.card import Grading
from course_lib.lab.exercises.virtual import run_virtually

__all__ = ["grade_key"]

MakeKey = Callable[[str, Mapping[str, Any]], Any]

ARGUMENTS = {
    "q": "two clocks",
    "k": 5,
    "filter": {"topic": "caching", "newer": True, "ids": [3, 1]},
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
"""Different questions, each as the one argument: no two of them may share a key."""


async def grade_key(make_key: MakeKey) -> Grading:
    """One question in several forms, sixteen different ones, and one that cannot be written."""
    return run_virtually(lambda: _graded(make_key)).value  # type: ignore[no-any-return]


async def _graded(make_key: MakeKey) -> Grading:
    key = make_key("search", ARGUMENTS)
    if inspect.iscoroutine(key):
        key.close()
    grading = Grading()
    grading.observe(
        "a key is", type(key).__name__, "str", isinstance(key, str),
        "a cache on disk, or one that others share, needs text for a key: return a str",
    )  # fmt: skip
    if isinstance(key, str):
        _grade_equal(grading, make_key, key)
        _grade_different(grading, make_key, key)
        _grade_refusal(grading, make_key)
    return grading


def _grade_equal(grading: Grading, make_key: MakeKey, key: str) -> None:
    turned = dict(reversed(ARGUMENTS.items()))
    grading.observe(
        "arguments in another order", *_same(make_key("search", turned) == key),
        "the same arguments in another order got another key: sort them by name",
    )  # fmt: skip
    inner = {**ARGUMENTS, "filter": {"ids": [3, 1], "newer": True, "topic": "caching"}}
    grading.observe(
        "a dict within them in another order", *_same(make_key("search", inner) == key),
        "a dict within the arguments got another key in another order: sort at every depth",
    )  # fmt: skip
    grading.observe(
        "in another process", *_same(_key_elsewhere(make_key) == key),
        "another process makes another key: Python's `hash`, and so the order of a set, is salted "
        "anew in each. Write the arguments down as text",
    )  # fmt: skip


def _grade_different(grading: Grading, make_key: MakeKey, key: str) -> None:
    grading.observe(
        "another function, same arguments", *_other(make_key("summarise", ARGUMENTS) != key),
        "two functions share a key, and so their answers: put the name into it",
    )  # fmt: skip
    listed = {**ARGUMENTS, "filter": {**ARGUMENTS["filter"], "ids": [1, 3]}}  # type: ignore[dict-item]
    grading.observe(
        "a list in another order", *_other(make_key("search", listed) != key),
        "[3, 1] and [1, 3] got one key: the order of a list is part of the question",
    )  # fmt: skip
    keys = [make_key("search", {"q": value}) for value in VALUES]
    shared = [
        (VALUES[i], VALUES[j]) for i, j in combinations(range(len(keys)), 2) if keys[i] == keys[j]
    ]
    grading.observe(
        f"keys of {len(VALUES)} different values", len(set(keys)), len(VALUES), not shared,
        "{!r} and {!r} got one key, and are two questions".format(*(shared or [("", "")])[0]),
    )  # fmt: skip


def _grade_refusal(grading: Grading, make_key: MakeKey) -> None:
    try:
        made = make_key("search", {"q": _Unwritable()})
    except TypeError:
        made = None
    grading.observe(
        "what cannot be written", "TypeError" if made is None else "a key", "TypeError", made is None,
        "an object without a text of its own got a key: the next one like it gets another, or the "
        "same by chance. Let it raise a TypeError",
    )  # fmt: skip


def _same(same: bool) -> tuple[str, str, bool]:  # noqa: FBT001 - an observation
    return "the same key" if same else "another key", "the same key", same


def _other(other: bool) -> tuple[str, str, bool]:  # noqa: FBT001 - an observation
    return "another key" if other else "the same key", "another key", other


def _key_elsewhere(make_key: MakeKey) -> Any:
    """Return the key as another process would make it: there equal texts have other hashes."""
    try:
        return make_key(_Elsewhere("search"), _moved(ARGUMENTS))
    except TypeError:  # it takes no subclass of str: then this cannot be told
        return make_key("search", ARGUMENTS)


def _moved(value: Any) -> Any:
    if isinstance(value, dict):
        return {_Elsewhere(name): _moved(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_moved(item) for item in value]
    return _Elsewhere(value) if isinstance(value, str) else value


class _Elsewhere(str):
    """A text with the hash that it may have in another process."""

    __slots__ = ()

    def __hash__(self) -> int:
        return ~super().__hash__()


_Elsewhere.__name__ = "str"  # who writes down the type of a value writes this


class _Unwritable:
    """No JSON, and a `repr` that holds an address."""
