"""The board: who has which task, through every order of events."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass, field, replace
from random import Random
from typing import ClassVar, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from dq.core.board import Board
from dq.core.charging import EXPIRY_GRACE_S
from dq.core.jobs import Job, Rules
from dq.core.leases import Lease, LeaseHolder, Report
from dq.core.records import RECORD_BYTES, Batch, Done, Failed, Failure, Outcome, Recorded
from dq.core.waiting import PIECES
from dq.errors import ProtocolError

FAILED = Failed(Failure("ValueError", "no"))
T = TypeVar("T")

OFTEN = ["lease"] * 8 + ["report"] * 6 + ["supply", "join", "leave", "report_late"] * 2
EVENTS = [
    *OFTEN,
    *["report_again", "report_what_does_not_fit", "charge", "charge", "expire", "consume"],
    *["ack", "refuse", "open_job", "drain", "stop", "close_job", "wait", "wait"],
    *["cancel", "cancel", "die_loading"],
]


# --- any order of events ---


@dataclass
class Task:
    """What the test knows of one task that was batched."""

    fails: int = 0
    deaths: int = 0
    redelivered: bool = False
    over: bool = False  # recorded, or acknowledged without a record


@dataclass
class Known:
    """What the test knows of one job."""

    job: Job
    skipped: set[int] = field(default_factory=set)
    tasks: list[Task] = field(default_factory=list)
    records: list[Recorded] = field(default_factory=list)
    read: int = 0
    failed: int = 0
    stopped: bool = False


@dataclass
class Taken:
    """A lease as its holder sees it; `lost` when it is no longer the holder's."""

    lease: Lease
    next: int
    stop: int
    lost: bool = False
    forgotten: bool = False
    charged: bool = False
    sent: list[Report] = field(default_factory=list)


