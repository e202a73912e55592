"""`make soak`: storms find what is lost, and the report says what was run and what was found."""

import asyncio
from collections import Counter

import pytest
import soak
import storms

CLEAN = {"lost": 0, "stuck": 0, "leaked": 0}
CASES = """<testsuites><testsuite>
<testcase classname="notebooks/a.ipynb" name="Cell 0"/>
<testcase classname="notebooks/a.ipynb" name="Cell 1"><failure message="differs"/></testcase>
</testsuite></testsuites>"""


@pytest.mark.parametrize("name", storms.STORMS)
def test_nothing_is_lost_in_a_storm(name):
    """Each caller is told its own answer or error, or has given up; nothing is left over."""
    ends = storms.storm(storms.STORMS[name], 700)
    assert {each: ends[each] for each in CLEAN} == CLEAN
    assert sum(ends.values()) == 700
    assert min(ends["answered"], ends["failed as planned"]) > 0


@pytest.mark.parametrize("name", storms.STORMS)
def test_a_storm_can_be_repeated(name):
    """The same seed, the same ends."""
    one = storms.STORMS[name]
    assert storms.storm(one, 300, seed=1) == storms.storm(one, 300, seed=1)


@pytest.mark.parametrize("end", ["lost", "stuck"])
def test_a_storm_counts_what_goes_wrong(end):
    """An answer of somebody else's, an error of somebody else's, and no answer at all."""

    async def wrong(number):
        if end == "stuck":
            await asyncio.Event().wait()
        if number % 2:
            raise storms.Planned(number + 1)
        return number + 1

    ends = storms.storm(lambda chance, size: storms.crowd(chance, size, wrong), 100)
    assert ends[end] > 50
    assert ends["answered"] == ends["failed as planned"] == 0


def test_who_is_cancelled_without_having_given_up_is_lost():
    """Nobody else may cancel a caller."""

    async def cancelled(_):
        raise asyncio.CancelledError

    ends = storms.storm(lambda chance, size: storms.crowd(chance, size, cancelled), 100)
    assert ends["lost"] > 50


def test_tasks_left_over_are_counted():
    """Those that were not there before."""

    async def forgetful(_chance, size):
        before = asyncio.all_tasks()
        left = [asyncio.create_task(asyncio.sleep(1e4)) for _ in range(size)]
        return await storms.leaked(before) + Counter(kept=len(left))

    assert storms.storm(forgetful, 3) == {"leaked": 3, "kept": 3}


def test_the_report_names_what_failed_and_says_how_much_was_run(tmp_path):
    """Each cell with the state of the cores; each storm with what went wrong."""
    (tmp_path / "report.xml").write_text(CASES)
    runs = soak.Runs(quiet=1, busy=1)
    runs.read(tmp_path / "report.xml", "quiet")
    runs.read(tmp_path / "report.xml", "busy")
    found = soak.Soak(
        [["Gate", "9", "8", "0", "0", "1", "0", "0"]], [["cut", "5", "4", "1", "0"]], runs, [], 60
    )
    assert found.troubles() == [
        "storm: ['Gate', '9', '8', '0', '0', '1', '0', '0']",
        "cell: notebooks/a.ipynb Cell 1 failed 1 times (quiet)",
        "cell: notebooks/a.ipynb Cell 1 failed 1 times (busy)",
    ]
    page = found.page()
    assert "**2 times**, 1 of these with every core kept busy by another program: 4 cells" in page
    assert "| notebooks/a.ipynb Cell 1 | busy | 1 |" in page
    assert "What is not promised" in page


@pytest.mark.parametrize(
    "said",
    [
        "    - 100 passing, 2 failing, and 5 invalid test cases",
        "    - 100 passing examples, 2 failing examples, 5 invalid examples",
    ],
)
def test_examples_are_counted_as_hypothesis_tells_them(said):
    """In the wording of its newest versions, and in that before."""
    assert soak.EXAMPLES.findall(said) == [("100", "2", "5")]


def test_a_part_that_was_not_run_is_not_in_the_report():
    """Its heading neither."""
    page = soak.Soak([], [], soak.Runs(), [], 0).page()
    assert [line for line in page.splitlines() if line.startswith("## ")] == [
        "## What is not promised"
    ]


def test_cores_are_busy_for_the_length_of_a_block(monkeypatch):
    """And no process is left over."""
    started = []
    popen = soak.subprocess.Popen
    monkeypatch.setattr(
        soak.subprocess, "Popen", lambda *a, **k: started.append(popen(*a, **k)) or started[-1]
    )
    with soak.all_cores_busy():
        assert [process.poll() for process in started] == [None] * soak.os.cpu_count()
    assert all(process.returncode for process in started)


@pytest.mark.nightly
def test_a_short_soak_runs_every_part(monkeypatch, tmp_path):
    """Storms, faults, one notebook quiet and busy, one file of properties, and the report."""
    monkeypatch.setattr(soak, "REPORT", soak.ROOT / "build" / "reliability.md")
    soak.REPORT.parent.mkdir(exist_ok=True)
    arguments = ["--runs=2", "--operations=500", "--calls=60", "--profile=daily", "--report"]
    notebook, properties = "notebooks/03_batching.ipynb", "tests/caching/test_codec.py"
    assert soak.main([*arguments, "--notebooks", notebook, "--fuzzed", properties]) == 0
    page = soak.REPORT.read_text()
    for part in ("Storms", "Faults survived", "Notebooks", "Inputs made up"):
        assert f"## {part}" in page
