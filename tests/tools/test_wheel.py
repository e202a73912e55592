"""The wheel works alone: each part needs what its extra brings, and nothing else."""

import importlib.metadata
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
CORE = ("rate_limiting", "batching", "caching", "monitoring")
# What each extra makes usable.
USABLE = {
    "": CORE,
    "clients": (*CORE, "async_batch"),
    "monitoring": CORE,
    "rag": (*CORE, "async_batch", "rag"),
    "provider": ("service",),
    "room": ("service", "room"),
    "notebooks": (*CORE, "async_batch", "rag", "service", "room", "lab", "lab.plots"),
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel as a user gets it, built from the checkout."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    [file] = folder.glob("*.whl")
    return file


def closure(lines, extras=()):
    """The names of installed distributions that these requirements bring, and what they bring."""
    found, todo = set(), [(Requirement(line), extras) for line in lines]
    while todo:
        requirement, extras = todo.pop()
        marker = requirement.marker
        if marker and not any(marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            continue
        key = requirement.name, frozenset(requirement.extras)
        if key in found:
            continue
        found.add(key)
        if requirement.name == PROJECT["name"]:
            brought = [PROJECT["optional-dependencies"][extra] for extra in requirement.extras]
            todo += [(Requirement(line), ()) for line in sum(brought, PROJECT["dependencies"])]
        else:
            inner = importlib.metadata.requires(requirement.name) or []
            todo += [(Requirement(line), requirement.extras) for line in inner]
    return {name for name, _ in found} - {PROJECT["name"]}


def empty_environment(folder, wheel, extra):
    """A folder with the wheel and what this extra brings, and nothing else of this environment."""
    zipfile.ZipFile(wheel).extractall(folder)
    for name in closure([f"{PROJECT['name']}[{extra}]"]):
        distribution = importlib.metadata.distribution(name)
        for top in {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}:
            target = folder / top
            if not target.exists():
                target.symlink_to(distribution.locate_file(top))
    return folder


def run(folder, program):
    """Run a program that finds the standard library and this folder, and return the process."""
    program = f"import sys; sys.path.append({str(folder)!r})\n{program}"
    command = [sys.executable, "-I", "-S", "-c", program]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("extra", USABLE)
def test_an_extra_brings_all_that_its_parts_need(extra, wheel, tmp_path):
    """Every public name of a part can be had with the part's extra alone."""
    folder = empty_environment(tmp_path, wheel, extra)
    lazy = {"fit_usl", "UslFit"} if extra in ("", "clients") else set()
    program = f"""
from importlib import import_module
for part in {USABLE[extra]}:
    module = import_module("course_lib." + part)
    for name in set(module.__all__) - {lazy}:
        getattr(module, name)
"""
    result = run(folder, program)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    ("wanted", "extra"),
    [
        ("course_lib.async_batch import ServiceClient", "clients"),
        ("course_lib.rag import RagPipeline", "rag"),
        ("course_lib.lab import simulate", "notebooks"),
        ("course_lib.monitoring import fit_usl", "monitoring"),
    ],
)
def test_what_is_missing_is_told_with_the_extra_that_brings_it(wanted, extra, wheel, tmp_path):
    """The last line of the error is the command to type."""
    result = run(empty_environment(tmp_path, wheel, ""), f"from {wanted}")
    assert re.search(rf"missing: pip install 'course-lib\[{extra}\]'$", result.stderr.strip())


def test_the_wheel_holds_the_package_and_its_data_alone(wheel):
    """No tests, no notebooks; the handbook, the model's vocabulary and the type marker are there."""
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0].split("-")[0] for name in names} == {"course_lib"}
    assert {"course_lib/py.typed", "course_lib/service/corpus/questions.toml"} <= set(names)
