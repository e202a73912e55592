"""Run the benchmarks: all, or those named.

python -m benchmarks async_batch          prints that one
python -m benchmarks --report             writes docs/performance.md as well
python -m benchmarks compare ../other     measures the same lines in another tree, in turn
"""

import argparse
from importlib import import_module
from pathlib import Path

NAMES = (
    "overhead",
    "growth",
    "async_batch",
    "rate_limiting",
    "batching",
    "caching",
    "monitoring",
    "vectors",
    "docstrings",
    "rag",
    "scale_out",
)


def main() -> None:
    """Do what the command line says."""
    usage = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    usage.formatter_class = argparse.RawDescriptionHelpFormatter
    usage.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}")
    usage.add_argument("--report", action="store_true", help="write docs/performance.md")
    usage.add_argument("--rounds", type=int, default=9, help="of `compare`, 3 or more")
    usage.add_argument("--only", default="", help="of `compare`: what a line's name holds")
    given = usage.parse_args()
    match given.names:
        case ["compare", base]:
            import_module("benchmarks.compare").main(Path(base), max(3, given.rounds), given.only)
            return
    if unknown := sorted(set(given.names) - set(NAMES)):
        usage.error(f"no benchmark {unknown[0]!r}: there are {', '.join(NAMES)}")
    names = given.names or NAMES
    if given.report:
        import_module("benchmarks.report").written(names)
    else:
        for name in names:
            run(name)


def run(name: str) -> object:
    """Print one section, and return what the benchmark does."""
    module = import_module(f"benchmarks.{name}")
    print(f"\n# {name}: {(module.__doc__ or '').splitlines()[0]}\n", flush=True)
    return module.main()


if __name__ == "__main__":
    main()
