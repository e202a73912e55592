"""Makes `pytest --nbval` strict: what nbval lets pass in silence fails here.

nbval 0.11.0 offers no hooks for this, so that its classes are amended; its version is pinned in
pyproject.toml, and tests/notebooks/test_nbval.py proves each amendment on a notebook that is wrong.
The root's conftest.py loads this where nbval is installed.
"""

from __future__ import annotations

import queue
import time
from typing import Any

import pytest
from nbformat import from_dict
from nbval.kernel import RunningKernel
from nbval.plugin import IPyNbCell, IPyNbFile

SANITIZERS = "tests/notebooks/sanitize.cfg"
CELL_TIMEOUT, NBVALS_OWN = 60.0, 2000.0  # seconds that a cell may take
PICTURES = ("image/png", "image/jpeg", "image/svg+xml", "application/pdf")
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
LIFE_SIGN = 0.5  # seconds between two looks at whether the kernel lives


def pytest_configure(config: pytest.Config) -> None:
    """Sets what is not set on the command line; paths given there are relative to where one is."""
    option, here = config.option, config.invocation_params.dir
    option.nbval_current_env = not option.nbval_kernel_name
    given = option.nbval_sanitize_with
    option.nbval_sanitize_with = str(here / given if given else config.rootpath / SANITIZERS)
    if option.nbval_cell_timeout == NBVALS_OWN:
        option.nbval_cell_timeout = CELL_TIMEOUT
    if option.cells_twice:
        option.cells_twice = str(here / option.cells_twice)


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


def runtest(self: IPyNbCell) -> None:
    """Runs the cell, and where `--cells-twice` asks for it, at once again, as learners do.

    The second run has to raise nothing; only the first one's outputs are compared.
    """
    _run_strictly(self)
    folder = self.config.option.cells_twice
    if folder and self.path.is_relative_to(folder):
        compared, self.options["check"] = self.options["check"], False
        try:
            _run_strictly(self)
        except Exception as error:
            error.add_note("It ran once; this is its second run.")
            raise
        finally:
            self.options["check"] = compared


def _run_strictly(cell: IPyNbCell) -> None:
    """Fails also where IPython refuses the cell without an exception, such as an unknown magic."""
    _run(cell)
    reply = cell.parent.kernel.reply
    if reply["status"] == "error" and not cell.options["check_exception"]:
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


_run, _compare_outputs = IPyNbCell.runtest, IPyNbCell.compare_outputs


def compare_outputs(
    self: IPyNbCell, test: list[Any], ref: list[Any], skip_compare: Any = None
) -> bool:
    """Compares also whether pictures are there, though not their pixels."""
    return bool(_compare_outputs(self, without_pixels(test), without_pixels(ref), skip_compare))


RunningKernel.execute_cell_input = execute_cell_input
RunningKernel.await_reply = await_reply
IPyNbCell.runtest = runtest
IPyNbCell.compare_outputs = compare_outputs
