"""Who can have leases, what a lease is, and what its holder reports of it."""

from __future__ import annotations

from dataclasses import dataclass

from dq._support.frozen import frozen
from dq.core.records import Batch, Outcome


@frozen
class LeaseHolder:
    """Who can have leases: one connection.

    Args:
        id: number of the connection.
        group: the machine or supervisor it belongs to; import failures count for all of it.
        name: ``host:pid``, for records.
        is_slot: whether it is a task slot: work is shared out among so many.
    """

    id: int
    group: str = ""
    name: str = ""
    is_slot: bool = True


@dataclass(slots=True)
class Lease:
    """A batch that a holder has; `next` is the first task without an outcome.

    `granted` is when it was given out, or last heard of; `given` and `busy` are when it was given
    out, and how much of the time since was work that has been reported. `weight` is the bytes that
    it is expected to take, as inputs now or as results later.
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

    def rest(self) -> Batch:
        """What is still to be reported."""
        return self.batch.part(self.next, self.stop)


@frozen
class Report:
    """What a holder says of a lease: outcomes from task `first` on, without gaps, and how many
    tasks at the lease's end it hands back unstarted."""

    lease: int
    first: int
    outcomes: tuple[Outcome, ...]
    handed_back: int = 0
    busy: float = 0.0

    @property
    def count(self) -> int:
        return sum(outcome.count for outcome in self.outcomes)
