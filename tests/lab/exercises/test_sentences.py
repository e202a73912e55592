"""What an exercise's text says is graded, and what is graded stands in its text.

`sentences.toml` pairs them: each sentence of a specification by an id, in the words of the notebook,
with wrong answers that break this sentence. A new exercise brings its sentences there, a wrong answer
for each of them, and eight right answers that differ in how they are built.
"""

import re
import tomllib
from pathlib import Path

import pytest
import right_answers_1_to_3
import right_answers_4_to_6
import wrong_answers_1_to_3
import wrong_answers_4_to_6
from exercise_support import card
from test_answers import RIGHT, WRONG

from course_lib.lab.exercises import EXERCISES
from course_lib.lab.exercises.card import named

ROOT = Path(__file__).resolve().parents[3]
SENTENCES = tomllib.loads(Path(__file__).with_name("sentences.toml").read_text("utf-8"))
EXERCISE = re.compile(
    r'^# ### Exercise (\S+): .*\n((?:.*\n)*?)# %% tags=\["exercise"\]', re.MULTILINE
)
SOURCES = sorted((ROOT / "notebooks" / "sources").glob("*.py"))
LEAST_RIGHT = 8


def specification(cells):
    """The text of an exercise's cells, its code left out."""
    lines = [line[2:] for line in cells.splitlines() if re.match(r"# (?!%%)", line)]
    return "\n".join(lines)


TEXTS = {
    number: specification(cells)
    for source in SOURCES
    for number, cells in EXERCISE.findall(source.read_text("utf-8"))
}
MORE_RIGHT = right_answers_1_to_3.RIGHT | right_answers_4_to_6.RIGHT
MORE_WRONG = wrong_answers_1_to_3.WRONG | wrong_answers_4_to_6.WRONG

each_exercise = pytest.mark.parametrize("number", EXERCISES)
each_sentence = pytest.mark.parametrize(
    ("number", "sentence"),
    [
        pytest.param(number, each, id=f"{number}-{name}")
        for number, sentences in SENTENCES.items()
        for name, each in sentences.items()
    ],
)


def bare(text):
    """The words of a text, without marks, blanks and what its links lead to."""
    return " ".join(re.findall(r"\w+", re.sub(r"\]\([^)]*\)", "", text)))


def wrong(number):
    """All wrong answers to an exercise, by their names."""
    found = {name: each.function for name, each in WRONG[number].items()}
    return found | {each.__name__: each for each in MORE_WRONG.get(number, {})}


@each_exercise
def test_an_exercise_has_its_sentences(number):
    """All exercises are listed, and nothing else; no wrong answer breaks two of them."""
    assert number in SENTENCES, f"write the sentences of {number} into sentences.toml"
    assert SENTENCES.keys() <= EXERCISES.keys()
    names = [name for each in SENTENCES[number].values() for name in each["wrong"]]
    assert sorted(set(names)) == sorted(names)


@each_exercise
def test_each_sentence_of_a_list_is_among_them(number):
    """What the list of a specification says, in the words of the notebook, and nothing beside."""
    listed = [line[2:] for line in TEXTS[number].splitlines() if line.startswith("- ")]
    text = bare(" ".join(listed))
    for sentence in SENTENCES[number].values():
        text = text.replace(bare(sentence["says"]), "", 1)
    assert text.strip() == ""


@each_sentence
def test_a_sentence_stands_in_the_notebook(number, sentence):
    """In these words."""
    assert bare(sentence["says"]) in bare(TEXTS[number])


@each_sentence
def test_an_answer_that_breaks_only_this_sentence_is_there(number, sentence):
    """At least one, among those that other tests see refused."""
    assert sentence["wrong"], "write a wrong answer that breaks only this"
    assert set(sentence["wrong"]) <= set(wrong(number))


@pytest.mark.nightly
@each_sentence
def test_an_answer_that_breaks_only_this_sentence_is_refused(number, sentence):
    """Each that is named is told what is wrong."""
    for name in sentence["wrong"]:
        result = card(number, wrong(number)[name])
        assert result.verdict == "not yet"
        assert result.diagnosis


@pytest.mark.nightly
@each_exercise
def test_what_is_graded_is_broken_by_an_answer_that_breaks_a_sentence(number):
    """So each line of a card belongs to a sentence, and none can be left out unseen."""
    names = [name for each in SENTENCES[number].values() for name in each["wrong"]]
    cards = [card(number, wrong(number)[name]) for name in names]
    broken = {named(line.what) for each in cards for line in each.lines if not line.good}
    graded = {named(line.what) for line in card(number, RIGHT[number][0]).lines}
    assert graded <= broken


@each_exercise
def test_an_exercise_has_right_answers_of_many_kinds(number):
    """Eight at least, so that no style is taken for a mistake."""
    assert len(RIGHT[number]) + len(MORE_RIGHT.get(number, ())) >= LEAST_RIGHT