class AnyOrder(RuleBasedStateMachine):
    """A board, and a model of what every task's state must be."""

    events: ClassVar[list[str]] = EVENTS

    def __init__(self) -> None:
        super().__init__()
        self.board = Board(iter(range(1, 10**6)))
        self.now = 0.0
        self.known: dict[str, Known] = {}
        self.taken: dict[int, Taken] = {}
        self.holders: list[LeaseHolder] = []
        self.ids = itertools.count(1)

    def pick(self, things: list[T]) -> T:
        return self.random.choice(things)

    def live(self) -> list[Taken]:
        return [t for t in self.taken.values() if not t.lost and not t.forgotten]

    def lost(self) -> list[Taken]:
        """Leases that were lost with something left to report."""
        return [t for t in self.taken.values() if t.lost and t.next < t.stop]

    def reported(self) -> list[Taken]:
        """Leases that are over, and of which something was reported."""
        return [t for t in self.taken.values() if t.sent and (t.lost or t.forgotten)]

    # Jobs

    @initialize(seed=st.integers(0, 2**64))
    def begin(self, seed: int) -> None:
        self.random = Random(seed)
        self.open_job()
        self.join()

    # One rule, and a generator of its own: left to choose, hypothesis prefers what it has seen, so
    # that in 200 runs hardly a lease is lost. So a failing run shrinks, quickly, to its beginning.
    @rule()
    def happens(self) -> None:
        can = {
            "open_job": len(self.known) < 2,
            "supply": self.known,
            "stop": self.known,
            "close_job": self.known,
            "consume": self.known,
            "join": len(self.holders) < 4,
            "leave": self.holders,
            "lease": self.holders,
            "report": self.live(),
            "report_late": self.lost(),
            "report_again": self.reported(),
            "report_what_does_not_fit": self.live(),
            "charge": self.taken,
            "refuse": self.live(),
            "die_loading": self.live(),
            "ack": self.live(),
            "cancel": self.known,
        }
        what = self.pick([event for event in self.events if can.get(event, True)])
        getattr(self, what)()

    def open_job(self) -> None:
        pick = self.pick
        kind = Rules(
            retries=pick([0, 1, 2]),
            retry_delay=pick([0.0, 5.0]),
            timeout=pick([None, 10.0]),
            max_deaths=pick([1, 2, 3]),
            max_failures=pick([None, None, 3]),
            batch=pick([None, 1, 4, 40, 90]),
            window=pick([1, 2**20, 2**20]),
            rate=pick([None, None, None, 2.0, 1000.0]),
            needs=frozenset(pick(["", "", "", "g"])),
            priority=pick([0, 0, 1]),
        )
        self.open(kind, self.random.randint(0, 99))

    def open(self, kind: Rules, count: int) -> None:
        id = f"job {next(self.ids)}"
        edges = sorted(self.random.sample(range(150), self.pick([0, 0, 2, 8])))
        skips = list(zip(edges[::2], edges[1::2], strict=True))
        skipped = {index for start, stop in skips for index in range(start, stop)}
        self.known[id] = Known(self.board.open_job(id, kind, skips), skipped)
        self.board.supply(id, count)

    def supply(self) -> None:
        count = self.random.randint(1, 20)
        end = self.pick([False, True])
        id = self.pick(list(self.known))
        if not self.known[id].job.ended:
            self.board.supply(id, count)
        if end:
            self.board.end(id)

    def stop(self) -> None:
        id = self.pick(list(self.known))
        self.board.stop(id, "asked to")
        self.known[id].stopped = True

    def close_job(self) -> None:
        id = self.pick(list(self.known))
        self.board.close_job(id)
        del self.known[id]
        for taken in self.taken.values():
            taken.forgotten |= taken.lease.batch.job == id

    def consume(self) -> None:
        known = self.known[self.pick(list(self.known))]
        self.read(known, self.random.randint(0, len(known.records) - known.read))

    def read(self, known: Known, count: int) -> None:
        records = known.records[known.read : known.read + count]
        known.read += count
        self.board.consumed(known.job.id, count, sum(record.nbytes for record in records))

    # Holders

    def join(self) -> None:
        counts = self.pick([False, True])
        group = self.pick(["red", "blue", "green"])
        id = next(self.ids)
        tags = frozenset(self.pick(["", "g"]))
        holder = LeaseHolder(id, group, f"host:{id}", counts, tags)
        self.holders.append(holder)
        self.board.join(holder)

    def leave(self) -> None:
        self.let_go(self.pick(self.holders))

    def let_go(self, holder: LeaseHolder) -> None:
        self.holders.remove(holder)
        self.board.leave(holder)
        for taken in self.live():
            if taken.lease.holder is holder:
                self.lose(taken)

    def lose(self, taken: Taken) -> None:
        known = self.known[taken.lease.batch.job]
        if known.stopped:
            taken.forgotten = True
            return
        taken.lost = True
        for index in range(taken.next, taken.stop):
            task = known.tasks[index]
            task.redelivered = not task.over

    # Giving out

    def lease(self) -> None:
        most = self.pick([None, None, 1, 3])
        holder = self.pick(self.holders)
        wanted = self.board.wanted(holder, self.now)
        if wanted is None:
            return
        if isinstance(wanted, str):
            wanted = self.take_batch(wanted, most)
        elif most is not None and wanted.count > most:
            self.board.put_back(wanted.part(wanted.start + most, wanted.stop))
            wanted = wanted.part(wanted.start, wanted.start + most)
        if wanted is None:
            return
        assert self.known[wanted.job].job.rules.needs <= holder.tags
        if wanted.redelivered and wanted.start in self.known[wanted.job].job.copies:
            self.known[wanted.job].tasks[wanted.start].redelivered = True
        if self.random.randint(0, 19) == 0:
            self.board.stop(wanted.job, "meanwhile")
            self.known[wanted.job].stopped = True
        self.grant(holder, wanted)

    def take_batch(self, id: str, most: int | None) -> Batch | None:
        """Take a new batch, whose first task cannot be encoded now and then."""
        known = self.known[id]
        start, count = self.board.take_batch(id, most)
        self.begin_tasks(known, start, count)
        known.job.pass_cancelled()
        batch = Batch(id, start, count, b"x" * count)
        if self.random.randint(0, 9) == 0:
            failed = replace(FAILED, retry=False)
            first = batch.part(start, start + 1)
            expected = self.settle_outcome(known, first, failed, late=False)
            self.check(self.board.record(first, failed, ""), expected)
            if count > 1:
                self.board.put_back(batch.part(start + 1, batch.stop))
            if known.stopped:
                return None
            return self.board.take_waiting(id, self.now)
        return batch

    def begin_tasks(self, known: Known, start: int, count: int) -> None:
        assert known.skipped.issuperset(range(len(known.tasks), start))
        assert known.skipped.isdisjoint(range(start, start + count))
        assert count >= 1
        known.tasks += [Task(over=True) for _ in range(len(known.tasks), start)]
        known.tasks += [Task() for _ in range(count)]

    def grant(self, holder: LeaseHolder, batch: Batch) -> Taken | None:
        known = self.known[batch.job]
        lease = self.board.grant(holder, batch, self.now)
        if known.stopped:
            assert lease is None
            return None
        assert lease is not None
        tasks = known.tasks[batch.start : batch.stop]
        assert not any(task.over for task in tasks)
        assert lease.attempt == max(1 + task.fails + task.deaths for task in tasks)
        taken = self.taken[lease.id] = Taken(lease, batch.start, batch.stop)
        return taken

    # Outcomes

    def report(self) -> None:
        taken = self.pick(self.live())
        count = self.random.randint(0, taken.stop - taken.next)
        handed = self.random.randint(0, taken.stop - taken.next - count)
        report = Report(taken.lease.id, taken.next, self.outcomes(count), handed, 0.01)
        self.send(taken, report)

    def outcomes(self, count: int) -> tuple[Outcome, ...]:
        outcomes: list[Outcome] = []
        while count:
            size = self.random.randint(0, count)
            retry = self.pick([False, True]) if not size else True
            outcomes.append(Done(size, b"y" * size) if size else replace(FAILED, retry=retry))
            count -= size or 1
        return tuple(outcomes)

    def send(self, taken: Taken, report: Report) -> None:
        taken.sent.append(report)
        known = self.known.get(taken.lease.batch.job)
        holder, now = taken.lease.holder, self.now
        expected: list[Recorded] = []
        if known is not None and not taken.forgotten:
            expected = self.foresee(known, taken, report)
        self.check(self.board.report(holder, report, now), expected)

    def foresee(self, known: Known, taken: Taken, report: Report) -> list[Recorded]:
        """What must come to be on record by a report."""
        expected: list[Recorded] = []
        first = report.first
        for outcome in report.outcomes:
            batch = taken.lease.batch.part(first, first + outcome.count)
            first += outcome.count
            if taken.lost and first <= taken.next:
                continue  # a repetition
            expected += self.settle_outcome(known, batch, outcome, late=taken.lost)
        taken.next = max(taken.next, first)
        if not taken.lost:
            taken.stop -= report.handed_back
            taken.forgotten = taken.next == taken.stop
        return expected

    def settle_outcome(
        self, known: Known, batch: Batch, outcome: Outcome, late: bool
    ) -> list[Recorded]:
        tasks = known.tasks[batch.start : batch.stop]
        if (late or batch.redelivered) and not all(task.redelivered for task in tasks):
            return []
        rules = known.job.rules
        assert not any(task.over for task in tasks)
        if isinstance(outcome, Failed):
            allowed = outcome.retry and not self.board.draining
            if allowed and tasks[0].fails < rules.retries:
                tasks[0].fails += 1
                return []
        return [self.foresee_record(known, batch, outcome)]

    def foresee_record(self, known: Known, batch: Batch, outcome: Outcome) -> Recorded:
        tasks = known.tasks[batch.start : batch.stop]
        for task in tasks:
            task.over, task.redelivered = True, False
        if isinstance(outcome, Failed):
            known.failed += 1
            most = known.job.rules.max_failures
            known.stopped |= most is not None and known.failed >= most
        return Recorded(batch, outcome, max(1 + task.fails + task.deaths for task in tasks), "")

    def check(self, recorded: list[Recorded], expected: list[Recorded]) -> None:
        def essence(record: Recorded) -> object:
            kind = type(record.outcome)
            return (record.batch.job, record.batch.start, record.batch.count, kind, record.attempts)

        assert [essence(record) for record in recorded] == [essence(one) for one in expected]
        for record in recorded:
            self.known[record.batch.job].records.append(record)

    def report_late(self) -> None:
        taken = self.pick(self.lost())
        count = self.random.randint(1, taken.stop - taken.next)
        self.send(taken, Report(taken.lease.id, taken.next, self.outcomes(count)))

    def report_again(self) -> None:
        taken = self.pick(self.reported())
        self.send(taken, self.pick(taken.sent))

    def report_what_does_not_fit(self) -> None:
        off = self.pick([-1, 1])
        surplus = self.random.randint(1, 3)
        taken = self.pick(self.live())
        lease, rest = taken.lease, taken.stop - taken.next
        stranger = replace(lease.holder, name="stranger")
        for holder, report in [
            (lease.holder, Report(lease.id, taken.next + off, (FAILED,))),
            (lease.holder, Report(lease.id, taken.next, (Done(rest + surplus, b""),))),
            (lease.holder, Report(lease.id, taken.next, (FAILED,), rest)),
            (stranger, Report(lease.id, taken.next, (FAILED,))),
        ]:
            with pytest.raises(ProtocolError):
                self.board.report(holder, report, self.now)

    # What goes wrong

    def charge(self) -> None:
        timeout = self.pick([False, True])
        taken = self.pick(list(self.taken.values()))
        batch = taken.lease.batch
        index = self.random.randint(max(batch.start - 1, 0), batch.stop)
        if timeout:
            recorded = self.board.timed_out(taken.lease.id, index, self.now)
        else:
            recorded = self.board.died(taken.lease.id, index, "signal 9", self.now)
        self.check(recorded, self.foresee_charge(taken, index, timeout))

    def die_loading(self) -> None:
        taken = self.pick(self.live())
        group = taken.lease.holder.group
        self.board.charging.died_loading(group, taken.lease.id, "signal 9")
        self.lose(taken)
        taken.charged = True

    def foresee_charge(self, taken: Taken, index: int, timeout: bool) -> list[Recorded]:
        if taken.forgotten or not taken.next <= index < taken.stop:
            return []
        if not taken.lost:
            self.lose(taken)
        known = self.known[taken.lease.batch.job]
        task = known.tasks[index]
        if taken.charged or not task.redelivered:
            return []
        taken.charged = True
        batch = taken.lease.batch.part(index, index + 1)
        if timeout:
            return self.settle_outcome(known, batch, FAILED, late=True)
        if task.deaths + 1 < known.job.rules.max_deaths:
            task.deaths += 1
            return []
        return [self.foresee_record(known, batch, FAILED)]

    def expire(self) -> None:
        seconds = self.pick([0.0, 1.0, 5.0, 30.0, 1000.0])
        self.now += seconds
        expected: list[Recorded] = []
        for taken in self.live():
            timeout = self.known[taken.lease.batch.job].job.rules.timeout
            count = taken.stop - taken.next
            if timeout is None or not taken.lease.holder.is_slot:
                continue
            if self.now - taken.lease.granted > timeout * count + EXPIRY_GRACE_S:
                if count > 1:
                    self.lose(taken)
                else:
                    expected += self.foresee_charge(taken, taken.next, True)
        self.check(self.board.expire(self.now), expected)

    def wait(self) -> None:
        self.now += 1.0

    def refuse(self) -> None:
        taken = self.pick(self.live())
        self.board.reject(taken.lease.holder, taken.lease.id, "no such module")
        taken.forgotten = True
        group = taken.lease.holder.group
        assert self.known[taken.lease.batch.job].job.rejected[group] == "no such module"

    def ack(self) -> None:
        taken = self.pick(self.live())
        self.board.ack(taken.lease.id, self.now)
        taken.forgotten = True
        for task in self.known[taken.lease.batch.job].tasks[taken.next : taken.stop]:
            task.over, task.redelivered = True, False

    def cancel(self) -> None:
        known = self.known[self.pick(list(self.known))]
        index = self.random.randint(0, known.job.next + 5)
        is_unbatched = known.job.is_unbatched(index) and not known.stopped
        is_open = is_unbatched or self.is_open(known, index)
        record, leases = self.board.cancel(known.job.id, index, b"")
        known.job.pass_cancelled()
        assert (record is not None) == is_open
        if record is not None:
            assert record.batch.start == index
            assert record.batch.count == 1
            known.records.append(record)
        if is_unbatched:
            known.skipped.add(index)
        elif record is not None:
            self.settle_cancelled(known, index, leases)

    def is_open(self, known: Known, index: int) -> bool:
        """Whether a task that was batched has no outcome, and may still get one."""
        if index >= len(known.tasks) or known.tasks[index].over:
            return False
        places = self.batches(known.job)
        lost = [lease for lease in self.board.lost.values() if lease.batch.job == known.job.id]
        places += [lease.rest() for lease in lost if lease.next < lease.stop]
        return any(batch.start <= index < batch.stop for batch in places)

    def settle_cancelled(self, known: Known, index: int, leases: list[Lease]) -> None:
        task = known.tasks[index]
        for lease in leases if not task.redelivered else ():
            for one in known.tasks[lease.next : lease.stop]:
                one.redelivered = True
        task.over, task.redelivered = True, False

    def drain(self) -> None:
        drain = self.pick([False, False, True])
        self.board.draining = drain

    # What is always so

    @invariant()
    def every_task_is_somewhere_and_twice_only_if_redelivered(self) -> None:
        for known in self.known.values():
            places: Counter[int] = Counter()
            for batch in self.batches(known.job):
                indices = range(batch.start, batch.stop)
                places.update(indices)
                tasks = known.tasks[batch.start : batch.stop]
                assert batch.redelivered or not any(task.over or task.redelivered for task in tasks)
            for index, task in enumerate(known.tasks):
                assert known.stopped or task.over or places[index] >= 1
                assert task.over or task.redelivered or places[index] <= 1

    def batches(self, job: Job) -> list[Batch]:
        """Everything that waits or is out."""
        leases = [lease for lease in self.board.leases.values() if lease.batch.job == job.id]
        aside = [batch for _, _, batch in job.waiting.delayed]
        return [*job.waiting.batches, *aside, *(lease.rest() for lease in leases)]

    @invariant()
    def every_task_has_at_most_one_record(self) -> None:
        for known in self.known.values():
            spans = [(record.batch.start, record.batch.stop) for record in known.records]
            recorded = Counter(itertools.chain.from_iterable(range(*span) for span in spans))
            assert all(count == 1 for count in recorded.values())
            assert all(task.over for i, task in enumerate(known.tasks) if i in recorded)
            assert all(i < len(known.tasks) or i in known.skipped for i in recorded)

    @invariant()
    def nobody_is_charged_for_another(self) -> None:
        for known in self.known.values():
            fails = {i: task.fails for i, task in enumerate(known.tasks) if task.fails}
            deaths = {i: task.deaths for i, task in enumerate(known.tasks) if task.deaths}
            assert {i: count for i, count in known.job.fails.items() if count} == fails
            assert {i: count for i, count in known.job.deaths.items() if count} == deaths

    @invariant()
    def the_counters_say_what_is_so(self) -> None:
        for known in self.known.values():
            job, unread = known.job, known.records[known.read :]
            leases = [lease for lease in self.board.leases.values() if lease.batch.job == job.id]
            assert job.leases == len(leases)
            assert job.outstanding == sum(not task.over for task in known.tasks)
            assert job.unread == len(unread)
            assert all(lease.weight >= len(lease.batch.blob) + RECORD_BYTES for lease in leases)
            out = sum(lease.weight for lease in leases)
            assert job.held_bytes == out + sum(record.nbytes for record in unread)
            assert job.waiting.redelivered == {
                i for i, task in enumerate(known.tasks) if task.redelivered
            }
            copies = Counter(lease.copy_of for lease in leases if lease.copy_of is not None)
            assert +Counter(job.copies) == Counter(
                {i: count for i, count in copies.items() if not known.tasks[i].over}
            )
            superseded = [i for i in copies.elements() if known.tasks[i].over]
            assert job.superseded == len(superseded)
            assert max(copies.values(), default=0) <= 2

    @invariant()
    def a_job_is_finished_when_nothing_can_happen(self) -> None:
        for known in self.known.values():
            job = known.job
            assert (job.stopped is not None) == known.stopped
            over = job.ended and not job.unbatched and all(task.over for task in known.tasks)
            assert job.finished == (job.leases == job.superseded if known.stopped else over)

    @invariant()
    def leases_and_slots_are_those_of_the_holders(self) -> None:
        live = {taken.lease.id for taken in self.live()}
        assert set(self.board.leases) == live
        assert set().union(*self.board.held.values()) == live
        assert self.board.slots == sum(holder.is_slot for holder in self.holders)

    def teardown(self) -> None:
        """Whatever has happened, one worker that goes on ends every job."""
        self.board.draining = False
        for holder in list(self.holders):
            self.let_go(holder)
        last = LeaseHolder(next(self.ids), "last", "host:last", tags=frozenset("g"))
        self.board.join(last)
        for id in self.known:
            self.board.end(id)
        for _ in range(2000):
            self.now += 10
            for known in self.known.values():
                self.read(known, len(known.records) - known.read)
            wanted = self.board.wanted(last, self.now)
            if wanted is None:
                break
            self.do(last, wanted)
        for known in self.known.values():
            job = known.job
            assert job.finished
            assert job.leases == job.held_bytes == job.unread == 0
            assert known.stopped or job.outstanding == 0
            assert known.stopped or not job.waiting.redelivered
            assert known.stopped or not self.board.due()

    def do(self, last: LeaseHolder, wanted: Batch | str) -> None:
        if isinstance(wanted, str):
            start, count = self.board.take_batch(wanted)
            self.begin_tasks(self.known[wanted], start, count)
            self.known[wanted].job.pass_cancelled()
            wanted = Batch(wanted, start, count, b"x" * count)
        taken = self.grant(last, wanted)
        assert taken is not None
        self.send(taken, Report(taken.lease.id, taken.next, (Done(wanted.count, b"y"),), 0, 0.01))


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=150, stateful_step_count=60)


