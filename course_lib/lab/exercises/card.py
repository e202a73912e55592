"""The score card of an exercise: what the learner's function did, and what that means."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Literal

from course_lib.lab.exercises.offers import Offer

__all__ = ["Grading", "Line", "ScoreCard", "Verdict", "named"]

Verdict = Literal["passed", "not yet", "not attempted yet"]

COLOURS: dict[Verdict, str] = {
    "passed": "#009E73",
    "not yet": "#D55E00",
    "not attempted yet": "#555555",
}
LONGEST_NAME = 60
"""Characters of a diagnosis' name."""

MARKS: dict[Verdict, str] = {"passed": "✔", "not yet": "✘", "not attempted yet": "…"}


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that was observed.

    Attributes:
        what: What was looked at, such as "peak in flight".
        got: What the function did.
        wanted: What it should do.
        good: Whether that is so.
    """

    what: str
    got: str
    wanted: str
    good: bool


@dataclass(frozen=True, slots=True, repr=False)
class ScoreCard:
    """The result of a check, shown as text and as HTML.

    Attributes:
        title: Number and title of the exercise.
        verdict: "passed", "not yet" or "not attempted yet".
        lines: What was observed.
        diagnosis: The first mistake, named, with a way on; "" if there is none.
        name: The diagnosis' short name, such as "peak-in-flight": words of the grader, never of
            the learner's code, which a diagnosis may quote.
        offer: After a pass: other ways, and what the check cannot see.
    """

    title: str
    verdict: Verdict
    lines: Sequence[Line] = ()
    diagnosis: str = ""
    name: str = ""
    offer: Offer | None = None

    @property
    def passed(self) -> bool:
        """Whether the exercise is solved."""
        return self.verdict == "passed"

    def __repr__(self) -> str:
        width = max((len(line.what) for line in self.lines), default=0)
        rows = [
            f"  {'✔' if line.good else '✘'} {line.what.ljust(width)}  {_observed(line)}"
            for line in self.lines
        ]
        head = f"{MARKS[self.verdict]} {self.title}: {self.verdict}"
        said = [f"  → {self.diagnosis}"] if self.diagnosis else []
        return "\n".join([head, *rows, *said, *(f"  {text}" for text in _offered(self.offer))])

    def _repr_html_(self) -> str:
        rows = "".join(
            f'<tr><td style="text-align:left">{"✔" if line.good else "✘"} {_html(line.what)}</td>'
            f'<td style="text-align:left">{_html(_observed(line))}</td></tr>'
            for line in self.lines
        )
        table = f"<table>{rows}</table>" if rows else ""
        said = [self.diagnosis] if self.diagnosis else []
        hint = "".join(f"<p>{_html(text)}</p>" for text in [*said, *_offered(self.offer)])
        return (
            f'<div style="border-left:4px solid {COLOURS[self.verdict]};padding-left:12px">'
            f"<b>{MARKS[self.verdict]} {_html(self.title)}: {self.verdict}</b>{table}{hint}</div>"
        )


@dataclass(slots=True)
class Grading:
    """Collects what a grader observes; the first mistake becomes the diagnosis.

    Attributes:
        lines: Observations so far.
        diagnosis: The first mistake so far.
        name: What was looked at when it was found.
    """

    lines: list[Line] = field(default_factory=list)
    diagnosis: str = ""
    name: str = ""

    def observe(self, what: str, got: object, wanted: object, good: bool, mistake: str) -> None:  # noqa: FBT001
        """Add a line; if it is not good and the first of its kind, `mistake` is the diagnosis."""
        self.lines.append(Line(what, str(got), str(wanted), good))
        if not good and not self.diagnosis:
            self.diagnosis, self.name = mistake, named(what)

    def card(self, title: str, offer: Offer | None = None) -> ScoreCard:
        """Return the finished card; `offer` is what it says if all is good."""
        lines = tuple(self.lines)
        if all(line.good for line in lines):
            return ScoreCard(title, "passed", lines, offer=offer)
        return ScoreCard(title, "not yet", lines, self.diagnosis, self.name)


def named(text: str) -> str:
    """Return the short name of what a grader looks at: lower case, digits, dashes."""
    return re.sub("[^a-z0-9]+", "-", text.lower()).strip("-")[:LONGEST_NAME].strip("-")


def _offered(offer: Offer | None) -> list[str]:
    """What is said after a pass."""
    if offer is None:
        return []
    return [
        *(f"Another way: {way}" for way in offer.ways),
        f"This check cannot see {offer.unseen}",
    ]


def _html(text: str) -> str:
    """Return text for a page, with what stands between backticks as code."""
    return re.sub("`([^`]+)`", r"<code>\1</code>", escape(text))


def _observed(line: Line) -> str:
    """What was seen, and what should be; a cross never stands beside the figure of a tick."""
    if line.good:
        return line.got
    if line.got == line.wanted:
        return f"nearly, but not quite {line.wanted}"
    return f"{line.got} (wanted: {line.wanted})"
