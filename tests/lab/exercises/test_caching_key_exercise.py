"""Exercise 4.1, a key that holds everywhere: typical answers and what they are told."""

import gc
import hashlib
import json

import pytest
from exercise_support import card

from course_lib.caching import stable_key


def make_key(name, arguments):
    return f"{name}:{json.dumps(arguments, sort_keys=True)}"


def digested(name, arguments):
    text = json.dumps([name, arguments], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def the_librarys(name, arguments):
    return stable_key(arguments, namespace=name)


def strict(name, arguments):
    """Takes no subclass of str, as the grader's stand-in for another process is."""
    if type(name) is not str:
        raise TypeError(name)
    return make_key(name, arguments)


def frozen(value):
    if isinstance(value, dict):
        return sorted((name, frozen(item)) for name, item in value.items())
    if isinstance(value, list):
        return ["list", *map(frozen, value)]
    if not isinstance(value, str | int | None):
        raise TypeError(value)
    return [type(value).__name__, value]


def by_hand(name, arguments):
    return f"{name} {frozen(arguments)}"


def hashed(name, arguments):
    return hash((name, repr(arguments)))


def hashed_text(name, arguments):
    return str(hash((name, json.dumps(arguments, sort_keys=True))))


def as_they_come(name, arguments):
    return f"{name}:{json.dumps(arguments)}"


def sorted_outside(name, arguments):
    return f"{name}:{json.dumps(dict(sorted(arguments.items())))}"


def no_name(name, arguments):
    return json.dumps(arguments, sort_keys=True)


def as_text(name, arguments):
    def text(value):
        if isinstance(value, dict):
            return sorted((key, text(item)) for key, item in value.items())
        return [text(item) for item in value] if isinstance(value, list) else str(value)

    return f"{name}:{text(arguments)}"


def sorted_lists(name, arguments):
    def tidy(value):
        if isinstance(value, dict):
            return {key: tidy(item) for key, item in value.items()}
        return sorted(map(tidy, value)) if isinstance(value, list) else value

    return make_key(name, tidy(arguments))


def anything_goes(name, arguments):
    return f"{name}:{json.dumps(arguments, sort_keys=True, default=str)}"


def a_set(name, arguments):
    return frozenset(arguments.items())


def forgets_false(name, arguments):
    return make_key(name, {key: value for key, value in arguments.items() if value})


async def not_sync(name, arguments):
    return make_key(name, arguments)


WRONG = {
    hashed: "return a str",
    not_sync: "return a str",
    hashed_text: "another process makes another key",
    as_they_come: "sort them by name",
    sorted_outside: "sort at every depth",
    no_name: "two functions share a key",
    as_text: "1 and '1' got one key",
    forgets_false: "got one key",
    sorted_lists: "the order of a list is part of the question",
    anything_goes: "Let it raise a TypeError",
    a_set: "it raised TypeError",
}

RIGHT = [make_key, digested, the_librarys, strict, by_hand]


@pytest.fixture(autouse=True, scope="module")
def few_objects():
    """What is there already is not looked through at each check for what is left behind."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.parametrize("answer", RIGHT, ids=lambda answer: answer.__name__)
def test_a_right_key_passes(answer):
    """Whatever way it is written."""
    result = card("4.1", answer)
    assert result.passed, result


@pytest.mark.parametrize(
    ("answer", "diagnosis"), WRONG.items(), ids=lambda value: getattr(value, "__name__", "")
)
def test_a_wrong_key_is_told_what_is_wrong(answer, diagnosis):
    """The mistake is named, and nothing is raised."""
    result = card("4.1", answer)
    assert result.verdict == "not yet"
    assert diagnosis in result.diagnosis


def test_mistakes_of_a_key_have_diagnoses_of_their_own():
    """A learner is told more than that it is wrong."""
    assert len({card("4.1", answer).diagnosis for answer in WRONG}) >= len(set(WRONG.values()))


def test_a_stub_of_a_key_is_not_attempted_yet():
    """And is no error."""

    def stub(name, arguments):
        raise NotImplementedError

    assert card("4.1", stub).verdict == "not attempted yet"
