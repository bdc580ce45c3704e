"""A master that goes on for long, while workers, guests and strangers come and go: it keeps
nothing of those who have left, and every input gets its one outcome."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import pytest

from faults.chaos import Visit, Visitors
from faults.hazards import witness
from faults.scene import Hazards
from support import Running, fds, rss, serving, threads, wait_until

pytestmark = pytest.mark.slow

#: A guest that vanishes has cost a task one of its lives; here they do it all the time.
SERVING = ("--input", "-", "--format", "jsonl", "--unordered", "-q", "--batch", "1")
PATIENT = ("--max-deaths", "1000000")
BACKLOG = 6  # inputs that whoever comes finds waiting
STAYING = 20  # who is connected and says nothing, at the most
#: What may be there at a quiet moment beyond what was there after the warm-up. A closed one's
#: thread and descriptor go within moments; a worker has two of each, and two may be there at a
#: change.
MORE_FDS, MORE_THREADS = 4, 4


@dataclass(frozen=True)
class Plan:
    """How long, and how much at once."""

    seconds: float
    visits: int  # in all that time
    quiet: float  # seconds between two quiet moments
    turnover: float  # seconds between two changes of worker
    warm: float  # seconds before growth counts
    growth: int  # bytes of memory that the master may have got since: what malloc keeps


@dataclass
class Sample:
    """What a process has."""

    fds: int
    threads: int
    rss: int

    @classmethod
    def of(cls, pid: int) -> Sample:
        return cls(fds(pid), threads(pid), rss(pid))


@dataclass
class Life:
    """A master that is fed, and who comes to it."""

    hazards: Hazards
    master: Running
    port: int
    random: random.Random
    guests: Visitors = field(init=False)
    worker: Running | None = None
    workers: int = 0
    visits: int = 0
    fed: int = 0
    staying: deque[Visit] = field(default_factory=deque)
    samples: list[Sample] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.guests = Visitors(self.random, witness, self.staying.append, patience=0.2)

    def visit(self) -> None:
        """Somebody comes, and there is something to do."""
        upto = max(self.fed, self.done + BACKLOG)
        self.master.write("".join(f"{n}\n" for n in range(self.fed, upto)))
        self.fed = upto
        self.guests.come(self.port)
        self.visits += 1
        while len(self.staying) > STAYING:
            self.staying.popleft().leave()

    def change_worker(self) -> None:
        """Another worker comes, and the one before goes, one way or another."""
        before, self.worker = self.worker, self.hazards.worker(self.port, "-p", "1", "-q")
        self.workers += 1
        if before is not None:
            before.send_signal(self.random.choice([signal.SIGTERM, signal.SIGKILL]))
            before.wait()
            before.close()

    def quiet(self) -> Sample:
        """Everybody leaves but a worker, everything is done: what does the master have then?"""
        while self.staying:
            self.staying.popleft().leave()
        wait_until(lambda: self.done == self.fed, 60, message=lambda: f"{self.done} of {self.fed}")
        self.samples.append(Sample.of(self.master.pid))
        return self.samples[-1]

    @property
    def done(self) -> int:
        return self.master.stdout_text.count("\n")

    def close(self) -> None:
        while self.staying:
            self.staying.popleft().leave()
        if self.worker is not None:
            self.worker.close()


@contextmanager
def living(hazards: Hazards, seeded: random.Random) -> Iterator[Life]:
    with ExitStack() as stack:
        how = {"cwd": hazards.folder, "env": hazards.env, "stdin": subprocess.PIPE}
        master, port = stack.enter_context(serving("hazards:long", *SERVING, *PATIENT, **how))
        life = Life(hazards, master, port, seeded)
        stack.callback(life.close)
        yield life


def live(life: Life, plan: Plan) -> None:
    """Visits, evenly over the time; other things when they are due."""
    started = time.monotonic()
    quiet_at, change_at = started + plan.quiet, started
    warm: Sample | None = None
    while (now := time.monotonic()) < started + plan.seconds:
        if now >= change_at:
            life.change_worker()
            change_at += plan.turnover
        if now >= quiet_at:
            quiet_at = now + plan.quiet
            if warm is None:
                sample = life.quiet()
                warm = sample if now > started + plan.warm else None
            else:
                check(life, warm, plan.growth)
        life.visit()
        time.sleep(max(0.0, started + life.visits * plan.seconds / plan.visits - time.monotonic()))
    assert warm is not None
    check(life, warm, plan.growth)


def check(life: Life, warm: Sample, growth: int) -> None:
    """There is no more than after the warm-up; who has just left may need a moment."""

    def settled() -> bool:
        now = life.quiet()
        return now.fds <= warm.fds + MORE_FDS and now.threads <= warm.threads + MORE_THREADS

    wait_until(settled, 15, interval=0.1, message=lambda: f"{warm}, and now {life.samples[-1]}")
    assert life.samples[-1].rss <= warm.rss + growth, f"{warm}, and now {life.samples[-1]}"


def outlive(hazards: Hazards, seeded: random.Random, plan: Plan) -> Life:
    with living(hazards, seeded) as life:
        live(life, plan)
        life.master.close_stdin()
        assert life.worker is not None
        assert [life.master.wait(60), life.worker.wait(60)] == [0, 0], life.master.stderr_text
    history = hazards.history(list(range(life.fed)), life.master.stdout_text).check()
    # Beyond the first: what a killed worker or a guest was doing, each of which has one at a time.
    assert history.extra <= life.workers
    first, last = life.samples[0], life.samples[-1]
    print(
        f"{life.visits} visits, {life.workers} workers; {life.fed} tasks, of which visitors took"
        f" {life.guests.taken} and {life.guests.vanished} vanished with one; {history.extra}"
        f" executed again; at the first quiet moment {first}, at the last ({len(life.samples)})"
        f" {last}, the most {max(sample.rss for sample in life.samples)} bytes"
    )
    return life


def test_a_master_keeps_nothing_of_those_who_come_and_go(
    hazards: Hazards, seeded: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DQ_TEST_LOG", str(hazards.log))
    life = outlive(
        hazards, seeded, Plan(8, visits=240, quiet=1.5, turnover=2, warm=2, growth=3 * 2**19)
    )
    assert life.guests.taken
    assert life.guests.vanished


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_a_master_keeps_nothing_in_an_hour_of_coming_and_going(
    hazards: Hazards, seeded: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DQ_TEST_LOG", str(hazards.log))
    seconds = float(os.environ.get("DQ_TEST_SOAK_SECONDS", "3600"))
    plan = Plan(seconds, int(3.5 * seconds), quiet=30, turnover=15, warm=seconds / 12, growth=2**22)
    life = outlive(hazards, seeded, plan)
    assert life.visits >= 10_000 or seconds < 3600
