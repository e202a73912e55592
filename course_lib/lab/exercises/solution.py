"""Solutions are shown as they were executed: read from the solved notebook."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import course_lib

__all__ = ["Solution", "solution_of"]

FOLDER = Path(course_lib.__file__).parent.parent / "notebooks" / "solutions"


@dataclass(frozen=True, slots=True, repr=False)
class Solution:
    """A solution and the score card that it got.

    Attributes:
        code: The code, as it was executed.
        result: The text of the score card.
    """

    code: str
    result: str

    def __repr__(self) -> str:
        return f"{self.code}\n\n{self.result}"

    def _repr_markdown_(self) -> str:
        return f"```python\n{self.code}\n```\n\n```text\n{self.result}\n```"


def solution_of(number: str, folder: Path = FOLDER) -> Solution:
    """Return the executed solution of an exercise.

    Args:
        number: Its id, such as "1.1".
        folder: Where the solved notebooks are.

    Raises:
        LookupError: There is no solved notebook with this exercise.
    """
    chapter = number.partition(".")[0].zfill(2)
    for path in sorted(folder.glob(f"{chapter}_*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        for position, cell in enumerate(cells):
            if cell["metadata"].get("exercise") == number:
                return Solution(_text(cell["source"]), _next_result(cells[position + 1 :]))
    raise LookupError(
        f"no solution of {number} in {folder}: run this from a clone of the course, "
        "where notebooks/solutions is"
    )


def _next_result(cells: list[dict[str, Any]]) -> str:
    """The output of the check cell that follows."""
    for cell in cells:
        if "check" in cell["metadata"].get("tags", []):
            shown = [output["data"]["text/plain"] for output in cell["outputs"] if "data" in output]
            return _text(shown[0]) if shown else ""
    return ""


def _text(lines: str | list[str]) -> str:
    return lines if isinstance(lines, str) else "".join(lines)
