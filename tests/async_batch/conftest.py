from collections.abc import Iterator

import pytest

from course_lib import service
from course_lib.service import Latency, Provider


@pytest.fixture(scope="package")
def running() -> Iterator[Provider]:
    with service.running(latency=Latency.constant(0.0)) as provider:
        yield provider


@pytest.fixture
def provider(running: Provider) -> Provider:
    """A provider that answers at once, as after its start."""
    running.configure(latency=Latency.constant(0.0), rate_limit=None, capacity=None, faults=None)
    running.reset()
    return running