class SlowTasks(AnyOrder):
    """The same for a job whose last tasks are slow, so that they are leased twice."""

    events: ClassVar[list[str]] = [
        *["lease"] * 4 + ["wait"] * 3 + ["report"] * 2 + ["join", "leave", "report_late"],
        *["report_again", "charge", "expire", "refuse", "stop", "close_job"],
    ]

    @initialize(seed=st.integers(0, 2**64))
    def begin(self, seed: int) -> None:
        self.random = Random(seed)
        self.open_job()
        for _ in range(4):
            self.join()
        for _ in range(3):
            self.take_and_report()
        for _ in range(2):
            self.lease()

    def open_job(self) -> None:
        pick = self.pick
        kind = Rules(
            retries=pick([0, 1, 2]),
            retry_delay=pick([0.0, 0.0, 5.0]),
            timeout=pick([None, 10.0]),
            max_deaths=pick([1, 2]),
            max_failures=pick([None, None, 1]),
            batch=1,
            speculate=True,
        )
        self.open(kind, 5)

    def join(self) -> None:
        id = next(self.ids)
        self.holders.append(LeaseHolder(id, f"group {id}", f"host:{id}"))
        self.board.join(self.holders[-1])

    def take_and_report(self) -> None:
        self.lease()
        for taken in self.live():
            self.send(taken, Report(taken.lease.id, taken.next, (Done(1, b"y"),), 0, 0.01))


