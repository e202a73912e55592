"""Run the benchmarks: all, or those named: `python -m benchmarks async_batch`."""

import sys
from importlib import import_module

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
    "room",
)


def main() -> None:
    """Print one section a benchmark."""
    wanted = sys.argv[1:] or NAMES
    unknown = sorted(set(wanted) - set(NAMES))
    if unknown:
        sys.exit(f"no benchmark {unknown[0]!r}: there are {', '.join(NAMES)}")
    for name in wanted:
        module = import_module(f"benchmarks.{name}")
        print(f"\n# {name}: {(module.__doc__ or '').splitlines()[0]}\n")
        module.main()


if __name__ == "__main__":
    main()
