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
        inherit: whether task processes are this program's own, and get its `sys.argv`, its
            `multiprocessing` authkey and how it logs.
        sharing: how many processes the machine's CPUs are for; 0 for as many as it runs.
        tls: how connections are encrypted.
        allow: what the master may name, as `dq.worker.allow.check` has it; empty for anything.
        stderr: makes a descriptor for each task process's standard error, closed here once that
            has it; None for this process's.
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
