"""The bench: predict, simulate in virtual time, measure in real time, compare, plot, check.

`simulate` is exact and the same on every machine; `measure` and `compare` run real requests.
`exercise` checks what a learner wrote, `hygiene` what a notebook left behind. Importing it switches
off what would leave the machine (see `course_lib.privacy`).
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from course_lib.extras import needs

with needs("notebooks"):
    from course_lib.lab.checklist import Checklist, checklist
    from course_lib.lab.child import ChildError, run_child
    from course_lib.lab.comparison import Comparison, compare
    from course_lib.lab.exercises import exercise
    from course_lib.lab.experiment import Measured, measure
    from course_lib.lab.hygiene import HygieneError, hygiene, watch
    from course_lib.lab.interrupts import wake_on_interrupt
    from course_lib.lab.joining import hand, join, leave
    from course_lib.lab.live import live
    from course_lib.lab.material import default_executor, default_threads, questions
    from course_lib.lab.play import play
    from course_lib.lab.prediction import Prediction, predict, predictions
    from course_lib.lab.progress import note_cells, progress
    from course_lib.lab.progress_line import read_line as read_line
    from course_lib.lab.projector import projector
    from course_lib.lab.simulation import Deadlock, Livelock, Simulation, simulate
    from course_lib.lab.virtual_provider import VirtualProvider
from course_lib.privacy import keep_private
from course_lib.table import Table

if TYPE_CHECKING:
    from course_lib.lab import plots

__all__ = [
    "Checklist",
    "ChildError",
    "Comparison",
    "Deadlock",
    "HygieneError",
    "Livelock",
    "Measured",
    "Prediction",
    "Simulation",
    "Table",
    "VirtualProvider",
    "checklist",
    "compare",
    "default_executor",
    "default_threads",
    "exercise",
    "hand",
    "hygiene",
    "join",
    "leave",
    "live",
    "measure",
    "play",
    "plots",
    "predict",
    "predictions",
    "progress",
    "projector",
    "questions",
    "run_child",
    "simulate",
]

keep_private()
watch()
note_cells()
wake_on_interrupt()


def __getattr__(name: str) -> Any:
    """Import `plots`, and with it matplotlib, where it is first used."""
    if name == "plots":
        return import_module("course_lib.lab.plots")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
