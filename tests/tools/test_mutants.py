"""`tools/mutants.py`: which mutants are made, and that a check's verdict on them counts."""

import ast

import mutants
import pytest
from mutation import mutants as mutants_of

from course_lib.lab.exercises import EXERCISES

SOURCE = '''
@decorated
async def ask(queries, limit=3):
    """Ask."""
    best = None
    total = 0
    for query in queries:
        if not query or query == "a":
            continue
        total += len(query, limit=2)
        best = query if total >= limit else best
    return await search(best, key=lambda each: each.lower(), name="Key")
'''


@pytest.fixture(scope="module")
def references():
    """The solutions that the notebooks hold."""
    return mutants.references()


@pytest.mark.parametrize(
    "line",
    [
        "async def ask(queries, limit=4):",
        "best = ''",
        "total = 1",
        "total = None",
        "if query or query == 'a':",
        "if not query and query == 'a':",
        "if not query or query != 'a':",
        "if not query or query == 'XXaXX':",
        "if not query or query == 'A':",
        "break",
        "total -= len(query, limit=2)",
        "total = len(query, limit=2)",
        "total += len(None, limit=2)",
        "total += len(query, limit=None)",
        "total += len(limit=2)",
        "total += len(query)",
        "best = query if total > limit else best",
        "best = query if total >= limit and False else best",
        "best = query if total >= limit or True else best",
        "return search(best, key=lambda each: each.lower(), name='Key')",
        "return await search(best, key=lambda each: None, name='Key')",
        "return await search(best, key=lambda each: each.upper(), name='Key')",
        "return await search(best, key=lambda each: each.lower(), name='KEY')",
        "pass",
    ],
)
def test_each_operator_makes_its_mutant(line):
    """Mutmut's, and three more."""
    assert any(line in map(str.strip, text.splitlines()) for text in mutants_of(SOURCE)), line


def test_mutants_differ_from_the_program_and_from_one_another_and_compile():
    """In one place each; a decorator may be what is missing."""
    made = list(mutants_of(SOURCE))
    assert len(set(made)) == len(made)
    assert ast.unparse(ast.parse(SOURCE)) not in made
    assert any("@decorated" not in text for text in made)
    for text in made:
        compile(text, "<mutant>", "exec")


def test_every_exercise_has_a_solution_to_mutate(references):
    """As its notebook has it, between the markers, and checked in a cell."""
    assert references.keys() == EXERCISES.keys()
    assert all(list(mutants_of(each.source)) for each in references.values())


def test_a_share_of_the_mutants_is_refused_every_day(references):
    """The night asks for all of them."""
    result = mutants.examined(references["2.3"], every=3)
    assert result.made >= 5
    assert result.share >= mutants.SHARE, result.troubles


def test_who_never_ends_is_refused(monkeypatch):
    """By its own processor time: nothing waits for it."""
    monkeypatch.setattr(mutants, "SECONDS", 1)

    def endless():
        while True:
            pass

    assert not mutants.apart(endless)
    assert mutants.apart(lambda: True)
    assert not mutants.apart(lambda: False)


def test_a_survivor_without_a_reason_lowers_the_share_and_a_stale_reason_is_told(monkeypatch):
    """Equivalent programs count neither for nor against."""
    monkeypatch.setattr(mutants, "SURVIVORS", {"9.9": {"a": "the same program", "gone": "no more"}})
    result = mutants.Result("9.9", made=11, survived=["a", "b"])
    assert result.share == pytest.approx(0.9)
    assert result.troubles == ["survives: b", "is named in SURVIVORS and does not survive: gone"]
