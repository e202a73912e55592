"""A learner's progress survives a chat, or it is seen that it did not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from course_lib.lab.progress_line import progress_line, read_line

COUNTS = st.integers(0, 9999)
EXERCISES = st.dictionaries(
    st.from_regex(r"[1-6]\.[1-5]", fullmatch=True),
    st.fixed_dictionaries(
        {"passed": st.booleans(), "diagnosis": st.sampled_from(["", "order", "peak-in-flight"]),
         "attempts": COUNTS, "hints": COUNTS}
    ),
)  # fmt: skip


@given(exercises=EXERCISES, name=st.sampled_from(["", "Ada", "Ada (she): L."]))
def test_a_line_is_read_back(exercises, name):
    """What was attempted, and by whom."""
    read, results = read_line(f"  {progress_line(exercises, name)}\n")
    assert read == name
    assert {each["exercise"]: (each["passed"], each["attempts"]) for each in results} == {
        number: (each["passed"], each["attempts"])
        for number, each in exercises.items()
        if each["attempts"]
    }


LINE = progress_line({"1.1": {"passed": True, "attempts": 2, "hints": 1}}, "Ada")


@pytest.mark.parametrize(
    "line", ["", "hello", LINE[:-1], LINE.replace("1.1", "1.2"), LINE.replace(" 2 ", " 9 ")]
)
def test_a_changed_line_is_refused(line):
    """A chat may cut it."""
    with pytest.raises(ValueError, match="line"):
        read_line(line)
