"""One JupyterLab and one browser for all tests that need them."""

import os

import pytest
from nbtools.browser import chromium, running_lab


@pytest.fixture(scope="session")
def lab():
    """A JupyterLab on a copy of this repository, with a browser beside it."""
    if not chromium() and os.environ.get("CI") != "true":
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    with running_lab() as running:
        yield running