TestSlowTasks = SlowTasks.TestCase
TestSlowTasks.settings = settings(max_examples=80, stateful_step_count=40)


# --- one claim each ---

ME = LeaseHolder(1, "here", "host:1")
OTHER = LeaseHolder(2, "there", "host:2")


def board_of(count: int, rules: Rules | None = None, *holders: LeaseHolder) -> tuple[Board, Job]:
    """A board with one job "j" of so many inputs, and who is there."""
    board = Board(iter(range(1, 10**6)))
    job = board.open_job("j", rules or Rules(batch=count))
    board.supply("j", count)
    board.end("j")
    for holder in holders or (ME, OTHER):
        board.join(holder)
    return board, job


def lease(board: Board, holder: LeaseHolder = ME, now: float = 0.0) -> Lease:
    """What a holder gets next."""
    wanted = board.wanted(holder, now)
    if isinstance(wanted, str):
        start, count = board.take_batch(wanted)
        wanted = Batch(wanted, start, count, b"in")
    assert wanted is not None
    granted = board.grant(holder, wanted, now)
    assert granted is not None
    return granted


def done(board: Board, lease: Lease, now: float = 0.0) -> list[Recorded]:
    report = Report(lease.id, lease.next, (Done(lease.stop - lease.next, b"out"),))
    return board.report(lease.holder, report, now)


