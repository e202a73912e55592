"""A learner opens a notebook in JupyterLab and runs all cells, twice, in a real browser."""

import urllib.error
import urllib.request

import pytest
from nbtools.execution import ROOT

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]  # all cells of a notebook, twice
# The longest first, so that no worker waits for it in the end.
LEARNER = sorted(
    (path.relative_to(ROOT).as_posix() for path in ROOT.glob("notebooks/[0-9]*.ipynb")),
    reverse=True,
)


def status(url):
    """The HTTP status of a page or request."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - own server
            return answer.status
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


# Each is executed by nbval daily; here, beside it, those that show a live page of their provider.
DAILY = ("notebooks/01_async_batch.ipynb", "notebooks/02_rate_limiting.ipynb")


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(each, marks=() if each in DAILY else pytest.mark.nightly, id=each)
        for each in LEARNER
    ],
)
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


BAD = {
    "nbformat": 4,
    "nbformat_minor": 5,
    "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3"}},
    "cells": [
        {
            "id": "text",
            "cell_type": "markdown",
            "metadata": {},
            "source": "[dead](nowhere.md) ![foreign](http://outside.invalid/x.png)",
        },
        *(
            {
                "id": f"code-{k}",
                "cell_type": "code",
                "metadata": {"tags": tags},
                "source": source,
                "outputs": [],
                "execution_count": None,
            }
            for k, (source, tags) in enumerate(
                [("1 / 0", ["raises-exception"]), ("x = 1", []), ("[][1]", []), ("2", [])]
            )
        ),
    ],
}


def test_what_is_wrong_with_a_notebook_is_seen(lab):
    """An error, a dead link and a request that leaves the machine are each noticed."""
    lab.store("bad.ipynb", BAD)
    with lab.open("bad.ipynb") as notebook:
        state = notebook.run_all()
        assert state["errors"] == ["code cell 2: IndexError: list index out of range"]
        assert state["counts"] == [1, 2, 3, None]
        assert [status(link) for link in notebook.links()] == [404]
        with notebook.page.expect_event("pageerror"):
            notebook.page.evaluate("() => { setTimeout(() => { throw Error('in the page'); }); }")
        assert notebook.page_errors == ["in the page"]
    assert set(lab.outside) == {"http://outside.invalid/x.png"}
    lab.outside.clear()
