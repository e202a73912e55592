"""A program in a process of its own: for what cannot be undone in this one."""

import asyncio
import json
import subprocess
import sys
import textwrap
from typing import Any

__all__ = ["ChildError", "run_child"]

LONGEST_TAIL = 2000
"""Characters of a failed child's error output that are shown."""


class ChildError(Exception):
    """The child process failed or did not end in time; its last words are in the message."""


async def run_child(source: str, *, patience: float = 30.0, **values: object) -> Any:
    """Run Python source in a child process and return what it leaves in `result`.

    The child is a fresh interpreter of this environment: no event loop runs in it, nothing is
    patched, and nothing that it does can harm this process. It is killed when this call is
    cancelled or its time ends.

    Args:
        source: A program; indentation common to all lines is removed. It assigns `result`.
        patience: Seconds of real time that it may take.
        values: Names that the program finds set; values that JSON can carry.

    Returns:
        The child's `result`, as JSON carries it.

    Raises:
        ChildError: The child raised, left no `result`, or took longer than `patience`.
    """
    with subprocess.Popen(  # noqa: ASYNC220, S603 - Windows' kernels have no loop for asyncio's own
        [sys.executable, "-c", _program(source, values)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        try:
            out, errors = await asyncio.to_thread(child.communicate, timeout=patience)
        except subprocess.TimeoutExpired:
            raise ChildError(f"the child did not end within {patience:g} s: killed") from None
        finally:
            child.kill()
    if child.returncode:
        raise ChildError(f"the child failed:\n{errors[-LONGEST_TAIL:]}")
    try:
        return json.loads(out.rstrip().rpartition("\n")[2])
    except ValueError:
        raise ChildError("the child ended before it assigned `result`") from None


def _program(source: str, values: dict[str, object]) -> str:
    return (
        f"import json as _json, os as _os\n"
        f"globals().update(_json.loads({json.dumps(values)!r}))\n"
        f"{textwrap.dedent(source)}\n"
        "print('\\n' + _json.dumps(result), flush=True)\n"
        "_os._exit(0)  # what the program left running must not keep the child alive\n"
    )
