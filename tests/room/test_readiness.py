"""The line that says whether a machine is ready, and what a room's lines add up to."""

import sys

import pytest

from course_lib.__main__ import main as command_line
from course_lib.doctor import Check
from course_lib.room import readiness

GOOD = readiness.line([Check("Python", "ok", "3.11"), Check("versions", "warn", "other")])
BAD = readiness.line([Check("model", "fail", "missing"), Check("kernel", "fail", "none")])


def test_a_line_says_platform_python_and_what_fails():
    """And nothing that tells who or where it is."""
    assert GOOD.startswith("course-ready 1 | ")
    assert f"{sys.version_info.major}.{sys.version_info.minor}." in GOOD
    assert "| ready | (versions) [" in GOOD
    assert "| not ready | model, kernel [" in BAD


def test_forty_lines_are_summed_up():
    """Who is ready, who needs what; of one learner's lines the last counts."""
    sent = [f"{chr(65 + k % 26)}{k}: {GOOD}" for k in range(37)]
    sent += [f"Zoe: {BAD}", f"Yan: {BAD}", f"Xia: {BAD}", f"Zoe: {GOOD}"]
    said = readiness.summary("\n".join(sent))
    assert said.splitlines()[0] == "38 of 40 are ready."
    assert "  Yan: model, kernel" in said
    assert "  kernel: 2" in said
    assert "Zoe" not in said


@pytest.mark.parametrize("spoilt", [GOOD[:-4], GOOD.replace("| ready", "| not ready"), "hello"])
def test_a_line_that_was_cut_or_changed_counts_for_nobody(spoilt):
    """It is shown, to be sent again."""
    said = readiness.summary(f"Ada: {spoilt}\nAlan: {GOOD}")
    assert said.startswith("1 of 1 are ready.")
    assert f"  Ada: {spoilt}"[:40] in said


def test_the_command_line_collects_a_file(tmp_path, capsys):
    """With exit status 0, and 2 where there is no file."""
    (tmp_path / "lines").write_text(f"Ada: {GOOD}\n", "utf-8")
    assert command_line(["doctor", "--collect", str(tmp_path / "lines")]) == 0
    assert capsys.readouterr().out.startswith("1 of 1 are ready.")
    assert command_line(["doctor", "--collect", str(tmp_path / "none")]) == 2
