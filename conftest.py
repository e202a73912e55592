"""Makes `pytest --nbval notebooks` strict: what nbval lets pass in silence fails here.

nbval 0.11.0 offers no hooks for this, so that its classes are amended; its version is pinned in
pyproject.toml, and tests/notebooks/test_nbval.py proves each amendment on a notebook that is wrong.
"""

from __future__ import annotations

import queue
import time
from typing import TYPE_CHECKING, Any

import pytest
from nbformat import from_dict
from nbval.kernel import RunningKernel
from nbval.plugin import IPyNbCell, IPyNbFile

if TYPE_CHECKING:
    from collections.abc import Generator

PICTURES = ("image/png", "image/jpeg", "image/svg+xml", "application/pdf")
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
LIFE_SIGN = 0.5  # seconds between two looks at whether the kernel lives


def pytest_configure(config: pytest.Config) -> None:
    """Finds the sanitizers from any working directory."""
    if given := config.option.nbval_sanitize_with:
        config.option.nbval_sanitize_with = str(config.rootpath / given)


def pytest_collectstart(collector: pytest.Collector) -> None:
    """Has pictures compared (see `compare_outputs`) instead of skipped."""
    if isinstance(collector, IPyNbFile):
        skipped = {*collector.skip_compare, WIDGET_VIEW}
        collector.skip_compare = tuple(skipped - set(PICTURES))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Fails a cell that is stored without having been executed: nothing would be compared."""
    if not isinstance(item, IPyNbCell) or item.config.option.nbval_lax or item.options["skip"]:
        return
    if item.cell.source.strip() and item.cell.execution_count is None:
        pytest.fail("stored without outputs: run tools/build_notebooks.py", pytrace=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None]:
    """Fails a cell that IPython refused without an exception, such as an unknown magic."""
    yield
    if isinstance(item, IPyNbCell) and not item.options["check_exception"]:
        reply = item.parent.kernel.reply
        if reply["status"] == "error":
            pytest.fail(f"IPython refused the cell: {reply.get('evalue')}", pytrace=False)


def execute_cell_input(
    self: RunningKernel, cell_input: str, *, allow_stdin: bool | None = None
) -> str:
    """Executes as JupyterLab does: with history, so that `Out[n]` and a final `;` work."""
    return str(
        self.kc.execute(
            cell_input, store_history=True, allow_stdin=allow_stdin, stop_on_error=False
        )
    )


def await_reply(self: RunningKernel, msg_id: str, timeout: float | None = None) -> None:
    """Waits for the reply to a cell, and notices within a second that the kernel has died."""
    end = None if timeout is None else time.monotonic() + timeout
    while True:
        try:
            message = self.get_message(stream="shell", timeout=LIFE_SIGN)
        except queue.Empty:
            if not self.is_alive():
                raise RuntimeError("the kernel died while it executed this cell") from None
            if end is not None and time.monotonic() > end:
                raise
            continue
        if message["parent_header"].get("msg_id") == msg_id:
            self.reply = message["content"]
            if self.reply["status"] == "aborted":
                raise RuntimeError("the kernel aborted the execution of this cell")
            return


def without_pixels(outputs: list[Any]) -> list[Any]:
    """Outputs whose pictures are reduced to the fact that they are there."""
    return [
        from_dict({**output, "data": {k: "" if k in PICTURES else v for k, v in data.items()}})
        if (data := output.get("data"))
        else output
        for output in outputs
    ]


_compare_outputs = IPyNbCell.compare_outputs


def compare_outputs(
    self: IPyNbCell, test: list[Any], ref: list[Any], skip_compare: Any = None
) -> bool:
    """Compares also whether pictures are there, though not their pixels."""
    return bool(_compare_outputs(self, without_pixels(test), without_pixels(ref), skip_compare))


RunningKernel.execute_cell_input = execute_cell_input
RunningKernel.await_reply = await_reply
IPyNbCell.compare_outputs = compare_outputs
