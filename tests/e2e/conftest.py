"""One JupyterLab and one browser for all tests that need them."""

import os

import pytest
from nbtools.browser import chromium, running_lab
from playwright.sync_api import sync_playwright


@pytest.fixture(scope="session")
def playwright():
    """What drives browsers: one for all tests, since a second one in the same thread is refused."""
    if not chromium() and os.environ.get("CI") != "true":
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    with sync_playwright() as driver:
        yield driver


@pytest.fixture(scope="session")
def lab(playwright):
    """A JupyterLab on a copy of this repository, with a browser beside it."""
    with running_lab(playwright) as running:
        yield running
