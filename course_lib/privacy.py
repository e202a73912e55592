"""Nothing leaves the machine: what dependencies would send of themselves is switched off.

For the bench and the notebooks, which `course_lib.lab` calls this for. A program of somebody else's
that imports another part of the package keeps what it has set; the provider loads nothing that
traces, and switches off its model runtime's telemetry itself.
"""

import os
import sys
from collections.abc import Mapping, MutableMapping
from typing import Final

__all__ = ["PERMISSION", "keep_private", "tracing_wanted"]

PERMISSION: Final = "COURSE_TRACING"
"""Set to 1, it leaves tracing as it is."""

TELEMETRY_OFF: Final = {"ORT_DISABLE_TELEMETRY": "1"}
"""ONNX Runtime reads it when it is loaded: a call that switches its telemetry off comes too late."""

TRACING: Final = (
    "LANGSMITH_TRACING_V2",
    "LANGCHAIN_TRACING_V2",
    "LANGSMITH_TRACING",
    "LANGCHAIN_TRACING",
    "LANGCHAIN_HANDLER",
)
"""Variables by which LangChain and LangSmith are told to send all that runs to a server."""

OFF: Final = ("", "0", "false")


def tracing_wanted(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Return the variables that ask for tracing in an environment."""
    return [name for name in TRACING if environment.get(name, "").strip().lower() not in OFF]


def keep_private(environment: MutableMapping[str, str] = os.environ) -> None:
    """Switch off what would leave the machine, in this process and in those that it starts.

    Tracing stays as it is where `COURSE_TRACING=1`.
    """
    environment.update(TELEMETRY_OFF)
    if environment.get(PERMISSION) == "1":
        return
    for name in tracing_wanted(environment):
        environment[name] = "false"
    utils = sys.modules.get("langsmith.utils")
    if utils is not None:  # it may have looked already, and remembers
        utils.get_env_var.cache_clear()
