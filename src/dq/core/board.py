"""The board: who has which task. A pure state machine: no I/O, threads, locks or clock.

A task is *uncut* (still in its source), *waiting* (in a batch that came back), *leased* (in a
batch that some holder has) or *recorded* (it has its one outcome). A batch is handled whole;
single tasks are touched only when something went wrong with them.

A holder is a connection. What a holder has when it goes is waiting again at once, in small
pieces. From then on there may be two copies of a task under way, so such tasks are *loose*:
the first outcome for one is recorded and takes it out of `Job.loose`, any later one is dropped.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from dq._support.frozen import frozen
from dq.core.batching import BatchSizer
from dq.core.records import RECORD_BYTES, Batch, Done, Failed, Failure, Outcome, Recorded
from dq.errors import ProtocolError

WINDOW = 16 * 1024 * 1024  # bytes of inputs out and results unread, per job
# Of a slot, that a batch may take from the window. Many slots that wait for the master look like a
# slow link: with a thousand, and no bound here, the heap of the master grows to 140 MiB for 65,
# where no-op tasks are 5 % fewer. With 4 in place of 12 they are 15 % fewer.
SHARES = 12
PIECES = 16  # a lost batch comes back in so many pieces, so that a poison task is soon alone
SUSPECTS = 64  # tasks of which each is tried by itself at once, after a death in one of them
GRACE = 10.0  # seconds beyond a time-out after which a silent supervisor is no longer waited for


@frozen
class Rules:
    """What applies to the tasks of one job.

    Args:
        retries: further attempts after an exception or time-out.
        retry_delay: seconds before each of them.
        timeout: seconds that a task may run; None for ever.
        max_deaths: how many worker processes a task may take with it.
        max_failures: failed tasks after which the job stops; None never.
        batch: tasks in a batch; None to adapt.
        window: bytes of inputs out and results unread beyond which nothing more goes out.
    """

    retries: int = 0
    retry_delay: float = 0.0
    timeout: float | None = None
    max_deaths: int = 3
    max_failures: int | None = None
    batch: int | None = None
    window: int = WINDOW


@frozen
class LeaseHolder:
    """Who can have leases: one connection.

    Args:
        id: number of the connection.
        group: the machine or supervisor it belongs to; import failures count for all of it.
        name: ``host:pid``, for records.
        counts: whether it is a task slot, so that work is shared out among so many.
    """

    id: int
    group: str = ""
    name: str = ""
    counts: bool = True


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


@dataclass(slots=True)
class Counts:
    """Figures of one job, for people."""

    done: int = 0
    failed: int = 0
    dropped: int = 0
    deaths: int = 0


@dataclass(slots=True)
class Job:
    """One function over one stream of inputs."""

    id: str
    rules: Rules
    sizer: BatchSizer
    next: int = 0  # index of the next task to be cut
    unbatched: int = 0  # inputs that the source has ready
    ended: bool = False  # whether the source has no more to come
    out: int = 0  # tasks cut and without outcome
    waiting: deque[Batch] = field(default_factory=deque)
    delayed: list[tuple[float, int, Batch]] = field(default_factory=list)
    loose: set[int] = field(default_factory=set)
    fails: dict[int, int] = field(default_factory=dict)
    deaths: dict[int, int] = field(default_factory=dict)
    # Deaths of which a task is one of several suspects: its own, if it turns out to be deadly.
    maybes: dict[int, int] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    leases: int = 0
    unread: int = 0  # records not consumed
    held: int = 0  # bytes out and unread
    stopped: str | None = None
    counts: Counts = field(default_factory=Counts)

    @property
    def finished(self) -> bool:
        """Whether nothing more can happen."""
        if self.stopped is not None:
            return self.leases == 0
        return self.ended and self.unbatched == 0 and self.out == 0

    @property
    def remaining(self) -> int | None:
        """Inputs not cut, where that is known."""
        return self.unbatched if self.ended else None

    @property
    def has_more(self) -> bool:
        """Whether there is something to lease, now or once a delay is over."""
        return bool(self.unbatched or self.waiting or self.delayed)

    def attempt(self, index: int) -> int:
        """Which attempt at a task the next one is, from 1."""
        return 1 + self.fails.get(index, 0) + self.deaths.get(index, 0)

    def attempts(self, batch: Batch) -> int:
        """The most that any task of a batch has had."""
        if not self.fails and not self.deaths:
            return 1
        return max(self.attempt(index) for index in range(batch.start, batch.stop))

    def push(self, batch: Batch, now: float, delay: float) -> None:
        """Put a batch in front, or aside for `delay` seconds."""
        if delay > 0:
            heapq.heappush(self.delayed, (now + delay, batch.start, batch))
        else:
            self.waiting.appendleft(batch)

    def pop(self, now: float) -> Batch | None:
        """Take the first waiting batch that still has tasks without outcome."""
        while self.delayed and self.delayed[0][0] <= now:
            self.waiting.append(heapq.heappop(self.delayed)[2])
        while self.waiting:
            batch = self.waiting.popleft()
            if not batch.loose:
                return batch
            runs = list(self.open(batch))
            self.waiting.extendleft(reversed(runs[1:]))
            if runs:
                return runs[0]
        return None

    def open(self, batch: Batch) -> Iterator[Batch]:
        """The runs of a loose batch's tasks that have no outcome yet."""
        start = None
        for index in range(batch.start, batch.stop):
            if index in self.loose:
                start = index if start is None else start
            elif start is not None:
                yield batch.part(start, index)
                start = None
        if start is not None:
            yield batch.part(start, batch.stop)


