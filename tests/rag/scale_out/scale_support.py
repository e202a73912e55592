"""What the tests beyond one process share: programs run as processes, and the window bound."""

import os
import subprocess
import sys
import time
from itertools import accumulate
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PATIENCE = 60  # seconds, for a machine that is busy


def eventually(condition):
    """Wait until something holds that another process or thread brings about."""
    give_up = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < give_up, "it never came about"
        time.sleep(0.005)


def run_program(source, *arguments):
    """Start a Python program as a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", source, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{Path(__file__).parent}"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def finish(process):
    """Wait for its end, see that it was a good one, and return the lines it printed."""
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    return output.splitlines()


def fill(client, key, rate, capacity):
    """Have a full bucket on a server that may have been started just now."""
    state = {"limit": f"{float(rate)} {float(capacity)}", "run": client.info("server")["run_id"]}
    client.hset(key, mapping={**state, "last": 0, "full_at": 0, "spent": 0, "line": 0})


def excess(log, rate, capacity):
    """Return by how many tokens the worst window of a log of (microseconds, weight) is too full.

    A window from t_i to t_j holds `S_j - S_(i-1)` tokens (S: sums so far), so that the largest
    `S_j - rate * t_j - (S_(i-1) - rate * t_i)` says it in one pass.
    """
    log = sorted(log)
    worst = lowest = float("-inf")
    sums = [0.0, *accumulate(weight for _, weight in log)]
    for (time_, _), before, after in zip(log, sums, sums[1:], strict=False):
        flowed = rate * (time_ - log[0][0]) / 1e6
        lowest = max(lowest, flowed - before)
        worst = max(worst, after - flowed + lowest)
    return worst - capacity
