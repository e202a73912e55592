"""The lines of `overhead` in two trees, measured in turn: is this one slower than that one?

    python -m benchmarks compare ../other [--rounds 9] [--only RagPipeline]

Each tree has a process of its own, with the Python of its own `.venv` (`make setup` there, first), and
both go by this tree's lines: names that the other lacks are left out. In each round a line is
measured in one and at once in the other, so that whatever else the machine does slows both. What
counts is the ratio of the two within a round: its median over the rounds, and its spread, which is
half of its interquartile range.
"""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from benchmarks.lines import Measure, figure

__all__ = ["compared"]

HERE = Path(__file__).resolve().parents[1]
PYTHON = Path(".venv", "bin", "python")
# The benchmarks are this tree's, and what they measure is the tree's that the process runs in.
SERVE = (
    "import sys; sys.path.insert(0, {here!r}); import benchmarks; "
    "sys.path[0] = {tree!r}; from benchmarks.compare import serve; serve()"
)


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a line costs in two trees, in seconds a call, round by round.

    Attributes:
        name: The line.
        base: In the other tree.
        here: In this one.
    """

    name: str
    base: Sequence[float]
    here: Sequence[float]

    @property
    def ratios(self) -> list[float]:
        """What it costs here in times of what it does there, in each round."""
        return [ours / theirs for ours, theirs in zip(self.here, self.base, strict=True)]

    @property
    def ratio(self) -> float:
        """Their median."""
        return median(self.ratios)

    @property
    def spread(self) -> float:
        """Half of their interquartile range."""
        first, _, third = quantiles(self.ratios, method="inclusive")
        return (third - first) / 2

    @property
    def verdict(self) -> str:
        """What can be said in view of the spread."""
        if self.ratio > 1 + self.spread:
            return "SLOWER"
        return "faster" if self.ratio < 1 - self.spread else "as before"


class Tree:
    """A process that measures lines in a tree, one at a time.

    Args:
        process: Of `serve`.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.names: list[str] = self._read()

    def measure(self, name: str) -> float:
        """Return the seconds of a call, now."""
        assert self._process.stdin is not None
        print(json.dumps(name), file=self._process.stdin, flush=True)
        return float(self._read())

    def _read(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"the process in {self._process.args!r:.200} has ended: see above")
        return json.loads(line)


@contextmanager
def opened(root: Path) -> Iterator[Tree]:
    """Give a tree's process, and end it.

    Raises:
        SystemExit: It has no environment.
    """
    python = root / PYTHON
    if not python.exists():
        raise SystemExit(f"{root} has no {PYTHON}: run `make setup` there")
    program = SERVE.format(here=str(HERE), tree=str(root))
    with subprocess.Popen(
        [python, "-c", program], cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield Tree(process)
        finally:
            process.stdin.close()  # type: ignore[union-attr] # a pipe: it ends by itself


def compared(base: Path, rounds: int, only: str = "") -> list[Comparison]:
    """Measure in turn, and return what came of it.

    Args:
        base: The other tree.
        rounds: How often each line is measured in each; 3 or more.
        only: What a line's name holds; "" for all.
    """
    with ExitStack() as stack:
        there, here = (stack.enter_context(opened(root)) for root in (base.resolve(), HERE))
        names = [name for name in here.names if name in there.names and only in name]
        for name in sorted(set(here.names) - set(there.names)):
            print(f"not there: {name}", file=sys.stderr)
        return [_line(name, there, here, rounds) for name in names]


def _line(name: str, there: Tree, here: Tree, rounds: int) -> Comparison:
    print(name, file=sys.stderr, flush=True)
    for tree in (there, here):
        tree.measure(name)  # the first time is another: caches are cold, modules are imported
    taken: dict[Tree, list[float]] = {there: [], here: []}
    for number in range(rounds):
        for tree in (there, here) if number % 2 else (here, there):
            taken[tree].append(tree.measure(name))
    return Comparison(name, taken[there], taken[here])


def main(base: Path, rounds: int, only: str) -> None:
    """Print what both cost."""
    from course_lib.table import Table  # noqa: PLC0415 - an older tree has it elsewhere

    found = compared(base, rounds, only)
    head = ["", "base, µs", "here, µs", "here : base", "spread", ""]
    rows = [
        [
            each.name,
            figure(median(each.base)),
            figure(median(each.here)),
            f"{each.ratio:.3f}",
            f"{each.spread:.3f}",
            each.verdict,
        ]
        for each in found
    ]
    print(Table(head, rows))
    slower = [each.name for each in found if each.verdict == "SLOWER"]
    print(f"\nslower by more than the spread: {', '.join(slower) or 'none'}")


# --- in the tree's own process ------------------------------------------------------------------


def serve() -> None:
    """Measure the lines that are asked for on stdin, until it ends."""
    asyncio.run(_serve())


async def _serve() -> None:
    from benchmarks.overhead import GROUPS  # noqa: PLC0415 - with the tree's own `course_lib`

    pairs: dict[str, Measure] = {}
    async with AsyncExitStack() as stack:
        for group in GROUPS:
            try:
                opened = await stack.enter_async_context(group())
            except (ImportError, AttributeError, TypeError) as error:
                print(f"{group.__name__} is not there: {error!r}", file=sys.stderr)
            else:
                pairs |= {name: ours for name, (ours, _) in opened.items()}
        print(json.dumps(list(pairs)), flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            print(await pairs[json.loads(line)](), flush=True)
