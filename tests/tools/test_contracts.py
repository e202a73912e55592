"""`make contracts`: what it reads, which bounds it does not believe, and the table that it writes."""

from collections import Counter

import contracts
import pytest
from contracts import Column, NotRun, columns, interpreter, page, read, run, untrue

REPORT = """<testsuites><testsuite>
<testcase classname="tests.contracts.test_stores.TestSqliteStore" name="test_a"/>
<testcase classname="tests.contracts.test_stores.TestSqliteStore" name="test_b"><skipped/></testcase>
<testcase classname="tests.contracts.test_vector_stores" name="test_c">
  <failure message="ValueError: no&#10;more">text</failure></testcase>
<testcase classname="" name="tests.contracts.test_facts"><error message="no such module"/></testcase>
</testsuite></testsuites>"""


@pytest.fixture
def column(tmp_path):
    """A column filled from a report of pytest's."""
    filled = Column("3.12", "newest")
    (tmp_path / "report.xml").write_text(REPORT, "utf-8")
    read(tmp_path / "report.xml", filled)
    return filled


def test_outcomes_are_counted_by_suite(column):
    """Passed, failed and skipped; what cannot be collected has failed."""
    assert column.counts == {
        "stores": Counter(passed=1, skipped=1),
        "vector stores": Counter(failed=1),
        "facts": Counter(failed=1),
    }
    assert column.troubles[0] == "tests.contracts.test_vector_stores::test_c: ValueError: no"


def test_the_page_has_a_row_for_each_suite_and_tells_what_failed(column):
    """In Markdown, with what was not run and why."""
    left_out = Column("3.14", "locked", lacking="there is no Python 3.14 here")
    text = page([column, left_out])
    assert "| suite | 3.12 newest | 3.14 locked |" in text
    assert "| stores | 1 passed | not run |" in text
    assert "| vector stores | 1 of 1 failed | not run |" in text
    assert "- 3.14 locked: not run, since there is no Python 3.14 here" in text


def test_a_lower_bound_that_cannot_be_had_is_told():
    """`a>=1` is true where 1.x can be installed; a bound that another package raises is not."""
    lines = ["a>=1", "B_c>=2.1; python_version > '3'", "d", "e==3"]
    assert untrue(lines, {"a": "1.0.4", "b-c": "2.2", "d": "5", "e": "3"}) == [
        'B_c>=2.1; python_version > "3": the oldest that can be had is 2.2'
    ]


def test_a_python_that_is_not_here_is_told_and_the_others_are_run(monkeypatch, capsys):
    """Its columns say so; nothing is run for them."""
    monkeypatch.setattr(contracts, "prepared", lambda python, *_: python)
    monkeypatch.setattr(contracts, "run", lambda _, column, *__: column.troubles.append("ran"))
    here = "{}.{}".format(*contracts.sys.version_info)
    filled = columns(["2.0", here], [])
    assert [(c.name, c.lacking, c.troubles) for c in filled[2:4]] == [
        ("2.0 newest", "there is no Python 2.0 here", []),
        (f"{here} oldest", "", ["ran"]),
    ]
    assert "2.0 oldest: there is no Python 2.0 here" in capsys.readouterr().out
    with pytest.raises(NotRun):
        interpreter("2.0")


@pytest.mark.nightly
def test_a_suite_is_run_as_it_stands_here(tmp_path):
    """Its report is read; what is marked for the night is run, too."""
    test = "import pytest\n\n@pytest.mark.nightly\ndef test_late():\n    pass\n"
    (tmp_path / "test_small.py").write_text(test, "utf-8")
    filled = Column("3", "locked")
    run(contracts.sys.executable, filled, [str(tmp_path / "test_small.py")], tmp_path)
    assert filled.counts == {"small": Counter(passed=1)}, filled.troubles
    assert filled.packages["langchain-core"]


def test_a_run_without_end_is_ended_and_has_failed(tmp_path, monkeypatch):
    """The column says so; the next one is run."""
    monkeypatch.setattr(contracts, "LONGEST_RUN", 0.01)
    filled = Column("3", "locked")
    run(contracts.sys.executable, filled, [str(tmp_path)], tmp_path)
    assert filled.troubles == ["pytest ended with -1: ended after 0 s"]


def test_unit_tests_are_counted_by_folder():
    """There are too many modules for a table."""
    places = (
        "tests.rag.scale_out.test_keys.TestA",
        "tests.test_errors",
        "tests.contracts.test_facts",
    )
    assert list(map(contracts._suite, places)) == ["rag", "errors", "facts"]
