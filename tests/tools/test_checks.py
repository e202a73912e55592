"""`make check`, `make test` and `make nightly`: what each runs, and how it sums up."""

from pathlib import Path

import checks
import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {path.parent.name for path in ROOT.glob("course_lib/*/__init__.py")}


def words(parts):
    """All arguments of all parts."""
    return [word for part in parts for word in part.arguments]


@pytest.fixture
def course(tmp_path):
    """A repository with two folders of tests, one of them a package's, and one for a browser."""
    for name in ("caching/deep/test_a", "tools/test_b", "e2e/test_c", "caching/help", "test_whole"):
        (tmp_path / f"tests/{name}.py").parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"tests/{name}.py").touch()
    (tmp_path / "course_lib/caching").mkdir(parents=True)
    return tmp_path


@pytest.fixture
def summary(monkeypatch, capfd):
    """Run these parts as `make check`; return the exit status and what was printed."""

    def run(*parts):
        monkeypatch.setattr(checks, "check", lambda *_: parts)
        return checks.main(["check"]), capfd.readouterr().out

    return run


def test_all_parts_run_and_one_that_fails_is_told(summary, monkeypatch):
    """A failed part stops nothing; what the machine lacks is a failure in CI alone."""
    bad = checks.Part("bad", ("-c", "raise SystemExit(3)"))
    good = checks.Part("good", ("-c", "print('ran')"))
    browser = checks.Part("browser", ("-c", "print('never')"), "no Chromium here")
    monkeypatch.delenv("CI", raising=False)
    status, said = summary(bad, good, browser)
    assert (status, "parts: 1 passed, 1 failed, 1 skipped" in said) == (1, True)
    assert "skipped  browser           no Chromium here" in said
    monkeypatch.setenv("CI", "true")
    status, said = summary(bad, good, browser)
    assert (status, "parts: 1 passed, 2 failed, 0 skipped" in said) == (1, True)
    assert summary(good)[0] == 0


def test_the_summary_tells_time_and_cpu_of_each_part(summary):
    """A busy machine changes the first and hardly the second."""
    _, said = summary(checks.Part("busy", ("-c", "sum(range(10**7))")))
    assert " s of CPU)" in said
    assert "(0.0 s of CPU)" not in said


def test_what_runs_beside_the_others_is_shown_whole(summary):
    """Its lines stand together under its title, and its status counts as any other."""
    lines = "for i in range(3): print('line', i, flush=True)"
    aside = checks.Part("aside", ("-c", f"{lines}\nraise SystemExit(1)"), beside=True)
    other = checks.Part("other", ("-c", lines.replace("line", "other")))
    status, said = summary(aside, other)
    assert (status, "parts: 1 passed, 1 failed, 0 skipped" in said) == (1, True)
    assert "line 0\nline 1\nline 2\n" in said


def test_a_part_that_takes_longer_than_its_budget_says_so(summary):
    """It has not failed: the machine may be busy."""
    slow = checks.Part("slow", ("-c", "pass"), budget=0.0)
    status, said = summary(slow, checks.Part("quick", ("-c", "pass"), budget=3600))
    assert status == 0
    assert said.count("its budget is 0 s") == 1


def test_what_is_run_before_a_change_is_kept_has_budgets():
    """Together they are below twelve minutes."""
    parts = checks.test(ROOT)
    assert sum(part.budget for part in parts if not part.beside) <= 720


def test_every_test_that_executes_cells_stands_where_kernels_are_looked_for():
    """A mark elsewhere would be left out by day."""
    marked = {
        path.relative_to(ROOT).as_posix()
        for path in ROOT.glob("tests/**/test_*.py")
        if "mark.kernel" in path.read_text("utf-8") and path != Path(__file__)
    }
    assert marked
    assert all(any(name.startswith(each) for each in checks.KERNELS) for name in marked)


def test_modules_are_compiled_once(monkeypatch):
    """Also for who wants no bytecode beside the sources."""
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.delenv("PYTHONPYCACHEPREFIX", raising=False)
    assert "PYTHONDONTWRITEBYTECODE" not in checks.environment()
    assert Path(checks.environment()["PYTHONPYCACHEPREFIX"]).is_relative_to(ROOT / ".venv")
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE")
    assert "PYTHONPYCACHEPREFIX" not in checks.environment()


def test_check_executes_no_notebook(course):
    """Lint, format, types and unit tests: what one runs all day."""
    assert [part.name for part in checks.check(ROOT)] == ["lint", "format", "types", "unit tests"]
    assert not {"--nbval", "tests/e2e"} & set(words(checks.check(ROOT)))


def test_a_part_is_its_folder_and_for_a_package_what_is_at_the_root(course):
    """The tests at the root are about the whole package."""
    assert checks.folders(course) == ["caching", "tools"]
    assert words(checks.check(course, "caching"))[-2:] == ["tests/caching", "tests/test_whole.py"]
    assert words(checks.check(course, "tools"))[-1] == "tests/tools"


@pytest.mark.parametrize("name", sorted(PACKAGES | {"notebooks", "tools"}))
def test_each_package_is_a_part(name):
    """And so are the notebooks and the tools."""
    assert name in checks.folders(ROOT)


def test_a_wrong_part_is_told_which_there_are(capsys):
    """And a part of anything but check is refused."""
    for arguments in (["check", "--part", "cache"], ["test", "--part", "caching"]):
        with pytest.raises(SystemExit):
            checks.main(arguments)
    said = capsys.readouterr().err
    assert "'caching'" in said
    assert "--part goes with check" in said


def test_test_is_check_and_all_that_executes_notebooks():
    """Each once as it is, the solved ones with each cell twice, and the learner's in a browser."""
    more = checks.test(ROOT)[len(checks.check(ROOT)) :]
    names = ["notebook sources", "kernels", "notebooks", "browser tests"]
    assert [part.name for part in more] == names
    assert {"--nbval", "--cells-twice=notebooks/solutions", "notebooks"} <= set(words(more))


def test_nightly_is_what_takes_long():
    """Properties with many examples, other people's suites, a soak, and mutants."""
    long, *others = checks.nightly()
    assert "--hypothesis-profile=nightly" in long.arguments
    assert [part.name for part in others] == ["long browser", "contracts", "soak", "mutants"]
    assert all((ROOT / part.arguments[0]).exists() for part in others[1:])


def test_state_machines_run_longer_at_night(pytestconfig):
    """By a profile of many examples, which checks the same."""
    from hypothesis import settings

    daily, nightly = map(settings.get_profile, ("daily", "nightly"))
    assert nightly.max_examples >= 10 * daily.max_examples
    assert nightly.stateful_step_count > daily.stateful_step_count
    assert daily.deadline is nightly.deadline is None
