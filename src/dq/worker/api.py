"""The call for scripts that work for a master: `run_worker`."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection, Iterable

from dq._support import quantities
from dq.functions import loading
from dq.functions.reference import Function
from dq.functions.task_check import checked
from dq.security import keys
from dq.security.tls_options import TlsOptions
from dq.transport.server_address import server_address
from dq.worker import allow as patterns
from dq.worker.plan import Plan
from dq.worker.process_options import GRACE_S, ProcessOptions, process_count
from dq.worker.supervisor import Supervisor

log = logging.getLogger("dq")


def run_worker(
    server: str = "127.0.0.1",
    port: int | None = None,
    *,
    authkey: bytes | str | None = None,
    processes: int | None = None,
    threads: int = 1,
    task: str | Function | None = None,
    allow: Iterable[str] = (),
    reconnect: float = 60.0,
    max_tasks: int | None = None,
    max_memory: int | None = None,
    grace: float = GRACE_S,
    preload: Iterable[str] = (),
    tags: str | Collection[str] = (),
    tls: str = "auto",
    tls_cert: str | os.PathLike[str] | None = None,
    tls_key: str | os.PathLike[str] | None = None,
    tls_ca: str | os.PathLike[str] | None = None,
    report: Callable[[str], None] | None = None,
) -> None:
    """Work for a master until it has finished.

    Args:
        server: its host, or ``host:port``.
        port: its TCP port; None for the one in `server`, else 5000.
        authkey: the shared key; None to look where ``dq`` does.
        processes: task processes; None for one for each CPU.
        threads: task slots in each.
        task: what to call with the items of plain clients, and of a plain `BaseManager`.
        allow: run only functions that match one of these patterns ("app:*", "jobs.*:run"), and take
            only standard data types as inputs; empty to run anything.
        reconnect: seconds to look for a master that cannot be reached.
        max_tasks: tasks after which a process is replaced.
        max_memory: bytes of resident memory beyond which a process is ended.
        grace: seconds that a process has to leave at its end, for threads that tasks have left,
            what is registered with atexit, and files to be flushed.
        preload: modules that are imported once, for all processes, which then share their memory.
        tags: what this worker has, for jobs that need it: ["gpu", "eu"] or "gpu,eu".
        tls: how the connection is encrypted. "auto": with certificates if they are given, else from
            the key if both ends have Python 3.13 or newer, else not at all. "require": the same,
            but never without encryption. "psk": from the key. "certs": with certificates. "off":
            not at all.
        tls_cert, tls_key, tls_ca: PEM files: this end's certificate, its key, and the CA that
            signed the master's certificate.
        report: called with each line that people should see; None for the log.

    Raises:
        ConnectError: no master there, or another key.
        TlsError: the connection cannot be encrypted as it has to be.
        MasterLost: the master was lost and did not come back.
    """
    loading.refuse_while_importing()
    quantities.text(server=server)
    quantities.whole(1, 65535, **quantities.given(port=port))
    quantities.seconds(reconnect=reconnect)
    encryption = TlsOptions(tls=tls, tls_cert=tls_cert, tls_key=tls_key, tls_ca=tls_ca)
    plan = Plan(
        address=server_address(server, port),
        authkey=keys.find(authkey),
        processes=ProcessOptions(
            count=process_count(processes=processes),
            threads=threads,
            max_tasks=max_tasks,
            max_memory=max_memory,
            grace=grace,
            preload=preload,
            tags=tags,
        ),
        task=checked(task) if task is not None else None,
        reconnect=reconnect,
        tls=encryption.settings(),
        allow=tuple(map(patterns.check, allow)),
    )
    supervisor = Supervisor(plan, report or log.warning)
    supervisor.connect(reconnect)
    supervisor.run()
