"""Writes docs/performance.md: what one run of the benchmarks found, and on which machine."""

import io
import math
import os
import platform
import sys
from collections.abc import Iterable, Sequence
from contextlib import redirect_stdout
from datetime import UTC, datetime
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any, TextIO

import matplotlib as mpl

mpl.use("agg")
from matplotlib import pyplot as plt

from benchmarks.__main__ import NAMES, run
from benchmarks.lines import Result, figure
from benchmarks.overhead import CALLS, QUICK, ROUNDS

__all__ = ["page", "written"]

DOCS = Path(__file__).resolve().parents[1] / "docs"
PICTURE = DOCS / "pictures" / "performance.png"
PEERS = ("langchain-core", "aiohttp", "numpy", "aiolimiter", "prometheus-client")

HEAD = """\
# Performance

What `{command}` found in one run: at most {rounds} rounds, {calls:,} calls of most lines in each; {date}, {machine}, Python {python}; {versions}. {load:.1f}
programs wanted a core while it ran, this one included: beyond that one, costs are above what they
are on a quiet machine, and the ratio to what stands beside them is what to look at. Another machine has other microseconds; what stands beside each of them in the same row was measured in turn
with it. `python -m benchmarks compare ../other` measures the same lines in two trees, in turn.
"""
LINES = """
## What the package itself costs

CPU of a call in microseconds, medians of rounds; lines that say so are measured by the wall. Asking
LangChain whether anybody watches a call costs {asking} µs: wanted costs are in times of that, in
times of what stands beside them, or in microseconds.

| call | µs | beside it | µs | ratio | is | wanted | |
| --- | --: | --- | --: | --: | --: | --: | --- |
{rows}

![{alternative}](pictures/performance.png)

### Where what stands beside it is ahead

{ahead}
"""
SECTION = """
## {title}

```
{text}
```
"""
GROWTH = """
![Cost of an item against the number of items, for all that this package does for each](pictures/growth.png)
"""


class Tee(io.StringIO):
    """Keeps what is printed, and prints it."""

    def __init__(self, out: TextIO) -> None:
        super().__init__()
        self._out = out

    def write(self, text: str) -> int:
        """Write to both."""
        self._out.write(text)
        self._out.flush()
        return super().write(text)


def written(names: Iterable[str]) -> None:
    """Run the benchmarks of these names, and write the page and its picture.

    "overhead" is always among them: it is what the page is about.
    """
    texts: dict[str, str] = {}
    results: Sequence[Result] = ()
    for name in dict.fromkeys(["overhead", *names]):
        with redirect_stdout(Tee(sys.stdout)) as printed:
            returned = run(name)
        if name == "overhead":
            results = returned  # type: ignore[assignment] # what that one returns
        else:
            texts[name] = printed.getvalue().strip().split("\n", 1)[1].strip()
    drawn(results)
    (DOCS / "performance.md").write_text(page(results, texts), encoding="utf-8")


def page(results: Sequence[Result], texts: dict[str, str]) -> str:
    """Return the page.

    Args:
        results: Of the lines, in their order.
        texts: What other benchmarks printed, by name.
    """
    load = os.getloadavg()[2] if hasattr(os, "getloadavg") else math.nan
    versions = ", ".join(f"{name} {version(name)}" for name in PEERS)
    asking = sorted(each.asking for each in results)[len(results) // 2]
    parts = [
        HEAD.format(
            command=command(texts),
            rounds=ROUNDS,
            calls=CALLS,
            date=datetime.now(UTC).date(),
            machine=machine(),
            load=load,
            python=platform.python_version(),
            versions=versions,
        ),
        LINES.format(
            asking=figure(asking),
            rows="\n".join(map(cells, results)),
            alternative=ALTERNATIVE,
            ahead="\n".join(map(why, filter(is_behind, results))) or "Nowhere in this run.",
        ),
    ]
    for name, text in texts.items():
        title = (import_module(f"benchmarks.{name}").__doc__ or "").splitlines()[0].rstrip(".")
        parts.append(SECTION.format(title=title, text=text))
        if name == "growth":
            parts.append(GROWTH)
    return "".join(parts)


def command(names: Iterable[str]) -> str:
    """Return what writes this page again, if the others are all, or these."""
    some = ["overhead", *names]
    parts = ["make bench REPORT=1", *["QUICK=1"] * QUICK]
    return " ".join(parts if len(some) == len(NAMES) else [*parts, f'BENCH="{" ".join(some)}"'])


def machine() -> str:
    """Return what this machine is: its processor, and how many of its cores there are."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{models[0] if models else name}, {os.cpu_count()} cores, {platform.system()}"


def is_behind(result: Result) -> bool:
    """Whether what stands beside it costs less."""
    return result.beside < result.ours


def cells(result: Result) -> str:
    """Return a row of the table."""
    line = result.line
    unit = {"µs": "µs", "peer": "x beside it", "asking": "x asking"}[line.of]
    shown = (
        f"`{line.name}`" if "(" in line.name.split(",")[0] else line.name,
        figure(result.ours),
        line.beside,
        figure(result.beside),
        f"{result.ours / result.beside:.2f}",
        f"{result.value:.2f} {unit}",
        f"{line.wanted:g}",
        "" if result.holds else "not reached",
    )
    return f"| {' | '.join(shown)} |"


def why(result: Result) -> str:
    """Return why what stands beside it is ahead."""
    times, line = result.ours / result.beside, result.line
    return f"- {line.name}, {times:.2f} times {line.beside}: {line.why or 'see the code'}."


ALTERNATIVE = (
    "Cost of each call, and of what stands beside it, in microseconds, on a logarithmic axis"
)


def drawn(results: Sequence[Result]) -> None:
    """Store the picture of all lines."""
    with plt.style.context("course_lib.lab.plots.course"):
        figure_, axes = plt.subplots(figsize=(9, 0.3 * len(results) + 1.2), layout="constrained")
        places = range(len(results))[::-1]
        micro: Any = [(each.ours * 1e6, each.beside * 1e6) for each in results]
        for place, (ours, beside) in zip(places, micro, strict=True):
            axes.plot([ours, beside], [place, place], color="0.8", zorder=1)
        axes.scatter([ours for ours, _ in micro], places, label="this package", zorder=2)
        axes.scatter(
            [beside for _, beside in micro], places, marker="D", label="what stands beside it"
        )
        axes.set(xscale="log", xlabel="µs a call", yticks=places)
        axes.set_yticklabels([each.line.name for each in results])
        holding = sum(each.holds for each in results)
        axes.set_title(f"{holding} of {len(results)} costs are what is wanted, or less")
        figure_.legend(loc="outside lower center", ncols=2)
        figure_.savefig(PICTURE, dpi=96)
        plt.close(figure_)
