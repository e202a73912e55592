"""What the tests of monitoring share: durations, a clock to set, and steps with known times."""

import asyncio
import math

from hypothesis import strategies as st
from langchain_core.runnables import RunnableLambda

NANO = 1e9
# Both sides of the bounds of buckets, zero, less than can be told apart, days.
EDGES = st.builds(
    lambda power, step: max(0.0, (2**power + step) / NANO),
    st.integers(0, 50),
    st.integers(-2, 2),
)
ANY_DURATION = st.floats(0, 1e5, allow_nan=False)
DURATIONS = st.lists(
    st.one_of(ANY_DURATION, EDGES, st.sampled_from([0.0, 1e-12, 1e-9, 0.1, 0.1, 3600.0])),
    min_size=1,
    max_size=200,
)


class SetClock:
    """A timer that stands where it is put, in seconds."""

    def __init__(self):
        self.seconds = 100.0

    def __call__(self):
        return self.seconds

    def advance(self, seconds):
        self.seconds += seconds


def exact_quantile(values, q):
    """The order statistic at rank ceil(q n), or the first."""
    rank = math.ceil(q * len(values) * (1 - 1e-12))
    return sorted(values)[max(rank, 1) - 1]


def step(name, seconds):
    """A step that takes these seconds, or those that a function returns for its input."""

    async def work(value):
        await asyncio.sleep(seconds(value) if callable(seconds) else seconds)
        return value

    return RunnableLambda(work, name=name)


def watched(monitor, **others):
    """A config with the monitor's callback."""
    return {"callbacks": [monitor.callback], **others}


def figures(report, name):
    """Calls, errors and cancelled calls of a step."""
    return report[name].count, report[name].errors, report[name].cancelled


def spans_of(report, name):
    """Start and end of each call of a step, in the order of the ends that were told."""
    return [(span.start, span.end) for span in report.spans if span.name == name]