def fail(board: Board, lease: Lease, now: float = 0.0, retry: bool = True) -> list[Recorded]:
    outcome = replace(FAILED, retry=retry)
    return board.report(lease.holder, Report(lease.id, lease.next, (outcome,)), now)


def test_a_whole_report_ends_the_lease_and_the_job() -> None:
    board, job = board_of(3)
    [record] = done(board, lease(board))
    assert (record.batch.start, record.batch.count, record.attempts) == (0, 3, 1)
    assert job.finished
    assert not board.leases


def test_a_partial_report_leaves_the_rest_leased() -> None:
    board, job = board_of(3)
    mine = lease(board)
    board.report(ME, Report(mine.id, 0, (Done(2, b""),)), 0.0)
    assert (mine.next, mine.stop) == (2, 3)
    assert job.outstanding == 1


def test_what_was_reported_on_the_way_does_not_count_as_handing_over() -> None:
    board, job = board_of(4, Rules(batch=4))
    mine = lease(board, now=0.0)
    board.report(ME, Report(mine.id, 0, (Done(2, b""),), busy=30.0), now=30.05)
    board.report(ME, Report(mine.id, 2, (Done(2, b""),), busy=30.0), now=60.05)
    assert job.sizer.seconds == pytest.approx(15.0)
    assert job.sizer.work == pytest.approx(20 * 0.05)


