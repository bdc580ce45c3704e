"""dq: a Python function, a list of inputs, a few machines.

import dq
squares = dq.run("app:square", range(10))
"""

from __future__ import annotations

import os
import sys

from dq.errors import (
    AuthenticationFailed,
    BadInput,
    BadJournal,
    BadKey,
    BadTask,
    ConnectError,
    DqError,
    InputChanged,
    Interrupted,
    MasterLost,
    OutputError,
    PlainMaster,
    ProtocolError,
    RemoteTraceback,
    Stopped,
    TaskError,
    TlsError,
    UnknownHost,
    UsageError,
)

TYPE_CHECKING = False  # `typing` takes 5 ms to import, and checkers go by the name

if TYPE_CHECKING:
    from dq.core.records import Failure, Result
    from dq.dispatch.worker_status import ProcessStacks, RunningTask, WorkerStatus
    from dq.manager.queue_manager import QueueManager
    from dq.master.api import run, run_master
    from dq.master.executor import Executor
    from dq.master.master import Master
    from dq.service.client import Client, connect
    from dq.service.status import FailureGroup, JobStatus
    from dq.service.submitted_job import SubmittedJob
    from dq.worker.api import run_worker
    from dq.worker.current import CurrentTask, current_task, progress

__version__ = "0.1.0"

__all__ = [  # noqa: RUF022  # in groups: calls, classes, records, errors
    "run",
    "run_master",
    "run_worker",
    "connect",
    "current_task",
    "progress",
    "Master",
    "Executor",
    "Client",
    "SubmittedJob",
    "QueueManager",
    "Failure",
    "Result",
    "CurrentTask",
    "JobStatus",
    "FailureGroup",
    "WorkerStatus",
    "RunningTask",
    "ProcessStacks",
    "AuthenticationFailed",
    "BadInput",
    "BadJournal",
    "BadKey",
    "BadTask",
    "ConnectError",
    "DqError",
    "InputChanged",
    "Interrupted",
    "MasterLost",
    "OutputError",
    "PlainMaster",
    "ProtocolError",
    "RemoteTraceback",
    "Stopped",
    "TaskError",
    "TlsError",
    "UnknownHost",
    "UsageError",
]

# Loaded when first used: `dq --help` and a worker's start need none of it.
_HOMES = {
    "run": "dq.master.api",
    "run_master": "dq.master.api",
    "run_worker": "dq.worker.api",
    "current_task": "dq.worker.current",
    "progress": "dq.worker.current",
    "CurrentTask": "dq.worker.current",
    "Master": "dq.master.master",
    "Executor": "dq.master.executor",
    "QueueManager": "dq.manager.queue_manager",
    "connect": "dq.service.client",
    "Client": "dq.service.client",
    "SubmittedJob": "dq.service.submitted_job",
    "JobStatus": "dq.service.status",
    "FailureGroup": "dq.service.status",
    "WorkerStatus": "dq.dispatch.worker_status",
    "RunningTask": "dq.dispatch.worker_status",
    "ProcessStacks": "dq.dispatch.worker_status",
    "Failure": "dq.core.records",
    "Result": "dq.core.records",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'dq' has no attribute {name!r}")
    import importlib

    value: object = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


def _is_begun_anew() -> bool:
    """Whether this is a task process, and a program that is its own interpreter (PyInstaller's, or
    one that embeds Python) has begun anew in it, rather than do what it was told with ``-c``."""
    return "DQ_TASK_PROCESS" in os.environ and getattr(sys, "argv", [""])[:1] != ["-c"]


if _is_begun_anew():
    import importlib

    # Which does not return: nothing of the program below its import of dq is run.
    importlib.import_module("dq.worker.main").main()
