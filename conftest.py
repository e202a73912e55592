"""What holds of every run of pytest in this repository, whatever plugins stand beside it.

Set here, not in pyproject.toml, where an option of a plugin that is missing, or a warning of one
that is not ours, ends pytest before it begins.
"""

import warnings

import pytest

TIME_LIMIT = (
    300.0  # seconds that a test may take; a busy machine is slow, one that hangs is endless
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds to nbval's options the one that `tools/nbtools/strict_nbval.py` serves."""
    parser.getgroup("nbval").addoption(
        "--cells-twice",
        metavar="FOLDER",
        help="run each cell of the notebooks below FOLDER twice in a row (with --nbval)",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Makes nbval strict, and gives every test a time limit that names it, where both are there."""
    if hasattr(config.option, "nbval"):
        config.pluginmanager.import_plugin("nbtools.strict_nbval")
    if getattr(config.option, "timeout", 0) is None:
        config.option.timeout = TIME_LIMIT


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out what only `make nightly` runs, unless `-m` asks for it."""
    if "nightly" not in config.option.markexpr:
        late = [item for item in items if item.get_closest_marker("nightly")]
        config.hook.pytest_deselected(items=late)
        items[:] = [item for item in items if item not in late]


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Makes warnings errors, now that all plugins are set up; `-W` says otherwise."""
    session.config.addinivalue_line("filterwarnings", "error")
    if not session.config.option.pythonwarnings:
        warnings.simplefilter("error")  # also for what is found when the session ends
