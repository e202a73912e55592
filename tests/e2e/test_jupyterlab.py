"""A learner opens a notebook in JupyterLab and runs all cells, twice, in a real browser."""

import os
import urllib.error
import urllib.request

import pytest
from nbtools.browser import chromium, running_lab
from nbtools.execution import ROOT

pytestmark = pytest.mark.e2e
LEARNER = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("notebooks/[0-9]*.ipynb"))


@pytest.fixture(scope="module")
def lab():
    """One JupyterLab and one browser for all notebooks."""
    if not chromium() and os.environ.get("CI") != "true":
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    with running_lab() as running:
        yield running


def status(url):
    """The HTTP status of a page."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - own server
            return answer.status
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


@pytest.mark.parametrize("path", LEARNER)
def test_a_notebook_runs_from_top_to_bottom_twice(lab, path):
    """All cells run, and run again in the same kernel; the page is sound and its links lead on."""
    with lab.open(path) as notebook:
        first = notebook.run_all()
        assert first["errors"] == []
        second = notebook.run_all()
        assert second["errors"] == []
        assert second["counts"] == [count + len(first["counts"]) for count in first["counts"]]
        own = [link for link in notebook.links() if link.startswith(lab.url)]
        assert [link for link in own if status(link) != 200] == []
        assert notebook.page_errors == []
    assert lab.outside == []
