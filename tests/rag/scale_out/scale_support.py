"""What the tests beyond one process share: processes, a full bucket, the window bound."""

import time
from contextlib import suppress
from itertools import accumulate

PATIENCE = 60  # seconds, for a machine that is busy


def eventually(condition):
    """Wait until something holds that another process or thread brings about."""
    give_up = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < give_up, "it never came about"
        time.sleep(0.005)


class Worker:
    """A process that runs a function of a connection to us."""

    def __init__(self, context, function, *arguments):
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=function, args=(theirs, *arguments), daemon=True)
        self.process.start()
        theirs.close()

    def hear(self):
        """Wait for what it says next."""
        assert self.connection.poll(PATIENCE), "it says nothing"
        return self.connection.recv()

    def go(self):
        """Let it begin."""
        self.connection.send("go")

    def rest(self):
        """Return all that it still says until its end, whatever that is."""
        said = []
        with suppress(EOFError, OSError):
            while True:
                said.append(self.hear())
        return said

    def finish(self):
        """Do so, and see that it was a good end."""
        said = self.rest()
        self.process.join(PATIENCE)
        assert self.process.exitcode == 0
        return said

    def kill(self):
        """End it with -9, if it has not ended."""
        self.process.kill()
        self.process.join()


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
