"""How jobs share the slots: each has the same slot-seconds while it has work to do.

This is start-time fair queuing (Goyal, Vin and Cheng, 1996): the job that has had the least goes
first, and one that had nothing to do for a while is not owed what it did not want.
"""

from __future__ import annotations

from collections.abc import Iterable

from dq._support.frozen import TYPE_CHECKING
from dq.core.leases import Lease, LeaseHolder

if TYPE_CHECKING:
    from dq.core.jobs import Job  # which has a `Share`

# Seconds of work that a batch has at most while several jobs compete, so that each soon has a turn.
TURN_S = 0.25
# What a job may be behind, for each slot. One that is always ready is never as far behind. One that
# was idle, or held back by its rate or its reader, does not catch up with more than that.
LAG_S = 2 * TURN_S

Group = tuple[int, frozenset[str]]  # jobs of one priority that need the same tags


class Share:
    """The slot-seconds that one job has had. While a batch runs, it counts as long as it was
    expected to take, so that slots which ask at the same time do not all get the same job; or as
    long as it has been running, if that is longer.

    Attributes:
        used: seconds that have been reported, from where the job began.
        turn: how many batches had been chosen, of any job, when one of this job last was.
    """

    __slots__ = ("_begun", "_expected", "_leases", "turn", "used")

    def __init__(self) -> None:
        self.used = 0.0
        self.turn = 0
        self._leases = 0
        self._expected = 0.0  # seconds, of all leases
        self._begun = 0.0  # the sum of the times when they were leased or last reported on

    def add(self, lease: Lease) -> None:
        """Count a new lease."""
        self._leases += 1
        self._expected += lease.expected
        self._begun += lease.granted

    def remove(self, lease: Lease) -> None:
        """Count a lease no longer."""
        self._leases -= 1
        self._expected -= lease.expected
        self._begun -= lease.granted
        if not self._leases:  # so that rounding errors do not add up
            self._expected = self._begun = 0.0

    def report(self, lease: Lease, part: float, busy: float, now: float) -> None:
        """Count what was reported of a lease: a `part` of the tasks that were left, from 0 to 1,
        which took `busy` seconds."""
        self.used += busy
        reported = lease.expected * part
        lease.expected -= reported
        self._expected -= reported
        self._begun += now - lease.granted

    def lose(self, lease: Lease) -> None:
        """Count a lease that was lost as what it was expected to take: how long it has run before
        its holder was lost is not known."""
        self.used += lease.expected

    def total(self, now: float) -> float:
        """Seconds, including those of batches that still run."""
        return self.used + max(self._expected, self._leases * now - self._begun)


class Levels:
    """Puts jobs in turn, and knows how much the least served of them have had.

    A job's level is that of its group. When a batch is chosen for a holder, each group that this
    holder can serve has no job that is ready and has had less, so its level rises to what the
    chosen job has had.
    """

    def __init__(self) -> None:
        self._levels: dict[Group, float] = {}
        self._turn = 0

    def enter(self, job: Job) -> None:
        """Let a new job begin level with the others of its priority."""
        group = job.group
        if group not in self._levels:
            same = [level for other, level in self._levels.items() if other[0] == group[0]]
            self._levels[group] = max(same, default=0.0)
        job.share.used = self._levels[group]

    def keep(self, jobs: Iterable[Job]) -> None:
        """Forget the groups that have none of these jobs."""
        groups = {job.group for job in jobs}
        self._levels = {group: level for group, level in self._levels.items() if group in groups}

    def in_turn(self, jobs: list[Job], now: float, slots: int) -> list[Job]:
        """The jobs by their priority, and those of one priority by what they have had."""
        lag = LAG_S * max(slots, 1)
        order: list[tuple[int, float, int, int]] = []
        for job in jobs:
            total = job.share.total(now)
            behind = self._levels[job.group] - lag - total
            if behind > 0:
                job.share.used += behind
                total += behind
            order.append((-job.rules.priority, total, job.share.turn, len(order)))
        return [jobs[place] for *_, place in sorted(order)]

    def choose(self, job: Job, holder: LeaseHolder, now: float) -> None:
        """Note that a batch of this job was chosen for a holder."""
        self._turn += 1
        job.share.turn = self._turn
        total = job.share.total(now)
        for group, level in self._levels.items():
            if level < total and group[0] == job.rules.priority and group[1] <= holder.tags:
                self._levels[group] = total
