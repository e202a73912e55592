"""What an exercise's text says is graded, and what is graded stands in its text.

`sentences.toml` pairs them: each sentence by an id, in the words of the notebook, with the lines of
the score card that grade it. A new exercise brings its sentences there, right answers that differ in
how they are built, and for each sentence a wrong answer that breaks only that.
"""

import re
import tomllib
from pathlib import Path

import pytest
from exercise_support import card
from test_answers import RIGHT, WRONG

from course_lib.lab.exercises import EXERCISES
from course_lib.lab.exercises.card import named

ROOT = Path(__file__).resolve().parents[3]
SENTENCES = tomllib.loads(Path(__file__).with_name("sentences.toml").read_text("utf-8"))
SPECIFICATION = re.compile(r"^# ### Exercise (\S+): .*\n((?:#.*\n)*)", re.MULTILINE)
SOURCES = sorted((ROOT / "notebooks" / "sources").glob("*.py"))
TEXTS = {
    number: " ".join(re.sub(r"^# ?", "", text, flags=re.MULTILINE).split())
    for source in SOURCES
    for number, text in SPECIFICATION.findall(source.read_text("utf-8"))
}
LEAST_RIGHT = 8

each_exercise = pytest.mark.parametrize("number", EXERCISES)
each_sentence = pytest.mark.parametrize(
    ("number", "sentence"),
    [
        pytest.param(number, sentence, id=f"{number}-{sentence}")
        for number, sentences in SENTENCES.items()
        for sentence in sentences
    ],
)


def bare(text):
    """A text without marks, blanks and the words that join its sentences."""
    return re.sub(r"\W+", " ", text).strip()


def refusals(number):
    """The names of a card's bad lines for each wrong answer, by its name."""
    cards = {name: card(number, wrong.function) for name, wrong in WRONG[number].items()}
    return {
        name: {named(line.what) for line in each.lines if not line.good} or {each.name}
        for name, each in cards.items()
    }


@each_exercise
def test_an_exercise_has_its_sentences(number):
    """All exercises are listed, and nothing else."""
    assert number in SENTENCES, f"write the sentences of {number} into sentences.toml"
    assert SENTENCES.keys() <= EXERCISES.keys()


@each_sentence
def test_a_sentence_stands_in_the_notebook(number, sentence):
    """In these words."""
    assert bare(SENTENCES[number][sentence]["says"]) in bare(TEXTS[number])


@each_sentence
def test_a_sentence_is_graded(number, sentence):
    """A wrong answer that breaks it alone is refused by lines that grade it."""
    grades = set(SENTENCES[number][sentence]["graded"])
    alone = [name for name, bad in refusals(number).items() if bad <= grades]
    assert alone, f"write a wrong answer to {number} that breaks only this"


@each_exercise
def test_what_is_graded_stands_in_the_text(number):
    """Each line of a right answer's card belongs to a sentence."""
    graded = {name for each in SENTENCES[number].values() for name in each["graded"]}
    lines = {named(line.what) for line in card(number, RIGHT[number][0]).lines}
    assert lines <= graded


@each_exercise
def test_an_exercise_has_right_answers_of_many_kinds(number):
    """Eight at least, so that no style is taken for a mistake."""
    assert len(RIGHT[number]) >= LEAST_RIGHT
