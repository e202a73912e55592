"""Scenario 1: async batches with `RunnableLambda(func, afunc=...)`.

`ServiceClient` and `SyncServiceClient` call the provider, `as_runnable` puts a coroutine function
into a chain, `run_sync` calls async code from sync code. Errors: `course_lib.errors`.
"""

from course_lib.extras import needs

with needs("clients"):
    from course_lib.async_batch.client import ServiceClient
    from course_lib.async_batch.run_sync import run_sync
    from course_lib.async_batch.runnable import as_runnable
    from course_lib.async_batch.sync_client import SyncServiceClient

__all__ = ["ServiceClient", "SyncServiceClient", "as_runnable", "run_sync"]
