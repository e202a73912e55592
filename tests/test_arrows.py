"""Imports run one way, and importing a scenario costs no plots, models or clients."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "course_lib"
SCENARIOS = ("async_batch", "rate_limiting", "batching", "caching", "monitoring")
PRESENT = [name for name in SCENARIOS if list(PACKAGE.glob(f"{name}*"))]
HEAVY = ("matplotlib", "onnxruntime", "langchain_openai", "IPython")
# What each part may import of the package, itself apart. A part without a line may import all.
GROUND = {"errors", "clock", "checks", "retry", "tasks", "table", "unwatched"}
MAY_IMPORT = {
    **{name: set() for name in GROUND},
    "retry": {"errors", "checks"},
    "service": set(),
    **dict.fromkeys(SCENARIOS, GROUND),
    "rag": {*GROUND, *SCENARIOS},
}


def part_of(file: Path, package: Path) -> str:
    """The part that a file belongs to: the first name below the package."""
    return file.relative_to(package).parts[0].removesuffix(".py")


def imports_of(file: Path, package: Path) -> set[str]:
    """The dotted names that a file imports, anywhere in it, relative ones made absolute."""
    here = (package.name, *file.relative_to(package).parts[:-1])
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = here[: len(here) - node.level + 1] if node.level else ()
            base = ".".join([*above, *([node.module] if node.module else [])])
            found |= {f"{base}.{alias.name}" for alias in node.names}
    return found


def violations(package: Path) -> list[str]:
    """Each import against the arrows, as "file imports name"."""
    found = []
    parts = {part_of(file, package) for file in package.rglob("*.py")}
    for file in sorted(package.rglob("*.py")):
        part = part_of(file, package)
        if part not in MAY_IMPORT:
            continue
        for name in sorted(imports_of(file, package)):
            top, _, rest = name.partition(".")
            target = rest.partition(".")[0]
            inside = top == package.name and target in parts
            if inside and target not in MAY_IMPORT[part] | {part}:
                found.append(f"{file.relative_to(package).as_posix()} imports {name}")
            if part in SCENARIOS and top == "matplotlib":
                found.append(f"{file.relative_to(package).as_posix()} imports {name}")
    return found


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
    program = f"import sys, {name}\nprint([name for name in {HEAVY!r} if name in sys.modules])"
    command = [sys.executable, "-c", program]
    result = subprocess.run(
        command, cwd=PACKAGE.parent, capture_output=True, text=True, check=False
    )
    assert result.stdout.strip() == "[]", result.stderr
