"""Lease holders, leases, and the reports about them."""

from __future__ import annotations

from dataclasses import dataclass

from dq._support.frozen import frozen
from dq.core.records import Batch, Outcome


@frozen
class LeaseHolder:
    """One connection, which can have leases.

    Args:
        id: number of the connection.
        group: the worker that it belongs to. A job that one connection of a group refuses is
            kept from the whole group.
        name: ``host:pid``, for records.
        is_slot: whether it is a task slot. Remaining inputs are divided by the number of these.
        tags: what its worker is said to have, for jobs that need it.
    """

    id: int
    group: str = ""
    name: str = ""
    is_slot: bool = True
    tags: frozenset[str] = frozenset()


@dataclass(slots=True)
class Lease:
    """A batch that a holder has; `next` is its first task without an outcome.

    `given` is when it was leased, and `granted` is when it was leased or last reported on. `busy`
    is how many seconds of work have been reported since it was leased. `weight` is how many bytes
    it is expected to take, as inputs now or as results later. `ending` is whether its worker has
    been told to end its tasks. `expected` is how many seconds the rest of it is expected to take.
    `copy_of` is its task, if that is or was leased twice because it is slow, until this lease has
    ended or has an outcome.
    """

    id: int
    holder: LeaseHolder
    batch: Batch
    granted: float
    attempt: int
    next: int
    stop: int
    suspect: int | None = None
    charged: bool = False
    given: float = 0.0
    busy: float = 0.0
    weight: int = 0
    ending: bool = False
    expected: float = 0.0
    copy_of: int | None = None

    def rest(self) -> Batch:
        """The tasks that have not been reported yet."""
        return self.batch.part(self.next, self.stop)


@frozen
class Report:
    """What a holder reports of a lease: outcomes from task `first` on, without gaps, and how many
    tasks at the end of the lease it returns without having started them."""

    lease: int
    first: int
    outcomes: tuple[Outcome, ...]
    handed_back: int = 0
    busy: float = 0.0

    @property
    def count(self) -> int:
        return sum(outcome.count for outcome in self.outcomes)
