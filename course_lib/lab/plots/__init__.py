"""One function a picture. Each puts the figure that matters into its title and its alternative."""

from course_lib.lab.plots.bars import bars
from course_lib.lab.plots.curves import durations_of, percentiles, versus_model
from course_lib.lab.plots.heatmap import heatmap
from course_lib.lab.plots.ladder import Rung, ladder
from course_lib.lab.plots.lanes import lanes
from course_lib.lab.plots.magnitudes import magnitudes
from course_lib.lab.plots.over_time import over_time
from course_lib.lab.plots.picture import Picture, draw
from course_lib.lab.plots.picture import project as project
from course_lib.lab.plots.stages import stages
from course_lib.lab.plots.timeline import timeline

__all__ = [
    "Picture",
    "Rung",
    "bars",
    "draw",
    "durations_of",
    "heatmap",
    "ladder",
    "lanes",
    "magnitudes",
    "over_time",
    "percentiles",
    "stages",
    "timeline",
    "versus_model",
]
