import gc
import signal
import time

import pytest
from hypothesis import HealthCheck, settings

from course_lib import service
from course_lib.service.behaviour import FIELDS

PATIENCE = 60.0  # seconds for what a free machine does at once

# A busy machine makes examples slow, not wrong. `--hypothesis-profile=nightly` looks for longer.
settings.register_profile(
    "daily",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    max_examples=50,
    stateful_step_count=40,
)
settings.register_profile(
    "nightly", settings.get_profile("daily"), max_examples=2000, stateful_step_count=80
)
settings.load_profile("daily")


def pytest_collection_finish():
    """Take all that has been imported out of the sight of the garbage collector.

    `simulate` and the exercises' checks collect, to see what was lost; they would look through every
    module of every test each time.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module")
def shared_provider():
    """One provider for a module's tests."""
    with service.running(latency=None) as provider:
        yield provider


@pytest.fixture
def provider(shared_provider):
    """A provider that is as fast as it can be, has no limits and an empty ledger."""
    shared_provider.configure(**dict.fromkeys(FIELDS))
    shared_provider.reset()
    return shared_provider


@pytest.fixture
def interrupts():
    """SIGINT raises KeyboardInterrupt, as from a terminal, and ends a child process.

    Whoever starts the tests with `nohup`, or in the background of a script, has it ignored, and so
    would what is started from here.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def eventually():
    """Wait until something holds that another process brings about."""

    def wait(condition):
        give_up = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < give_up, "it never came about"
            time.sleep(0.01)

    return wait
