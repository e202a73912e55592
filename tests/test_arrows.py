"""Imports run one way, and importing a scenario costs no plots, models or clients."""

import subprocess
import sys
from pathlib import Path

import pytest
from import_graph import Import, Package

PACKAGE = Path(__file__).resolve().parents[1] / "course_lib"
SCENARIOS = ("async_batch", "rate_limiting", "batching", "caching", "monitoring")
PRESENT = [name for name in SCENARIOS if list(PACKAGE.glob(f"{name}*"))]
HEAVY = ("matplotlib", "onnxruntime", "langchain_openai", "IPython")
# What each part may import of the package, itself apart. A part without a line may import all.
GROUND = {"errors", "clock", "checks", "retry", "tasks", "table", "unwatched", "extras"}
MAY_IMPORT = {
    **{name: set() for name in GROUND},
    "retry": {"errors", "checks"},
    "service": set(),
    **dict.fromkeys(SCENARIOS, GROUND),
    "rag": {*GROUND, *SCENARIOS},
}


def violations(root: Path) -> list[str]:
    """Each import against the arrows, as "module imports name"."""
    package = Package(root)
    parts = {package.part_of(module) for module in package.files}
    return [
        f"{module} imports {each.full}"
        for module, found in package.imports.items()
        for each in found
        if (part := package.part_of(module)) in MAY_IMPORT
        if against_the_arrows(package, parts, part, each)
    ]


def against_the_arrows(package: Package, parts: set[str], part: str, found: Import) -> bool:
    """Whether a part may not import this."""
    if found.base.partition(".")[0] == package.name:
        target = package.part_of(found.full)
        return target in parts and target not in MAY_IMPORT[part] | {part}
    return part in SCENARIOS and found.base.partition(".")[0] == "matplotlib"


def test_imports_follow_the_arrows():
    """The service imports nothing of the package, scenarios only the ground floor, none the bench."""
    assert violations(PACKAGE) == []


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("service/app.py", "from course_lib import errors"),
        ("service/app.py", "from ..errors import ServiceError"),
        ("async_batch/client.py", "import course_lib.lab"),
        ("async_batch/client.py", "from .. import lab"),
        ("async_batch/client.py", "from course_lib.service.app import App"),
        ("monitoring.py", "def plot():\n    from matplotlib import pyplot"),
        ("errors.py", "from course_lib.async_batch import client"),
        ("clock.py", "from course_lib.errors import ServiceError"),
    ],
)
def test_an_import_against_the_arrows_is_found(tmp_path, file, line):
    """Absolute, relative and late imports are all seen."""
    package = tmp_path / "course_lib"
    for name in ("lab", "service", "async_batch"):
        (package / name).mkdir(parents=True)
        (package / name / "__init__.py").touch()
    (package / "errors.py").touch()
    (package / file).write_text(line)
    assert len(violations(package)) == 1


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("service/app.py", "from . import other\nfrom course_lib.service import other"),
        ("async_batch.py", "from course_lib.errors import ServiceError\nimport asyncio"),
        ("caching.py", "from course_lib.clock import timer_of"),
        ("lab/plots.py", "from course_lib import async_batch, service\nimport matplotlib"),
        ("service/app.py", "from course_lib import __version__"),
    ],
)
def test_an_import_along_the_arrows_is_allowed(tmp_path, file, line):
    """A part may import itself, what the arrows name, and the package's version."""
    package = tmp_path / "course_lib"
    (package / file).parent.mkdir(parents=True)
    for name in ("errors", "clock"):
        (package / f"{name}.py").touch()
    (package / file).write_text(line)
    assert violations(package) == []


@pytest.mark.parametrize("name", ["course_lib", *(f"course_lib.{name}" for name in PRESENT)])
def test_importing_loads_nothing_heavy(name):
    """Plots, models and provider clients are imported where they are used, not before."""
    # A notebook's set-up cell and the command line wait for `lab`: LangChain comes with the exercise.
    heavy = (*HEAVY, "langchain_core") if name in ("course_lib.lab", "course_lib") else HEAVY
    program = f"import sys, {name}\nprint([name for name in {heavy!r} if name in sys.modules])"
    command = [sys.executable, "-c", program]
    result = subprocess.run(
        command, cwd=PACKAGE.parent, capture_output=True, text=True, check=False
    )
    assert result.stdout.strip() == "[]", result.stderr
