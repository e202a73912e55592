"""No cell installs, shells out, or uses a magic that does not exist.

nbval passes a failing shell command and a magic that is missing; a learner without network cannot
run an installation. So the few magics that the course needs are listed, and no others are used.
"""

import ast

import pytest
from IPython.core.inputtransformer2 import TransformerManager
from notebook_support import LEARNER, SOLVED, code, code_cells, each, notebook, read

ALLOWED = {"time", "timeit", "pinfo", "pinfo2"}  # %time, %%timeit, ?name, ??name
SHELL = {"system", "getoutput", "popen"}


def magic_problems(nb):
    """Magics and shell commands that are not allowed, one line each."""
    for cell in code_cells(nb):
        python = TransformerManager().transform_cell(cell.source)
        try:
            tree = ast.parse(python)
        except SyntaxError as error:
            yield f"not Python: {error.text or cell.source}"
            continue
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
        yield from (problem for call in calls for problem in call_problems(call))


def call_problems(call):
    """What is wrong with one call, as IPython rewrites magics to calls."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else ""
    if name in {"run_line_magic", "run_cell_magic"}:
        magic = ast.literal_eval(call.args[0])
        if magic not in ALLOWED:
            yield f"magic {magic!r} is not one of {sorted(ALLOWED)}"
    elif name in SHELL:
        yield f"shells out: {ast.unparse(call)}"


@each(LEARNER + SOLVED)
def test_no_cell_installs_or_shells_out(path):
    """A notebook changes nothing on the learner's machine and needs no shell."""
    assert list(magic_problems(read(path))) == []


@pytest.mark.parametrize(
    "source",
    [
        "%pip install x",
        "%conda install x",
        "pip install x",
        "!ls",
        "files = !ls",
        "!!ls",
        "%%bash\nls",
        "%%capture\n!ls",
        "%system ls",
        "%sx ls",
        "get_ipython().system('ls')",
        "get_ipython().getoutput('ls')",
        "get_ipython().run_line_magic('pip', 'install x')",
        "import os\nos.system('ls')",
        "%nosuch",
        "%load_ext autoreload",
        "async def f():\n    await g()\n    !ls",
    ],
)
def test_a_forbidden_cell_is_found(source):
    """Every way to install or to shell out is seen through."""
    assert list(magic_problems(notebook(code(source))))


@pytest.mark.parametrize(
    "source",
    ["await f()", "??TokenBucket", "?print", "%time f()", "%%timeit\nf()", "x = 7 % 3", "x != 3"],
)
def test_ordinary_cells_pass(source):
    """Top-level await, help and timing are allowed."""
    assert list(magic_problems(notebook(code(source)))) == []
