"""Binder opens the course with a click: its start file sets what `make lab` sets."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from course_lib.__main__ import LAB_FLAGS

ROOT = Path(__file__).resolve().parents[2]


def started(folder, *command):
    """Run the start file of a copy of the checkout, as repo2docker does, and return its output."""
    for name in ("docs/binder", "notebooks"):
        shutil.copytree(ROOT / name, folder / name, dirs_exist_ok=True)
    shutil.copy(ROOT / "start", folder)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path}
    return subprocess.run(
        [folder / "start", *command], env=environment, capture_output=True, text=True, check=True
    ).stdout


@pytest.mark.nightly
def test_binder_asks_nobody_for_news(tmp_path):
    """JupyterLab gets the settings that `make lab` gives on its command line."""
    shown = json.loads(started(tmp_path, "jupyter", "lab", "--show-config-json"))
    flags = dict(
        flag.removeprefix("--LabApp.").split("=") for flag in LAB_FLAGS if "LabApp" in flag
    )
    assert shown["LabApp"] == {**flags, "news_url": None}


def test_binder_opens_a_copy_without_outputs(tmp_path):
    """What is opened is a learner's own copy, as at home."""
    started(tmp_path, "true")
    copies = sorted((tmp_path / "my").glob("*.ipynb"))
    assert [copy.stem[:2] for copy in copies] == ["01", "02", "03", "04", "05", "06"]
    for copy in copies:
        cells = json.loads(copy.read_text("utf-8"))["cells"]
        assert not any(cell.get("outputs") for cell in cells)