class Board:
    """All jobs, leases and holders of one master.

    Every method is a transition that succeeds or raises, and never waits; `now` is in seconds of
    any steady clock. What they return is what has come to be on record.

    Args:
        lease_ids: where fresh lease numbers come from; hard to guess, so that who names one has
            been given it.

    >>> board = Board(iter(range(100)))
    >>> job = board.open_job("j", Rules())
    >>> board.supply("j", 1); board.end("j")
    >>> me = Holder(1)
    >>> board.join(me)
    >>> board.wanted(me, now=0.0)
    'j'
    >>> start, count = board.cut("j")
    >>> lease = board.grant(me, Batch("j", start, count, b"in"), now=0.0)
    >>> [record] = board.report(me, Report(lease.id, 0, (Done(1, b"out"),)), now=1.0)
    >>> record.outcome.blob, job.finished
    (b'out', True)
    """

    def __init__(self, lease_ids: Iterator[int]) -> None:
        self._lease_ids = lease_ids
        self.jobs: dict[str, Job] = {}
        self.leases: dict[int, Lease] = {}
        self.lost: dict[int, Lease] = {}
        self.holders: dict[int, LeaseHolder] = {}
        self.held: dict[int, set[int]] = {}
        self.slots = 0
        self.draining = False

    # Jobs and their inputs

    def open_job(self, id: str, rules: Rules) -> Job:
        """Add a job without inputs."""
        job = self.jobs[id] = Job(id, rules, BatchSizer(rules.batch))
        return job

    def supply(self, id: str, count: int) -> None:
        """Note that a job's source has `count` more inputs ready."""
        self.jobs[id].unbatched += count

    def end(self, id: str) -> None:
        """Note that a job's source has no more to come."""
        self.jobs[id].ended = True

    def consumed(self, id: str, records: int, nbytes: int) -> None:
        """Note that so many records of a job have been read by whom they are for."""
        job = self.jobs.get(id)
        if job is not None:
            job.unread -= records
            job.held -= nbytes

    def stop(self, id: str, reason: str) -> None:
        """Give out no more of a job."""
        job = self.jobs[id]
        if job.stopped is None:
            job.stopped = reason
            job.waiting.clear()
            job.delayed.clear()

    def close_job(self, id: str) -> None:
        """Forget a job; reports for it are dropped from now on."""
        self.jobs.pop(id, None)
        for lease in [lease for lease in self.leases.values() if lease.batch.job == id]:
            self._forget(lease)
        for lease in [lease for lease in self.lost.values() if lease.batch.job == id]:
            del self.lost[lease.id]

    # Holders

    def join(self, holder: LeaseHolder) -> None:
        """Add a holder."""
        self.holders[holder.id] = holder
        self.held[holder.id] = set()
        self.slots += holder.counts

    def leave(self, holder: LeaseHolder) -> None:
        """Take a holder out; what it has is waiting again at once."""
        if self.holders.pop(holder.id, None) is None:
            return
        self.slots -= holder.counts
        for id in sorted(self.held[holder.id], reverse=True):
            self._lose(self.leases[id])
        del self.held[holder.id]

    def forgive(self, group: str) -> None:
        """Forget which jobs a machine could not load, once none of its connections is left."""
        if not any(holder.group == group for holder in self.holders.values()):
            for job in self.jobs.values():
                job.refused.pop(group, None)

    # Giving out

    def wanted(
        self,
        holder: LeaseHolder,
        now: float,
        eligible: Callable[[Job], bool] | None = None,
        uncuttable: Callable[[Job], bool] | None = None,
    ) -> Batch | str | None:
        """What this holder should have next: a batch that came back, the id of a job to cut a
        fresh one from, or None."""
        if self.draining:
            return None
        for job in self.jobs.values():
            if not job.has_more or job.stopped is not None or holder.group in job.refused:
                continue
            if eligible is not None and not eligible(job):
                continue
            batch = job.pop(now)
            if batch is not None:
                return batch
            if uncuttable is not None and uncuttable(job):
                continue
            if job.unbatched and self.has_room(job):
                return job.id
        return None

    @property
    def has_more(self) -> bool:
        """Whether there may be something to lease for somebody."""
        for job in self.jobs.values():  # noqa: SIM110  # twice as fast as any(), and often asked
            if job.unbatched or job.waiting or job.delayed:
                return True
        return False

    def due(self) -> float | None:
        """When the next delayed batch is due."""
        times = [job.delayed[0][0] for job in self.jobs.values() if job.delayed]
        return min(times, default=None)

    def cut(self, id: str, most: int | None = None) -> tuple[int, int]:
        """Set a batch of a job's next inputs apart, `most` at the most; returns the first one's
        index and how many."""
        job = self.jobs[id]
        if job.unbatched == 1:  # a single call, say, which should be quick
            return self.take(id, 1)
        size = job.sizer.size(job.remaining, self.slots, self._room(job))
        return self.take(id, min(size, most or job.unbatched))

    def take(self, id: str, count: int) -> tuple[int, int]:
        """Set `count` of a job's next inputs apart, or as many as there are."""
        job = self.jobs[id]
        count = min(count, job.unbatched)
        start = job.next
        job.next += count
        job.unbatched -= count
        job.out += count
        return start, count

    def grant(self, holder: LeaseHolder, batch: Batch, now: float) -> Lease | None:
        """Lease a batch to a holder; None if its job has ended meanwhile."""
        job = self.jobs.get(batch.job)
        if job is None or job.stopped is not None:
            return None
        attempt = job.attempts(batch)
        weight = RECORD_BYTES + max(len(batch.blob), int(batch.count * job.sizer.nbytes))
        lease = Lease(
            next(self._lease_ids),
            holder,
            batch,
            now,
            attempt,
            batch.start,
            batch.stop,
            given=now,
            weight=weight,
        )
        self.leases[lease.id] = lease
        self.held[holder.id].add(lease.id)
        job.leases += 1
        job.held += weight
        return lease

    def put_back(self, batch: Batch) -> None:
        """Let a batch that was not leased after all wait in front."""
        job = self.jobs.get(batch.job)
        if job is not None and job.stopped is None:
            job.waiting.appendleft(batch)

    def record(self, batch: Batch, outcome: Outcome, worker: str) -> list[Recorded]:
        """Record the outcome of tasks that were cut and never leased."""
        return self._record(self.jobs[batch.job], batch, outcome, worker)

    # Taking in

    def report(self, holder: LeaseHolder, report: Report, now: float) -> list[Recorded]:
        """Take in outcomes.

        Raises:
            ProtocolError: the report does not fit the lease it names.
        """
        lease = self.leases.get(report.lease)
        if lease is None:
            return self._report_late(report, now)
        if lease.holder is not holder:
            raise ProtocolError("a report on somebody else's lease")
        count = report.count
        if report.first != lease.next or count + report.handed_back > lease.stop - lease.next:
            raise ProtocolError("a report that does not fit its lease")
        job = self.jobs[lease.batch.job]
        if report.handed_back:
            self._hand_back(job, lease, report.handed_back)
        recorded: list[Recorded] = []
        for outcome in report.outcomes:
            batch = lease.batch.part(lease.next, lease.next + outcome.count)
            lease.next += outcome.count
            recorded += self._take(job, batch, outcome, holder.name, now)
        if count:
            self._measure(job.sizer, lease, report, count, now)
        if lease.next == lease.stop:
            self._forget(lease)
        return recorded

    def _measure(
        self, sizer: BatchSizer, lease: Lease, report: Report, count: int, now: float
    ) -> None:
        nbytes = sum(len(done.blob) for done in report.outcomes if isinstance(done, Done))
        busy = min(report.busy, now - lease.given)  # it may say what it likes
        if lease.next < lease.stop:
            sizer.part(count, busy, nbytes)
        else:
            # What was reported on the way was handed over while the worker went on.
            elapsed = now - lease.given - lease.busy
            sizer.observe(count, busy, elapsed, nbytes)
        lease.granted = now
        lease.busy += busy

    def refuse(self, holder: LeaseHolder, lease_id: int, reason: str) -> bool:
        """Take a lease back, uncharged, whose task this holder's machine cannot load; whether
        that is news."""
        lease = self.leases.get(lease_id)
        if lease is None or lease.holder is not holder:
            return False
        job = self.jobs[lease.batch.job]
        known = holder.group in job.refused
        job.refused[holder.group] = reason
        self._hand_back(job, lease, lease.stop - lease.next)
        self._forget(lease)
        return not known

    def settle(self, lease_id: int) -> None:
        """End a lease without an outcome: a plain client has taken the item over."""
        lease = self.leases.get(lease_id)
        if lease is None:
            return
        job = self.jobs[lease.batch.job]
        rest = lease.rest()
        # A copy of a loose task may have been recorded meanwhile.
        job.out -= sum(run.count for run in job.open(rest)) if rest.loose else rest.count
        job.loose.difference_update(range(rest.start, rest.stop))
        self._forget(lease)

    def died(
        self, lease_id: int, index: int, detail: str, now: float, *, span: int = 1
    ) -> list[Recorded]:
        """Charge the task that a worker process was in when it died; where it is one of `span`
        suspects from `index` on, none yet, and let each of them wait by itself."""
        if span > 1:
            self._suspect(lease_id, index, index + span)
            return []
        found = self._accuse(lease_id, index)
        if found is None:
            return []
        job, batch, name = found
        job.counts.deaths += 1
        job.deaths[index] = job.deaths.get(index, 0) + 1 + job.maybes.pop(index, 0)
        if job.deaths[index] < job.rules.max_deaths:
            return []
        failure = Failure(
            "WorkerDied", f"its worker process died {_times(job.deaths[index])}: {detail}"
        )
        job.deaths[index] -= 1  # `attempts` counts the one being recorded
        return self._record(job, batch, Failed(failure), name)

    def timed_out(self, lease_id: int, index: int, now: float) -> list[Recorded]:
        """Charge a task that ran out of time; the rest of its batch waits again."""
        found = self._accuse(lease_id, index)
        if found is None:
            return []
        job, batch, name = found
        limit = job.rules.timeout or 0.0
        failed = Failed(Failure("TimeoutError", f"ran longer than {limit:g} s"), seconds=limit)
        return self._take(job, batch, failed, name, now, waiting=True)

    def expire(self, now: float) -> list[Recorded]:
        """Take back leases whose supervisor should have ended them long ago."""
        recorded: list[Recorded] = []
        for lease in list(self.leases.values()):
            timeout = self.jobs[lease.batch.job].rules.timeout
            if timeout is None or not lease.holder.counts:
                continue
            count = lease.stop - lease.next
            if now - lease.granted > timeout * count + GRACE:
                if count == 1:
                    recorded += self.timed_out(lease.id, lease.next, now)
                else:
                    self._lose(lease)
        return recorded

    # Inside

    def has_room(self, job: Job) -> bool:
        """Whether the window lets a fresh batch out: always two for each slot, and beyond that as
        long as inputs out and results unread stay under the window."""
        return job.held < job.rules.window or job.leases + job.unread < 2 * max(self.slots, 1)

    def _room(self, job: Job) -> float:
        """Bytes that the next batch may have: what the window has left, so that it holds however
        many slots on slow links ask for large ones; or a slot's share of it."""
        share = job.rules.window / max(self.slots, 1)
        return min(max(job.rules.window - job.held, share), SHARES * share)

    def _forget(self, lease: Lease) -> None:
        del self.leases[lease.id]
        held = self.held.get(lease.holder.id)
        if held is not None:
            held.discard(lease.id)
        job = self.jobs.get(lease.batch.job)
        if job is not None:
            job.leases -= 1
            job.held -= lease.weight

    def _hand_back(self, job: Job, lease: Lease, count: int) -> None:
        """Tasks at a lease's end that were not started: nobody else can have them."""
        batch = lease.batch.part(lease.stop - count, lease.stop)
        lease.stop -= count
        if count and job.stopped is None:
            job.waiting.appendleft(batch)

    def _lose(self, lease: Lease) -> None:
        """A lease whose holder has gone: its tasks are loose and wait, in pieces."""
        self._forget(lease)
        job = self.jobs[lease.batch.job]
        if lease.next == lease.stop or job.stopped is not None:
            return
        rest = lease.rest()
        if not rest.loose:
            job.loose.update(range(rest.start, rest.stop))
        self._remember(lease)
        self._wait(job, rest, lease.suspect)

    def _remember(self, lease: Lease) -> None:
        """Keep a lost lease for late reports, and forget those that nobody can need."""
        self.lost[lease.id] = lease
        if len(self.lost) % 256 == 0:
            for old in list(self.lost.values()):
                loose = self.jobs[old.batch.job].loose
                if loose.isdisjoint(range(old.next, old.stop)):
                    del self.lost[old.id]

    def _wait(self, job: Job, rest: Batch, suspect: int | None) -> None:
        """Let tasks wait in front in pieces, a suspect by itself."""
        size = -(-rest.count // PIECES)
        cuts = set(range(rest.start, rest.stop, size)) | {rest.stop}
        if suspect is not None:
            cuts |= {suspect, suspect + 1}
        edges = sorted(cut for cut in cuts if rest.start <= cut <= rest.stop)
        pieces = [rest.part(a, b, loose=True) for a, b in itertools.pairwise(edges)]
        job.waiting.extendleft(reversed(pieces))

    def _accuse(self, lease_id: int, index: int) -> tuple[Job, Batch, str] | None:
        """The task that a supervisor names, if it is still open and not charged for this lease."""
        lease = self.leases.get(lease_id) or self.lost.get(lease_id)
        if lease is None or not lease.next <= index < lease.stop:
            return None
        job = self.jobs[lease.batch.job]
        if lease.id in self.leases:
            lease.suspect = index
            self._lose(lease)
        if lease.charged or index not in job.loose:
            return None
        lease.charged = True
        self._isolate(job, index)
        return job, lease.batch.part(index, index + 1, loose=True), lease.holder.name

    def _suspect(self, lease_id: int, start: int, stop: int) -> None:
        lease = self.leases.get(lease_id) or self.lost.get(lease_id)
        if lease is None or lease.charged:
            return
        if lease.id in self.leases:
            self._lose(lease)
        lease.charged = True
        if stop - start > SUSPECTS:
            return  # the pieces that it comes back in will show in which one it is
        job = self.jobs[lease.batch.job]
        for index in range(max(start, lease.next), min(stop, lease.stop)):
            if index in job.loose:
                job.maybes[index] = job.maybes.get(index, 0) + 1
                self._isolate(job, index)

    def _isolate(self, job: Job, index: int) -> None:
        """Make a waiting task wait by itself."""
        for place, batch in enumerate(job.waiting):
            if batch.start <= index < batch.stop and batch.count > 1:
                del job.waiting[place]
                edges = (batch.start, index, index + 1, batch.stop)
                for a, b in itertools.pairwise(edges):
                    if a < b:
                        job.waiting.insert(place, batch.part(a, b))
                        place += 1
                return

    def _report_late(self, report: Report, now: float) -> list[Recorded]:
        """Outcomes for a lease that was lost, from a holder that came back. It may say the same
        again, if the answer was lost: what was taken in counts once."""
        lease = self.lost.get(report.lease)
        if lease is None:
            return []
        first, count = report.first, report.count
        if not lease.batch.start <= first <= first + count <= lease.batch.stop:
            raise ProtocolError("a report that does not fit its lease")
        job = self.jobs[lease.batch.job]
        recorded: list[Recorded] = []
        for outcome in report.outcomes:
            batch = lease.batch.part(first, first + outcome.count, loose=True)
            first = batch.stop
            if first > lease.next:
                lease.next = first
                recorded += self._take(job, batch, outcome, lease.holder.name, now, waiting=True)
        return recorded

    def _take(
        self,
        job: Job,
        batch: Batch,
        outcome: Outcome,
        worker: str,
        now: float,
        waiting: bool = False,
    ) -> list[Recorded]:
        """Record an outcome, or let its task wait for another attempt. `waiting` says that a copy
        of the task waits already."""
        if batch.loose and not self._is_first(job, batch, waiting):
            return []
        if isinstance(outcome, Failed) and self._may_retry(job, batch.start, outcome):
            job.fails[batch.start] = job.fails.get(batch.start, 0) + 1
            if waiting and job.rules.retry_delay > 0:
                self._remove(job, batch.start)
                waiting = False
            if not waiting and job.stopped is None:
                job.push(batch, now, job.rules.retry_delay)
            return []
        return self._record(job, batch, outcome, worker)

    def _is_first(self, job: Job, batch: Batch, waiting: bool) -> bool:
        """Whether none of these tasks has an outcome. A blob cannot be taken in part: where only
        some have one, the others wait again."""
        runs = list(job.open(batch))
        if runs == [batch]:
            return True
        job.counts.dropped += batch.count
        if not waiting and job.stopped is None:
            job.waiting.extendleft(reversed(runs))
        return False

    def _remove(self, job: Job, index: int) -> None:
        self._isolate(job, index)
        for place, batch in enumerate(job.waiting):
            if batch.start == index and batch.count == 1:
                del job.waiting[place]
                return

    def _may_retry(self, job: Job, index: int, failed: Failed) -> bool:
        # In a job that was stopped too: with attempts left it is not done, another run has them.
        if not failed.retry or self.draining:
            return False
        return job.fails.get(index, 0) < job.rules.retries

    def _record(self, job: Job, batch: Batch, outcome: Outcome, worker: str) -> list[Recorded]:
        if batch.loose:
            job.loose.difference_update(range(batch.start, batch.stop))
        recorded = Recorded(batch, outcome, job.attempts(batch), worker)
        job.out -= batch.count
        job.unread += 1
        job.held += recorded.nbytes
        if isinstance(outcome, Failed):
            if not outcome.is_unreadable:  # that ends the run, or is skipped
                job.counts.failed += 1
                self._check_failures(job)
        else:
            job.counts.done += batch.count
        return [recorded]

    def _check_failures(self, job: Job) -> None:
        most = job.rules.max_failures
        if most is not None and job.counts.failed >= most:
            self.stop(job.id, f"{job.counts.failed} task(s) failed")


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
