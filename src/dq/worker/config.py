"""What a task process is given by its supervisor."""

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
    """What task processes have of the program whose own they are.

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
    """All that a task process is given, over its standard input, so that no key is ever in `ps`.

    Args:
        address: the master's.
        authkey: the shared key.
        group: random name of the supervisor.
        cells: descriptor of the shared cells.
        parent: pid of the supervisor.
        path: `sys.path` to use.
        number: which of its supervisor's processes this is, from 0.
        hash_seed: what its hashes have been seeded with.
        threads: task slots.
        task: what to call with the items of plain clients and plain masters.
        reconnect: seconds to look for a master whose connection was lost.
        max_tasks: tasks after which the process is replaced.
        grace: seconds that it has to leave, once it has no more to do.
        tls: how connections are encrypted.
        allow: patterns of what the master may name; none for anything.
        by_options: whether messages name options of the command, rather than arguments.
        parents: what it has of the program that started it, where that is its own.
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

    def load(self, ref: TaskRef) -> Callable[..., object]:
        """The function that the master names.

        Raises:
            BadTask: it cannot be loaded, or not from here.
        """
        if not self.allow:
            return loading.load(ref)
        from dq.worker import allow  # which few workers need

        return allow.load(ref, self.allow)

    def check(self, ref: TaskRef) -> None:
        """See that the master may name a function.

        Raises:
            BadTask: it may not.
        """
        if self.allow:
            from dq.worker import allow

            allow.find(ref, self.allow)


def loads_for(allow: tuple[str, ...]) -> Loads:
    """What unpickles what a master sends: one that may name some functions only must not bring
    others in a pickle."""
    if not allow:
        return pickle.loads
    from dq.security.safe_pickle import safe_loads  # which few workers need

    return safe_loads
