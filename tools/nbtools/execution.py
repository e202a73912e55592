"""Executes notebooks on this interpreter, and stores outputs free of traces of this machine."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

from ipykernel.kernelspec import RESOURCES, get_kernel_dict
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

from nbtools.source import BuildError

__all__ = ["ROOT", "execute"]

ROOT = Path(__file__).resolve().parents[2]
CELL_TIMEOUT = 120  # seconds
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
ANSI = re.compile(r"\x1b\[[0-9;]*m")
LIBRARY = re.compile(r"[^\s\"'(]*[\\/](?:site-packages|lib[\\/]python3\.\d+)[\\/]")


class _ThisInterpreter(AsyncKernelManager):
    """A kernel of the interpreter that runs the build, whatever else is installed."""

    @property
    def kernel_spec(self) -> KernelSpec:
        return KernelSpec(resource_dir=RESOURCES, **get_kernel_dict())


def execute(notebook: Any, folder: Path) -> None:
    """Runs all cells in `folder` and stores their outputs, free of traces of this machine.

    Raises:
        BuildError: a cell failed that is not tagged `raises-exception`, took longer than
            `CELL_TIMEOUT` seconds, or killed the kernel.
    """
    client = NotebookClient(
        notebook,
        kernel_manager_class=_ThisInterpreter,
        timeout=CELL_TIMEOUT,
        record_timing=False,
        coalesce_streams=True,
        store_widget_state=False,
        resources={"metadata": {"path": str(folder)}},
    )
    try:
        client.execute(stderr=subprocess.DEVNULL)  # ipykernel's remarks on its transport
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
        raise BuildError(ANSI.sub("", str(error))) from None
    tidy(notebook)


def tidy(notebook: Any) -> None:
    """Drops what differs from run to run or from machine to machine."""
    notebook.metadata["language_info"] = {"name": "python"}
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        for output in cell.get("outputs", []):
            output.get("data", {}).pop(WIDGET_VIEW, None)  # a model id, and no model behind it
            if output.output_type == "error":
                output.traceback = [clean_traceback(line) for line in output.traceback]


def clean_traceback(text: str) -> str:
    """A traceback without colours and without the folders of this machine."""
    text = LIBRARY.sub("", ANSI.sub("", text))
    for folder in (str(ROOT), str(ROOT).replace(str(Path.home()), "~")):
        text = text.replace(folder + os.sep, "")
    return text
