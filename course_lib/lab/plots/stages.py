"""Where an item's time goes: waiting and service of each step, as stacked bars."""

from collections.abc import Mapping

from matplotlib.axes import Axes

from course_lib.lab.plots.picture import BLUE, ORANGE, Picture, beside, draw, name_rows
from course_lib.monitoring import Report
from course_lib.table import duration

__all__ = ["stages"]

Stages = Mapping[str, tuple[float, float]]
"""Mean seconds by step: waiting, and service."""


def stages(
    source: Report | Stages, *, steps: list[str] | None = None, title: str | None = None
) -> Picture:
    """Draw for each step a bar of its mean waiting and service time, in the order of the steps.

    Args:
        source: A monitor's report, or (wait, service) in seconds by name.
        steps: Which ones to draw; by default those of a report in which no other one ran, so that
            nothing is drawn twice, and all of a mapping.
        title: The message; by default the step with the longest bar, and its share of the whole.

    Raises:
        ValueError: There is nothing to draw, or no such step.
    """
    seconds = _chosen(source, steps)
    if not seconds or sum(map(sum, seconds.values())) <= 0:
        raise ValueError("no time to draw: measure some steps first")
    longest = max(seconds, key=lambda name: sum(seconds[name]))
    share = sum(seconds[longest]) / sum(map(sum, seconds.values()))
    said = ", ".join(
        f"{name} {duration(wait)} waiting and {duration(service)} of service"
        for name, (wait, service) in seconds.items()
    )

    def paint(axes: Axes) -> str:
        _bars(axes, seconds)
        axes.set(xlabel="mean seconds of an item", xlim=(0, None))
        axes.set_title(title or f"{longest}: {share:.0%} of an item's time")
        axes.figure.legend(loc="outside lower right", ncols=2)  # the figures need the right side
        return f"Stacked bars of the mean time in each step: {said}."

    return draw(paint, size=(8.0, 1.7 + 0.45 * len(seconds)))


def _chosen(source: Report | Stages, steps: list[str] | None) -> dict[str, tuple[float, float]]:
    if isinstance(source, Report):
        outer = {parent for step in source.steps.values() for parent in step.parents}
        known = {step.name: (step.wait.mean, step.mean) for step in source.steps.values()}
        default = [name for name in known if name not in outer and source[name].count]
    else:
        known, default = dict(source), list(source)
    unknown = [name for name in steps or () if name not in known]
    if unknown:
        raise ValueError(f"no step {unknown[0]!r} to draw: choose from {', '.join(known)}")
    return {name: known[name] for name in (default if steps is None else steps)}


def _bars(axes: Axes, seconds: Mapping[str, tuple[float, float]]) -> None:
    rows = range(len(seconds))
    waits = [wait for wait, _ in seconds.values()]
    services = [service for _, service in seconds.values()]
    axes.barh(rows, waits, color=ORANGE, label="waiting")
    axes.barh(rows, services, left=waits, color=BLUE, label="service")
    for row, (wait, service) in enumerate(seconds.values()):
        text = duration(wait + service)
        if wait > 0:
            text += f" ({duration(wait)} + {duration(service)})"
        beside(axes, wait + service, row, text)
    name_rows(axes, list(seconds))
    axes.margins(x=0.5)  # room for the figures of the longest
