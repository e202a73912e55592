"""What langchain-tests' suites need of pytest, without the plugins that they are written for."""

import asyncio
import inspect

import pytest

MARKERS = (
    "benchmark: langchain-tests', for a plugin that is not loaded",
    "vcr: langchain-tests', for a plugin that is not loaded",
)


def pytest_configure(config):
    """Makes the suites' own marks known."""
    for marker in MARKERS:
        config.addinivalue_line("markers", marker)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    """Runs a test that is a coroutine function, in the loop of its module."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    asked = inspect.signature(pyfuncitem.obj).parameters
    given = {name: pyfuncitem.funcargs[name] for name in asked}
    pyfuncitem.funcargs["runner"].run(pyfuncitem.obj(**given))
    return True


def pytest_itemcollected(item):
    """Gives a coroutine its loop."""
    if inspect.iscoroutinefunction(getattr(item, "obj", None)):
        item.fixturenames.append("runner")


@pytest.fixture(scope="module")
def runner():
    """One event loop for a module's tests: `ChatOpenAI` keeps its connections from call to call."""
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture
def benchmark():
    """Asked for by a test that is skipped where nothing is recorded."""


@pytest.fixture
def vcr():
    """Asked for by the same."""
