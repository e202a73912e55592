"""LangChain's events, as calls of a monitor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_core.callbacks import BaseCallbackHandler

from course_lib.monitoring.runs import outcome_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from uuid import UUID

    from course_lib.monitoring.runs import Runs

__all__ = ["MonitorCallback"]


def _start(kind: str, *, tells_end: bool = False) -> Callable[..., None]:
    """Return the method for the start of a kind of run.

    Args:
        kind: What it is called where it has no name.
        tells_end: Whether LangChain tells its end in any case. Models, retrievers and tools that
            are cancelled end without a word (langchain-core 1.7).
    """

    def begin(
        self: MonitorCallback,
        serialized: Mapping[str, Any] | None,
        _given: Any,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        name = kwargs.get("name") or _name(serialized) or kind
        self._runs.start(run_id, parent_run_id, name, tags, tells_end=tells_end)

    return begin


def _ended(self: MonitorCallback, _result: Any, *, run_id: UUID, **_others: Any) -> None:
    self._runs.end(run_id, "ok")


def _failed(self: MonitorCallback, error: BaseException, *, run_id: UUID, **_others: Any) -> None:
    self._runs.end(run_id, outcome_of(error))


# LangChain's signatures differ from event to event; what these leave out is not used.
_end: Callable[..., None] = _ended
_fail: Callable[..., None] = _failed


def _name(serialized: Mapping[str, Any] | None) -> str:
    """Return the name that a component was given, or that of its class, or nothing."""
    if not serialized:
        return ""
    return str(serialized.get("name") or (serialized.get("id") or [""])[-1])


class MonitorCallback(BaseCallbackHandler):
    """Counts every run of chains, models, retrievers and tools; see `PerformanceMonitor.callback`.

    It runs inline: in the thread that works, not in a pool's, where it would wait for a place and
    make the step wait, too. What goes wrong in it is logged by LangChain and changes no result.
    """

    run_inline = True
    raise_error = False

    def __init__(self, runs: Runs) -> None:
        self._runs = runs

    on_chain_start = _start("chain", tells_end=True)
    on_chat_model_start = _start("chat model")
    on_llm_start = _start("LLM")
    on_retriever_start = _start("retriever")
    on_tool_start = _start("tool")

    def on_llm_new_token(self, token: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """Count the time to the first token; the empty text that opens many streams is none."""
        message = getattr(kwargs.get("chunk"), "message", None)
        if token or getattr(message, "tool_call_chunks", None):
            self._runs.token(run_id)

    on_chain_end = on_llm_end = on_retriever_end = on_tool_end = _end
    on_chain_error = on_llm_error = on_retriever_error = on_tool_error = _fail