def test_a_tail_that_was_handed_back_goes_to_another() -> None:
    board, _ = board_of(4)
    mine = lease(board)
    board.report(ME, Report(mine.id, 0, (), handed_back=3), 0.0)
    theirs = lease(board, OTHER)
    assert (theirs.batch.start, theirs.batch.count, theirs.batch.skip) == (1, 3, 1)
    assert not theirs.batch.redelivered


def test_what_a_holder_has_waits_at_once_when_it_leaves() -> None:
    board, job = board_of(64)
    lease(board)
    board.leave(ME)
    assert sum(batch.count for batch in job.waiting.batches) == 64
    assert lease(board, OTHER).batch.start == 0


def test_a_lost_batch_comes_back_in_small_pieces() -> None:
    board, job = board_of(64)
    lease(board)
    board.leave(ME)
    assert [batch.count for batch in job.waiting.batches] == [64 // PIECES] * PIECES


def test_the_task_that_a_process_died_in_comes_back_alone() -> None:
    board, job = board_of(64)
    board.died(lease(board).id, 30, "signal 9", 0.0)
    assert (30, 1) in [(batch.start, batch.count) for batch in job.waiting.batches]
    assert job.deaths == {30: 1}


def test_a_death_that_is_told_of_late_still_isolates_its_task() -> None:
    board, job = board_of(64)
    mine = lease(board)
    board.leave(ME)
    board.died(mine.id, 30, "signal 9", 0.0)
    assert (30, 1) in [(batch.start, batch.count) for batch in job.waiting.batches]


def test_a_task_fails_as_worker_died_when_it_has_taken_three_processes() -> None:
    board, job = board_of(1)
    recorded = [board.died(lease(board).id, 0, "signal 9", 0.0) for _ in range(3)]
    [record] = recorded.pop()
    assert recorded == [[], []]
    assert isinstance(record.outcome, Failed)
    assert str(record.outcome.failure) == "WorkerDied: its worker process died 3 times: signal 9"
    assert record.attempts == 3
    assert job.finished


def test_one_lease_is_charged_for_one_death() -> None:
    board, job = board_of(4)
    mine = lease(board)
    for index in (1, 1, 2):
        board.died(mine.id, index, "signal 9", 0.0)
    assert job.deaths == {1: 1}


def test_a_holder_that_leaves_charges_nobody() -> None:
    board, job = board_of(4)
    lease(board)
    board.leave(ME)
    assert not job.deaths
    assert not job.fails


@pytest.mark.parametrize("late_first", [True, False])
def test_the_first_outcome_of_a_task_wins(late_first: bool) -> None:
    board, job = board_of(1)
    mine = lease(board)
    board.leave(ME)
    theirs = lease(board, OTHER)
    first, second = (mine, theirs) if late_first else (theirs, mine)
    reports = [Report(one.id, 0, (Done(1, b"out"),)) for one in (first, second)]
    [record] = board.report(first.holder, reports[0], 0.0)
    assert record.worker == first.holder.name
    assert board.report(second.holder, reports[1], 0.0) == []
    assert (job.counts.done, job.counts.dropped, job.finished) == (1, 1, True)


def test_an_outcome_that_is_reported_late_is_taken() -> None:
    board, job = board_of(8)
    mine = lease(board)
    board.leave(ME)
    [record] = board.report(ME, Report(mine.id, 0, (Done(8, b"out"),)), 0.0)
    assert record.batch.count == 8
    assert job.finished
    assert board.wanted(OTHER, 0.0) is None


def test_a_late_failure_counts_once_however_often_it_is_reported() -> None:
    board, job = board_of(1, Rules(retries=2))
    mine = lease(board)
    board.leave(ME)
    for _ in range(5):
        assert board.report(ME, Report(mine.id, 0, (FAILED,)), 0.0) == []
    assert job.fails == {0: 1}


def test_a_blob_of_which_one_task_is_recorded_is_dropped_and_the_others_wait_again() -> None:
    board, job = board_of(2 * PIECES)
    mine = lease(board)
    board.leave(ME)
    theirs = lease(board, OTHER)
    assert theirs.batch.count == 2
    board.report(ME, Report(mine.id, 0, (Done(1, b"late"),)), 0.0)
    assert done(board, theirs) == []
    again = lease(board, OTHER)
    assert (again.batch.start, again.batch.count) == (1, 1)
    assert job.outstanding == 2 * PIECES - 1


def test_a_report_after_the_job_was_closed_is_dropped() -> None:
    board, _ = board_of(1)
    mine = lease(board)
    board.close_job("j")
    assert board.report(ME, Report(mine.id, 0, (Done(1, b""),)), 0.0) == []
    assert not board.leases


def test_settling_an_item_that_was_recorded_meanwhile_counts_it_once() -> None:
    board, job = board_of(1)
    mine = lease(board)
    board.leave(ME)
    theirs = lease(board, OTHER)
    board.report(ME, Report(mine.id, 0, (Done(1, b"late"),)), 0.0)
    board.ack(theirs.id, 1.0)
    assert job.outstanding == 0


@pytest.mark.parametrize(
    "report",
    [
        Report(1, 1, (FAILED,)),
        Report(1, 0, (Done(4, b""),)),
        Report(1, 0, (Done(3, b""),), handed_back=1),
        Report(1, 0, (), handed_back=4),
    ],
)
def test_a_report_that_does_not_fit_its_lease_changes_nothing(report: Report) -> None:
    board, job = board_of(3)
    mine = lease(board)
    with pytest.raises(ProtocolError, match="does not fit"):
        board.report(ME, report, 0.0)
    assert (mine.next, mine.stop, job.outstanding, job.unread) == (0, 3, 3, 0)


def test_a_report_on_somebody_elses_lease_is_refused() -> None:
    board, _ = board_of(1)
    mine = lease(board)
    with pytest.raises(ProtocolError, match="somebody else"):
        board.report(OTHER, Report(mine.id, 0, (Done(1, b""),)), 0.0)


def test_a_failed_task_is_tried_again_and_its_attempts_counted() -> None:
    board, _ = board_of(1, Rules(retries=2))
    assert [fail(board, lease(board)) for _ in range(2)] == [[], []]
    [record] = fail(board, lease(board))
    assert record.attempts == 3


def test_a_failure_that_cannot_go_better_is_not_tried_again() -> None:
    board, job = board_of(1, Rules(retries=2))
    [record] = fail(board, lease(board), retry=False)
    assert record.attempts == 1
    assert job.finished


def test_a_retry_waits_for_its_delay() -> None:
    board, _ = board_of(1, Rules(retries=1, retry_delay=5))
    fail(board, lease(board), now=10.0)
    assert board.due() == 15.0
    assert board.wanted(ME, 14.9) is None
    assert lease(board, now=15.0).attempt == 2


def test_a_timed_out_task_is_charged_and_the_rest_of_its_batch_is_not() -> None:
    board, job = board_of(4, Rules(batch=4, timeout=3))
    [record] = board.timed_out(lease(board).id, 1, 3.0)
    assert isinstance(record.outcome, Failed)
    assert str(record.outcome.failure) == "TimeoutError: ran longer than 3 s"
    assert [
        batch.start for batch in job.waiting.batches if batch.start in job.waiting.redelivered
    ] == [0, 2, 3]


def test_a_lease_is_taken_back_a_grace_after_its_time_out() -> None:
    board, job = board_of(1, Rules(timeout=5))
    lease(board)
    assert board.expire(5 + EXPIRY_GRACE_S) == []
    [record] = board.expire(5 + EXPIRY_GRACE_S + 0.1)
    assert record.batch.start == 0
    assert job.finished


def test_a_whole_batch_that_expires_is_not_charged() -> None:
    board, job = board_of(3, Rules(batch=3, timeout=5))
    lease(board)
    assert board.expire(15 + EXPIRY_GRACE_S + 0.1) == []
    assert not job.fails
    assert sum(batch.count for batch in job.waiting.batches) == 3


def test_a_plain_client_never_runs_out_of_time() -> None:
    plain = LeaseHolder(3, is_slot=False)
    board, _ = board_of(1, Rules(timeout=5), plain)
    lease(board, plain)
    assert board.expire(1e9) == []
    assert len(board.leases) == 1


def test_a_job_that_a_machine_cannot_load_goes_to_others_uncharged() -> None:
    board, job = board_of(2)
    board.reject(ME, lease(board).id, "no module named app")
    assert board.wanted(ME, 0.0) is None
    assert board.wanted(replace(ME, id=3), 0.0) is None
    assert lease(board, OTHER).attempt == 1
    assert job.rejected == {"here": "no module named app"}


def test_a_worker_whose_processes_die_as_they_load_a_job_has_rejected_it() -> None:
    board, job = board_of(4)
    died = board.charging.died_loading
    assert [died("here", lease(board).id, "ended with exit code 7") for _ in range(2)] == ["", ""]
    mine = lease(board)
    board.report(ME, Report(mine.id, mine.next, (Done(1, b""),), mine.stop - mine.next - 1), 0.0)
    assert [died("here", lease(board).id, "ended with exit code 7") for _ in range(2)] == ["", ""]
    mine = lease(board)
    assert died("there", mine.id, "it is not theirs") == ""
    assert "ended with exit code 7, 3 times in a row" in died(
        "here", mine.id, "ended with exit code 7"
    )
    assert board.wanted(ME, 0.0) is None
    assert lease(board, OTHER).attempt == 1
    assert not job.deaths


def test_no_worker_has_been_busier_than_it_has_had_its_tasks() -> None:
    board, job = board_of(9, Rules(batch=2))
    for now in (1.0, 2.0):
        mine = lease(board, now=now)
        first = mine.batch.start
        board.report(ME, Report(mine.id, first, (Done(1, b""),), busy=1.7e308), now=now + 0.5)
        board.report(ME, Report(mine.id, first + 1, (Done(1, b""),), busy=1.7e308), now=now + 0.5)
    assert job.sizer.seconds <= 0.5


def test_a_refusal_is_forgotten_with_the_last_connection_of_its_machine() -> None:
    supervisor = LeaseHolder(3, ME.group, is_slot=False)
    board, job = board_of(2, None, ME, supervisor)
    board.reject(ME, lease(board).id, "no module named app")
    board.leave(ME)
    board.readmit(ME.group)
    assert job.rejected  # its processes may come back
    board.leave(supervisor)
    board.readmit(ME.group)
    assert not job.rejected


def test_a_job_stops_at_its_number_of_failures() -> None:
    board, job = board_of(9, Rules(batch=1, max_failures=2))
    fail(board, lease(board))
    assert job.stopped is None
    fail(board, lease(board))
    assert job.stopped == "2 task(s) failed"
    assert board.wanted(ME, 0.0) is None


def test_a_stopped_job_is_finished_when_what_is_out_is_in() -> None:
    board, job = board_of(2, Rules(batch=1))
    mine = lease(board)
    board.stop("j", "enough")
    assert not job.finished
    assert len(done(board, mine)) == 1
    assert job.finished


def test_a_job_that_stops_while_a_batch_is_encoded_does_not_lease_it() -> None:
    board, job = board_of(1)
    start, count = board.take_batch("j")
    board.stop("j", "enough")
    assert board.grant(ME, Batch("j", start, count, b""), 0.0) is None
    assert job.finished


def test_a_draining_board_gives_nothing_out_and_takes_in() -> None:
    board, _ = board_of(2, Rules(batch=1, retries=1))
    mine = lease(board)
    board.draining = True
    assert board.wanted(OTHER, 0.0) is None
    assert len(fail(board, mine)) == 1


@pytest.mark.parametrize("delay", [0.0, 5.0])
def test_a_task_of_a_stopped_job_with_attempts_left_is_neither_recorded_nor_waits(
    delay: float,
) -> None:
    board, job = board_of(2, Rules(batch=1, retries=1, retry_delay=delay))
    mine = lease(board)
    board.stop("j", "interrupted")
    assert fail(board, mine) == []
    assert job.finished
    assert not job.waiting.batches
    assert board.due() is None  # else whoever waits would look every millisecond


def test_nothing_new_goes_out_while_the_window_is_full_of_unread_results() -> None:
    board, job = board_of(9, Rules(batch=1, window=1), ME)
    records = [done(board, lease(board))[0] for _ in range(2)]
    assert board.wanted(ME, 0.0) is None
    board.consumed("j", 2, sum(record.nbytes for record in records))
    assert (job.unread, job.held_bytes) == (0, 0)
    assert board.wanted(ME, 0.0) == "j"


@pytest.mark.parametrize("slots", [1, 2, 16, 100, 1000])
@pytest.mark.parametrize(("given", "taken"), [(1000, 1), (1, 1000), (10, 10)])
def test_however_many_slots_a_slow_link_has_the_window_holds(
    slots: int, given: int, taken: int
) -> None:
    """And what two batches of one task for each come to."""
    board, job = board_of(10**9, Rules())
    holders = [LeaseHolder(10 + number) for number in range(slots)]
    for holder in holders:
        board.join(holder)
    job.sizer.sent(1000, 1000 * given)
    job.sizer.observe(1000, busy=1e-4, elapsed=0.5, nbytes=1000 * taken)
    for holder in holders:
        start, count = board.take_batch("j")
        board.grant(holder, Batch("j", start, count, b"x" * (count * given)), 0.0)
    least = slots * (max(given, taken) + RECORD_BYTES)
    assert 2**20 < job.held_bytes <= 2 * job.rules.window + least


def test_what_came_back_goes_out_whatever_the_window() -> None:
    board, _ = board_of(9, Rules(batch=1, window=1))
    lease(board)
    board.leave(ME)
    assert lease(board, OTHER).batch.start == 0


def test_a_job_that_is_not_eligible_is_passed_over() -> None:
    board, _ = board_of(1)
    board.open_job("k", Rules())
    board.supply("k", 1)
    assert board.wanted(ME, 0.0, lambda job: job.id != "j") == "k"


def test_lost_leases_that_nobody_can_need_are_forgotten() -> None:
    board, _ = board_of(3000, Rules(batch=1))
    for id in range(1000, 2000):
        holder = LeaseHolder(id)
        board.join(holder)
        lease(board, holder)
        board.leave(holder)
        done(board, lease(board, OTHER))
    assert len(board.lost) <= 256


def test_a_death_with_several_suspects_charges_the_one_that_turns_out_to_be_deadly() -> None:
    board, job = board_of(200)
    assert board.died(lease(board).id, 64, "signal 9", 0.0, span=64) == []
    alone = [batch.count for batch in job.waiting.batches if 64 <= batch.start < 128]
    assert alone == [1] * 64
    assert not job.deaths
    recorded: list[Recorded] = []
    while not job.finished:
        mine = lease(board)
        if mine.next <= 70 < mine.stop:
            recorded += board.died(mine.id, 70, "signal 9", 0.0)
        else:
            recorded += done(board, mine)
    [failed] = [record for record in recorded if isinstance(record.outcome, Failed)]
    assert (failed.batch.start, failed.attempts, job.deaths) == (70, 3, {70: 2})


def test_several_suspects_are_charged_for_one_death_once() -> None:
    board, job = board_of(200)
    mine = lease(board)
    for _ in range(2):
        board.died(mine.id, 64, "signal 9", 0.0, span=64)
    assert set(job.suspected.values()) == {1}
