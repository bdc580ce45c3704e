"""What a supervisor runs."""

from __future__ import annotations

from collections.abc import Callable

from dq._support.frozen import frozen
from dq.functions.reference import TaskRef
from dq.security.tls import PLAIN, Tls
from dq.transport.addresses import Address
from dq.worker.process_options import ProcessOptions


@frozen
class Plan:
    """What a supervisor runs.

    Args:
        address: the master's.
        authkey: the shared key.
        processes: how many task processes, and with what limits.
        task: what to do with the items of plain clients and plain masters.
        reconnect: seconds to look for a master whose connection was lost.
        inherit: whether task processes take over this program's `sys.argv`, `multiprocessing`
            authkey and logging.
        sharing: how many processes share the machine's CPUs; 0 for those of this supervisor.
        tls: how connections are encrypted.
        allow: patterns, from `dq.worker.allow.check`, of what the master may name; empty for all.
        stderr: makes a descriptor for each task process's standard error, which is closed here
            once the process has it; None to use this process's standard error.
        are_all: whether the master has no other workers, and none can join.
        output: where what tasks print goes: "own" as `stderr` says, "master", or "both".
    """

    address: Address
    authkey: bytes
    processes: ProcessOptions
    task: TaskRef | None = None
    reconnect: float = 60.0
    inherit: bool = False
    sharing: int = 0
    tls: Tls = PLAIN
    allow: tuple[str, ...] = ()
    stderr: Callable[[], int] | None = None
    are_all: bool = False
    output: str = "own"
