"""All tables of answers, merged by exercise: right styles and wrong answers."""

import tomllib
from pathlib import Path

import answers_async_batch
import answers_batching
import answers_caching
import answers_monitoring
import answers_rag
import answers_rate_limiting
import right_answers_1_to_3
import right_answers_4_to_6
import wrong_answers_1_to_3
import wrong_answers_4_to_6
from exercise_support import Wrong, wrong_answers

SENTENCES = tomllib.loads(Path(__file__).with_name("sentences.toml").read_text("utf-8"))

NOTEBOOKS = (
    answers_async_batch,
    answers_rate_limiting,
    answers_batching,
    answers_caching,
    answers_monitoring,
    answers_rag,
)


def right(number):
    """Right answers to an exercise."""
    modules = (*NOTEBOOKS, right_answers_1_to_3, right_answers_4_to_6)
    return [answer for module in modules for answer in module.RIGHT.get(number, ())]


def wrong(number):
    """Wrong answers to an exercise, by name."""
    found = {}
    for module in NOTEBOOKS:
        found |= wrong_answers({number: module.WRONG.get(number, {})})[number]
    for module in (wrong_answers_1_to_3, wrong_answers_4_to_6):
        for function, diagnosis in module.WRONG.get(number, {}).items():
            name = getattr(function, "__name__", type(function).__name__)
            found[name] = Wrong(function, diagnosis)
    return found


def counts(number):
    """How many sentences are graded, right styles and wrong answers there are."""
    return len(SENTENCES.get(number, ())), len(right(number)), len(wrong(number))
