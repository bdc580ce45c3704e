"""How jobs share the slots."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from dq.core.board import Board
from dq.core.jobs import Rules
from dq.core.leases import Lease, LeaseHolder, Report
from dq.core.records import Batch, Done
from dq.core.shares import TURN_S


@dataclass
class Simulation:
    """Slots that work on jobs, each of whose tasks takes the same time, and what each has had."""

    seconds: dict[str, float]  # that a task of each job takes
    board: Board = field(default_factory=lambda: Board(iter(range(1, 10**9))))
    now: float = 100.0
    had: dict[str, float] = field(default_factory=dict)
    first: dict[str, float] = field(default_factory=dict)  # when a job's first result was there
    longest: float = 0.0  # batch
    ends: list[tuple[float, int, LeaseHolder, Lease, float]] = field(default_factory=list)
    free: list[LeaseHolder] = field(default_factory=list)

    def open(self, id: str, count: int = 10**9, rules: Rules | None = None) -> None:
        self.board.open_job(id, rules or Rules())
        self.board.supply(id, count)
        self.board.end(id)
        self.had[id] = 0.0

    def join(self, id: int, tags: str = "") -> None:
        holder = LeaseHolder(id, f"group {id}", f"host:{id}", tags=frozenset(tags))
        self.board.join(holder)
        self.free.append(holder)

    def lease_all(self) -> None:
        for holder in list(self.free):
            wanted = self.board.wanted(holder, self.now)
            if isinstance(wanted, str):
                wanted = Batch(wanted, *self.board.take_batch(wanted), b"")
            if wanted is None:
                continue
            lease = self.board.grant(holder, wanted, self.now)
            assert lease is not None
            took = wanted.count * self.seconds[wanted.job]
            self.longest = max(self.longest, took)
            heapq.heappush(self.ends, (self.now + took, lease.id, holder, lease, took))
            self.free.remove(holder)

    def run(self, until: float) -> None:
        """Let the slots work, in no time between two batches."""
        self.lease_all()
        while self.ends and self.ends[0][0] <= until:
            self.now, _, holder, lease, took = heapq.heappop(self.ends)
            job, count = lease.batch.job, lease.batch.count
            self.had[job] += took
            self.first.setdefault(job, self.now)
            report = Report(lease.id, lease.batch.start, (Done(count, b""),), 0, took)
            for record in self.board.report(holder, report, self.now):
                self.board.consumed(job, 1, record.nbytes)
            self.free.append(holder)
            self.lease_all()
        self.now = until

    def used(self, id: str) -> float:
        """Slot-seconds until now, including those of what is running."""
        running = [self.now - lease.granted for *_, lease, _ in self.ends if lease.batch.job == id]
        return self.had[id] + sum(running)


TASKS = st.sampled_from([1e-5, 1e-3, 0.02, 0.3, 2.0])


@given(st.lists(TASKS, min_size=2, max_size=3), st.integers(1, 8), st.integers(0, 2**32))
@settings(max_examples=40, deadline=None)
def test_jobs_that_always_have_work_have_had_the_same(
    tasks: list[float], slots: int, seed: int
) -> None:
    random = Random(seed)
    simulation = Simulation({str(id): seconds for id, seconds in enumerate(tasks)})
    for job in simulation.seconds:
        simulation.open(job)
    for id in range(slots):
        simulation.join(id)
    for _ in range(8):
        simulation.run(simulation.now + random.choice([0.1, 1.0, 3.0]))
        if random.random() < 0.3:
            simulation.join(slots)
            slots += 1
        used = [simulation.used(id) for id in simulation.seconds]
        assert max(used) - min(used) <= 2 * simulation.longest * slots


@given(TASKS, TASKS, st.integers(1, 8))
@settings(max_examples=15, deadline=None)
def test_a_job_that_begins_late_gets_half_from_then_on_and_not_more(
    old: float, new: float, slots: int
) -> None:
    simulation = Simulation({"old": old, "new": new})
    simulation.open("old")
    for id in range(slots):
        simulation.join(id)
    simulation.run(simulation.now + 10)
    before = simulation.used("old")
    simulation.open("new")
    simulation.run(simulation.now + 10)
    gained = simulation.used("old") - before
    assert abs(gained - simulation.used("new")) <= 2 * simulation.longest * slots


def test_a_few_tasks_behind_millions_have_a_result_within_a_second() -> None:
    simulation = Simulation({"many": 1e-6, "few": 0.01})
    simulation.open("many", 10**7)
    for id in range(4):
        simulation.join(id)
    simulation.run(simulation.now + 1)
    opened = simulation.now
    simulation.open("few", 10)
    simulation.run(simulation.now + 1)
    assert simulation.first["few"] < opened + 0.5


def test_a_job_that_was_idle_does_not_catch_up() -> None:
    simulation = Simulation({"steady": 0.01, "fitful": 0.01})
    simulation.open("steady")
    simulation.open("fitful", 1)
    simulation.join(1)
    simulation.run(simulation.now + 30)
    steady, fitful = simulation.used("steady"), simulation.used("fitful")
    simulation.board.supply("fitful", 10**6)
    simulation.run(simulation.now + 10)
    gained = simulation.used("fitful") - fitful
    assert abs(gained - (simulation.used("steady") - steady)) < 4 * TURN_S


def test_a_job_of_a_higher_priority_goes_first() -> None:
    simulation = Simulation({"low": 0.01, "high": 0.01})
    simulation.open("low")
    simulation.join(1)
    simulation.run(simulation.now + 5)
    before = simulation.used("low")
    simulation.open("high", 1000, Rules(priority=1))
    simulation.run(simulation.now + 9)
    assert simulation.used("low") - before < TURN_S
    simulation.run(simulation.now + 9)
    assert simulation.used("high") > 9.99
    assert simulation.used("low") - before > 7


def test_while_two_jobs_compete_no_batch_is_longer_than_a_turn() -> None:
    simulation = Simulation({"one": 0.001, "two": 0.001})
    simulation.open("one")
    simulation.open("two")
    for job in simulation.board.jobs.values():
        job.sizer.observe(1, 0.001, 1.0)  # over a slow link, for which batches are long
    simulation.join(1)
    simulation.run(simulation.now + 5)
    assert simulation.longest <= TURN_S
    assert min(simulation.had.values()) > 2


def test_jobs_that_need_the_few_workers_share_those_whatever_others_have() -> None:
    simulation = Simulation({"any": 0.01, "gpu": 0.01, "late": 0.05})
    simulation.open("any")
    simulation.open("gpu", rules=Rules(needs=frozenset("g")))
    for id in range(5):
        simulation.join(id)
    simulation.join(5, "g")
    simulation.run(simulation.now + 30)
    assert simulation.used("gpu") > 29
    before = simulation.used("gpu")
    simulation.open("late", rules=Rules(needs=frozenset("g")))
    simulation.run(simulation.now + 20)
    assert abs(simulation.used("late") - 10) < 1
    assert abs(simulation.used("gpu") - before - 10) < 1
