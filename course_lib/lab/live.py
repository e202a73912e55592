"""The live page of one's own provider, in the notebook."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from course_lib.room import LivePage
    from course_lib.service import Provider

__all__ = ["Live", "live"]

_pages: dict[str, LivePage] = {}


@dataclass(frozen=True, slots=True, repr=False)
class Live:
    """A live page, shown in a frame as a cell's result.

    Attributes:
        provider: The provider's address.
        url: The page's address, for a window of its own; whoever has it can look.
        height: Pixels.
    """

    provider: str
    url: str
    height: int

    def __repr__(self) -> str:
        return "live page of the provider"

    def _repr_html_(self) -> str:
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
    from course_lib.room import LivePage  # noqa: PLC0415 - nothing of the room is loaded unless asked

    page = _pages.get(provider.url)
    if page is None:
        page = _pages[provider.url] = LivePage(provider.url)
    return Live(provider.url, page.url, height)
