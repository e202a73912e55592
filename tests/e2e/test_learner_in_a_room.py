"""A learner joins a room from a notebook in JupyterLab, fails, passes, raises a hand and leaves."""

import json
import urllib.request

import pytest
from room.room_support import running_room

pytestmark = pytest.mark.e2e
CELLS = """
import asyncio
from course_lib import lab
---
lab.join("{url}", "{code}", name="Ada")
---
def next_limit(limit, rejected, used):
    return limit

await lab.exercise("2.3").check(next_limit)
---
def next_limit(limit, rejected, used):
    if rejected:
        return max(1, limit // 2)
    return limit + 1 if used == limit else limit

await lab.exercise("2.3").check(next_limit)
---
lab.hand()
---
import time
from course_lib.lab import joining
while joining._joined.waiting:
    time.sleep(0.01)
---
{end}
---
lab.hygiene()
"""


def notebook(source):
    """A notebook of code cells."""
    cells = [
        {"id": f"c{k}", "cell_type": "code", "metadata": {}, "source": cell.strip(), "outputs": [],
         "execution_count": None}
        for k, cell in enumerate(source.split("---"))
    ]  # fmt: skip
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    return {"nbformat": 4, "nbformat_minor": 5, "metadata": kernel, "cells": cells}


@pytest.mark.parametrize("end", ["pass", "lab.leave()"])
def test_what_a_learner_does_is_on_the_board(lab, tmp_path, end):
    """And what was sent stands under each cell; the notebook leaves nothing running."""
    with running_room(tmp_path / "room.sqlite") as room:
        source = CELLS.replace("{url}", room.url).replace("{code}", room.code)
        body = json.dumps({"type": "notebook", "content": notebook(source.replace("{end}", end))})
        address = f"{lab.url}/api/contents/room.ipynb"
        request = urllib.request.Request(address, body.encode(), method="PUT")  # noqa: S310 - own server
        urllib.request.urlopen(request, timeout=60).close()  # noqa: S310 - own server
        with lab.open("room.ipynb") as opened:
            assert opened.run_all()["errors"] == []
            text = opened.page.inner_text(".jp-Notebook")
        [seat] = room.watched()["seats"]
    assert (
        "To the room: 2.3, not yet (mean-limit-capacity-8), attempts 1, hints 0, minutes 0." in text
    )
    assert "To the room: 2.3, passed, attempts 2, hints 0, minutes 0." in text
    assert seat["done"]["2.3"]["passed"]
    assert (seat["here"], seat["hand"] is not None) == (
        (True, True) if end == "pass" else (False, False)
    )
