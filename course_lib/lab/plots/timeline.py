"""Who ran when: calls as swim lanes, from the same records that the assertions read."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Protocol

from matplotlib.axes import Axes

from course_lib.lab.plots.lanes import lanes
from course_lib.lab.plots.picture import BLUE, RED, Picture, draw

__all__ = ["Interval", "timeline"]

MOST_LANES_LABELLED = 12
MARGIN = 0.02  # of the length, so that a refusal at the start does not lie on the axis
FULL, SLIM = 0.75, 0.4
"""Height of a bar in lanes; slim where there are so few lanes that shading would be covered."""


class Interval(Protocol):
    """A call with a start and an end in seconds and a status, such as `service.Call`."""

    @property
    def start(self) -> float:
        """Seconds on any one clock."""

    @property
    def end(self) -> float:
        """Seconds on the same clock."""

    @property
    def status(self) -> int:
        """HTTP status; 0 if no answer was given."""


def timeline(
    calls: Sequence[Interval],
    *,
    title: str = "Calls in flight",
    gaps: Sequence[tuple[float, float]] = (),
) -> Picture:
    """Draw calls as swim lanes: a bar a call, as few lanes as hold them without overlap.

    The number of lanes used is the peak in flight.

    Args:
        calls: Records of calls, such as `measured.ledger.calls`.
        title: What is shown; the peak and the length are added to it.
        gaps: Stand-stills of the event loop to be shaded, such as `measured.gaps`.

    Raises:
        ValueError: There are no calls to draw.
    """
    if not calls:
        raise ValueError("no calls to draw: did the program call the provider?")
    zero = min([call.start for call in calls] + [start for start, _ in gaps])
    placed = lanes([(call.start, call.end) for call in calls])
    peak = max(placed) + 1
    length = max(call.end for call in calls) - zero
    failed = sum(not _answered(call) for call in calls)

    def paint(axes: Axes) -> str:
        _shade(axes, [(start - zero, end - zero) for start, end in gaps])
        _draw_calls(axes, calls, placed, zero)
        axes.set(xlabel="seconds since the start", ylabel="lane", xlim=(-MARGIN * length, None))
        axes.set_ylim(-0.6, peak - 0.4)
        if peak <= MOST_LANES_LABELLED:
            axes.set_yticks(range(peak), [str(lane + 1) for lane in range(peak)])
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        axes.set_title(f"{title}: {len(calls)} calls, at most {peak} at once, {length:.2f} s")
        if gaps or failed:
            axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
        said = (
            f"{title}, as swim lanes: {len(calls)} calls in {length:.2f} s, at most {peak} at once."
        )
        if failed:
            said += f" {failed} of them got no good answer."
        if gaps:
            said += f" The event loop stood still for {_total(gaps):.2f} s."
        return said

    return draw(paint, size=(8.0, min(4.5, 1.6 + 0.16 * peak)))


def _draw_calls(axes: Axes, calls: Sequence[Interval], placed: Sequence[int], zero: float) -> None:
    height = FULL if max(placed) else SLIM
    # An edge of their own colour keeps failures in sight: a refusal takes no time at all.
    for wanted, colour, edge, width, label in (
        (True, BLUE, "white", 0.5, "answered"),
        (False, RED, RED, 3, "no good answer"),
    ):
        chosen = [i for i, call in enumerate(calls) if _answered(call) is wanted]
        if chosen:
            axes.barh(
                [placed[i] for i in chosen],
                [calls[i].end - calls[i].start for i in chosen],
                left=[calls[i].start - zero for i in chosen],
                height=height,
                color=colour,
                edgecolor=edge,
                linewidth=width,
                label=label,
            )


def _shade(axes: Axes, gaps: Sequence[tuple[float, float]]) -> None:
    for number, (start, end) in enumerate(gaps):
        label = None if number else "loop stands still"
        axes.axvspan(start, end, color=RED, alpha=0.15, linewidth=0, label=label)


def _answered(call: Interval) -> bool:
    return HTTPStatus.OK <= call.status < HTTPStatus.MULTIPLE_CHOICES


def _total(gaps: Sequence[tuple[float, float]]) -> float:
    return sum(end - start for start, end in gaps)
