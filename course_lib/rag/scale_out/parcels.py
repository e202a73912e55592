"""What travels between a process and its workers: what cannot travel fails alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from distributed import protocol

from course_lib.batching import Outcome
from course_lib.rag.scale_out.chunk import RemoteError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["opened_answer", "opened_queries", "packed_answer", "packed_queries"]

pickle: Any = protocol.pickle  # Dask annotates it in part


def packed_queries(queries: Sequence[Any]) -> bytes:
    """Return queries as bytes, in which Dask looks for nothing of its own.

    Raises:
        Exception: One of them cannot be pickled; which kind it is depends on the query.
    """
    return bytes(pickle.dumps(queries))


def opened_queries(parcel: bytes) -> list[Any]:
    """Return the queries of `packed_queries`."""
    return list(pickle.loads(parcel))


def packed_answer(outcome: Outcome[Any]) -> bytes:
    """Return an outcome as bytes, or in its place one that says why it cannot be sent."""
    try:
        parcel = bytes(pickle.dumps(outcome))
        if outcome.error is not None:
            pickle.loads(parcel)  # many an exception is written well and cannot be read
    except Exception as problem:  # noqa: BLE001 - whatever their own code raises
        return bytes(pickle.dumps(_stand_in(outcome, problem)))
    return parcel


def opened_answer(index: int, parcel: bytes) -> Outcome[Any]:
    """Return the outcome of `packed_answer`, under the index that it has here."""
    try:
        it: Outcome[Any] = pickle.loads(parcel)
    except Exception as problem:  # noqa: BLE001 - whatever their own code raises
        error = RemoteError(f"the answer to query {index} cannot be read here: {_said(problem)}")
        return Outcome(index, error=error)
    return Outcome(index, it.value, it.error, it.wait, it.service, it.attempts)


def _stand_in(outcome: Outcome[Any], problem: Exception) -> Outcome[Any]:
    if outcome.error is not None:
        text = _said(outcome.error)
    else:
        text = (
            f"a {type(outcome.value).__name__} cannot be sent from a worker ({_said(problem)}): "
            "have the pipeline return data that can be pickled"
        )
    error = RemoteError(text)
    return Outcome(outcome.index, None, error, outcome.wait, outcome.service, outcome.attempts)


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
