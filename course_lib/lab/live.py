"""The live page of one's own provider, in the notebook."""

from __future__ import annotations

import os
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from course_lib.room import LivePage
    from course_lib.service import Provider

__all__ = ["Live", "live"]

FRONT_ENDS: Final = ("JPY_SESSION_NAME", "VSCODE_PID")
"""What Jupyter's server and VS Code set for a kernel whose cells somebody looks at."""

_pages: dict[str, LivePage] = {}


@dataclass(frozen=True, slots=True, repr=False)
class Live:
    """A live page, shown in a frame as a cell's result.

    Where nobody looks (nbval, nbconvert, a stored notebook) it is a line of text: a frame would
    lead to a page that has ended.

    Attributes:
        provider: The provider's address.
        height: Pixels.
    """

    provider: str
    height: int

    @property
    def url(self) -> str:
        """The page's address, for a window of its own; whoever has it can look."""
        from course_lib.room import LivePage  # noqa: PLC0415 - loaded when somebody looks

        page = _pages.get(self.provider)
        if page is None:
            page = _pages[self.provider] = LivePage(self.provider)
        return page.url

    def __repr__(self) -> str:
        return "live page of the provider"

    def _repr_html_(self) -> str | None:
        if not any(name in os.environ for name in FRONT_ENDS):
            return None
        return (
            f'<iframe src="{escape(self.url)}" title="{self!r}" width="100%" '
            f'height="{self.height}" style="border:0"></iframe>'
        )


def live(provider: Provider, *, height: int = 420) -> Live:
    """Show what a provider sees while it sees it: lanes, throughput, p95, queue, refusals.

    The page is on this machine only, and is there as long as the kernel. In JupyterLab,
    "Create New View for Output" puts it beside the notebook.

    Args:
        provider: One that `service.start` or `service.running` made.
        height: Pixels.
    """
    return Live(provider.url, height)
