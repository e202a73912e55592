"""This package, its peers and the bound, side by side in one run: `python -m benchmarks`."""
