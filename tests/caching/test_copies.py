"""What is taken along by whoever copies a part of the package, and how often a miss changes file."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from file_changes import count_file_changes

from course_lib.caching import AsyncCache

ROOT = Path(__file__).resolve().parents[2]
CACHE = {
    "course_lib/caching/cache.py",
    "course_lib/caching/memory.py",
    "course_lib/caching/single_flight.py",
    "course_lib/checks.py",
    "course_lib/clock.py",
}
MOST_CHANGES = 16


def imported(file):
    """The modules that a file imports when it is imported itself."""
    names = set()
    todo = list(ast.parse(file.read_text(encoding="utf-8")).body)
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            todo += node.orelse
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            todo += [each for each in ast.iter_child_nodes(node) if isinstance(each, ast.stmt)]
    return names


def closure(file):
    """The files of the package that have to be copied with this one, and what else they import."""
    files, others, todo = set(), set(), [file]
    while todo:
        name = todo.pop()
        files.add(name)
        for module in imported(ROOT / name):
            path = module.replace(".", "/") + ".py"
            if (ROOT / path).exists():
                todo += {path} - files
            else:
                others.add(module.partition(".")[0])
    return files, others


def test_a_cache_can_be_copied_as_five_files_and_needs_no_langchain():
    """Where no store is used."""
    files, others = closure("course_lib/caching/cache.py")
    assert files == CACHE
    assert others - sys.stdlib_module_names == {"course_lib"}


def test_a_store_on_disk_can_be_copied_as_one_file():
    """With LangChain, whose kind of store it is."""
    files, others = closure("course_lib/caching/sqlite_store.py")
    assert files == {"course_lib/caching/sqlite_store.py"}
    assert others - sys.stdlib_module_names == {"langchain_core"}


PROGRAM = """
import asyncio, sys

class Blocked:
    def find_spec(self, name, *_):
        if name.partition(".")[0] in {"langchain_core", "pydantic"}:
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Blocked())
from course_lib.caching.cache import AsyncCache

async def main():
    cache = AsyncCache(ttl=60, maxsize=10, jitter=0.1, early=1, negative_ttl=1)
    async def compute():
        return 1
    async def many(keys):
        return keys
    asked = (cache.get_or_compute("a", compute) for _ in range(9))
    return await asyncio.gather(*asked), await cache.get_or_compute_many("abc", many)

print(asyncio.run(main()), AsyncCache(ttl=1, maxsize=1).get_or_compute_sync("a", lambda: 2))
try:
    AsyncCache(ttl=1, maxsize=1, store=object())
except ImportError:
    print("a store needs the rest")
"""


@pytest.fixture
def copied(tmp_path):
    """The five files, in packages that hold nothing else."""
    for name in CACHE:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        (path.parent / "__init__.py").touch()
        path.write_text((ROOT / name).read_text(encoding="utf-8"), encoding="utf-8")
    return tmp_path


def test_the_five_files_work_alone_and_without_langchain(copied):
    """In a process that cannot import it."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=copied, capture_output=True, text=True, check=False
    )
    expected = f"({[1] * 9}, [1, 'b', 'c']) 2\na store needs the rest\n"
    assert (done.stdout, done.stderr) == (expected, "")


def test_a_miss_changes_file_seldom():
    """Who follows one reads on in the same file for the most part."""
    cache = AsyncCache(ttl=10, maxsize=10)

    async def compute():
        return "answer"

    async def miss():
        assert await cache.get_or_compute("key", compute) == "answer"

    assert 0 < count_file_changes(miss) <= MOST_CHANGES
    assert cache.statistics().misses == 1
