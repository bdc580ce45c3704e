"""The configuration that a supervisor gives to a task process."""

from __future__ import annotations

import pickle
from collections.abc import Callable

from dq._support.frozen import TYPE_CHECKING, frozen
from dq.core.records import Loads
from dq.functions import loading
from dq.functions.reference import TaskRef
from dq.security.tls import PLAIN, Tls
from dq.transport.addresses import Address

if TYPE_CHECKING:
    from dq.worker.logs import Setup


@frozen
class Parents:
    """Settings that a master's local task processes take over from its program.

    Args:
        argv: its `sys.argv`.
        authkey: multiprocessing's, without which a `Manager`'s proxies could not be used.
        logs: how it logs to its terminal; None where it does not.
    """

    argv: tuple[str, ...]
    authkey: bytes
    logs: Setup | None = None


@frozen
class Config:
    """The configuration of a task process. It comes over standard input, so `ps` never shows the
    key.

    Args:
        address: the master's.
        authkey: the shared key.
        group: random name of the supervisor.
        cells: descriptor of the shared cells.
        parent: pid of the supervisor.
        path: `sys.path` to use.
        number: the process's number at its supervisor, from 0.
        hash_seed: the seed of its hashes.
        threads: task slots.
        task: what to call with the items of plain clients and plain masters.
        reconnect: seconds to look for a master whose connection was lost.
        max_tasks: tasks after which the process is replaced.
        grace: seconds that it has to exit, once it has nothing more to do.
        tls: how connections are encrypted.
        allow: patterns of the functions that the master may name; empty for all.
        by_options: whether messages name options of the command, rather than arguments.
        parents: settings of the master's program; None where the process is not local to it.
        preload: modules to import first, where no fork server has.
        tags: what the worker has, for jobs that need it.
        tags_output: whether what it prints gets marks, for a supervisor that reads it.
    """

    address: Address
    authkey: bytes
    group: str
    cells: int
    parent: int
    path: tuple[str, ...]
    number: int
    hash_seed: int
    threads: int
    task: TaskRef | None
    reconnect: float
    max_tasks: int | None
    grace: float
    tls: Tls = PLAIN
    allow: tuple[str, ...] = ()
    by_options: bool = False
    parents: Parents | None = None
    preload: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    tags_output: bool = False

    def load(self, ref: TaskRef) -> Callable[..., object]:
        """The function that the master names.

        Raises:
            BadTask: it cannot be loaded, or the master may not name it.
        """
        if not self.allow:
            return loading.load(ref)
        from dq.worker import allow  # here, since few workers need it

        return allow.load(ref, self.allow)

    def load_both(
        self, ref: TaskRef, init: TaskRef
    ) -> tuple[Callable[..., object], Callable[..., object]]:
        """A function and its initializer that came together by value: they share globals.

        Raises:
            BadTask: they cannot be loaded, or the master may not name them.
        """
        if self.allow:
            from dq.worker import allow

            allow.find(ref, self.allow)
        function, initializer = loading.load_values(ref)
        return function, initializer

    def lets_through(self, error: BaseException) -> bool:
        """Whether an exception of a task ends the process. None does: SystemExit and
        KeyboardInterrupt are the task's."""
        return False


def loads_for(allow: tuple[str, ...]) -> Loads:
    """The unpickler for what a master sends. A master that may name only some functions must not
    bring others in a pickle."""
    if not allow:
        return pickle.loads
    from dq.security.safe_pickle import safe_loads  # here, since few workers need it

    return safe_loads
