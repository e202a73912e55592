"""Scenario 3: batching strategies.

`amap` keeps a window of items in flight; `batch_in_chunks` and `adaptive_batch` are what it is to
be compared with. `PriorityBatchProcessor` and `MicroBatcher` answer single calls by batch calls.
"""

from course_lib.batching.batcher import BatcherClosed, BatcherStatistics, WrongNumberOfResults
from course_lib.batching.chunks import adaptive_batch, batch_in_chunks
from course_lib.batching.micro import MicroBatcher
from course_lib.batching.priority import PriorityBatchProcessor
from course_lib.batching.signals import Chunk, CpuMeter, CpuSignal, LatencySignal, Signal
from course_lib.batching.task_pool import Outcome, Outcomes
from course_lib.batching.window import amap
from course_lib.retry import Backoff

__all__ = [
    "Backoff",
    "BatcherClosed",
    "BatcherStatistics",
    "Chunk",
    "CpuMeter",
    "CpuSignal",
    "LatencySignal",
    "MicroBatcher",
    "Outcome",
    "Outcomes",
    "PriorityBatchProcessor",
    "Signal",
    "WrongNumberOfResults",
    "adaptive_batch",
    "amap",
    "batch_in_chunks",
]
