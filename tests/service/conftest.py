import time

import pytest

PATIENCE = 60.0  # seconds for what a free machine does at once


@pytest.fixture
def eventually():
    """Wait until something holds that another process brings about."""

    def wait(condition):
        give_up = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < give_up, "it never came about"
            time.sleep(0.01)

    return wait
