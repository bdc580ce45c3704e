"""Every kind of fault at once, at random, while a job with a journal is done.

Processes are killed and stopped, the master among them; lines are frozen, cut, reset, slow, and
swallow what they are given; guests take inputs and vanish; strangers say nothing, or garbage; some
tasks kill who runs them. Whatever happens: one right outcome for each input.
"""

from __future__ import annotations

import heapq
import itertools
import json
import math
import os
import random
import secrets
import signal
import sys
import time
from collections import Counter, deque
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from multiprocessing import AuthenticationError
from pathlib import Path
from typing import Any

import pytest

from dq.errors import DqError
from faults.chaos import Deadly, Visit, Visitors
from faults.ledger import TASKS, Ledger
from faults.scene import KEY, Hazards, kill
from support import DQ, FaultProxy, Running, run, task_processes, wait_until

pytestmark = pytest.mark.slow

DEATHS = 6  # processes that a task may take with it, until the master is killed
WORKERS = ("2", "1", "1")  # task processes of each; the first is near, the others behind a proxy
SLOTS = 4
FAULTS = 12  # of a short run
STAYING = 2  # guests and strangers that say nothing


@dataclass(frozen=True)
class Plan:
    """What is to be done, and how much of it goes wrong."""

    count: int
    poison: int
    nap: float  # seconds that a task takes
    batch: int
    ordered: bool
    faults: int  # at most
    pause: float  # mean of the seconds between two
    patience: float  # seconds from the last fault to the end

    @classmethod
    def draw(cls, random: random.Random, most: int, faults: int) -> Plan:
        """A small job, of tens to thousands of tasks, that takes about as long as the faults."""
        count = int(30 * math.exp(random.uniform(0, math.log(most / 30))))
        nap = min(0.2, 0.3 * faults * SLOTS / count / 2)
        batch, ordered = random.choice([1, 3, 20]), random.random() < 0.3
        return cls(count, random.randrange(3), nap, batch, ordered, faults, 0.15, 90)


@dataclass
class Chaos:
    """A job, who does it, and what befalls them."""

    folder: Path
    random: random.Random
    plan: Plan
    stack: ExitStack
    faults: Counter[str] = field(default_factory=Counter)
    masters: int = 0
    port: int = 0
    charges: int = 0  # faults that may have cost a task one of its lives
    allowed: int = 0  # executions beyond the first that the faults explain
    stale: int = 0  # of these, those that may come when their outcome is known
    staying: deque[Visit] = field(default_factory=deque)
    later: list[tuple[float, int, Callable[[], object]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        plan = self.plan
        self.folder.mkdir()
        (self.folder / "work.py").write_text(TASKS)
        poison = set(self.random.sample(range(plan.count), plan.poison))
        self.ledger = Ledger(plan.count, poison, self.folder / "log")
        inputs = self.folder / "inputs"
        inputs.write_text("".join(f"{number}\n" for number in self.ledger.inputs))
        self.numbers = itertools.count()
        self.guests = Visitors(self.random, self._work, self.staying.append, patience=0.05)
        self.master = self._serve()
        self.port = int(self.master.wait_for(r"serving on \S+:(\d+)")[1])
        self.proxies = [
            self.stack.enter_context(FaultProxy(("127.0.0.1", self.port))) for _ in WORKERS[1:]
        ]
        self.workers = [self._work_there(place) for place in range(len(WORKERS))]
        self.left: list[Running] = []

    # Who there is

    @property
    def env(self) -> dict[str, str | None]:
        return {
            "DQ_AUTHKEY": KEY,
            "DQ_TEST_LOG": str(self.folder / "log"),
            "DQ_TEST_NAP": str(self.plan.nap),
        }

    def _serve(self) -> Running:
        """A master; its output goes to a file, which is looked at while it grows."""
        plan = self.plan
        argv = [*DQ, "master", "work:work", "-q", "--input", "inputs", "--format", "jsonl"]
        argv += ["--journal", "journal", "--port", str(self.port), "--batch", str(plan.batch)]
        argv += ["--max-deaths", str(DEATHS), *([] if plan.ordered else ["--unordered"])]
        output = self.folder / f"output{self.masters}"
        self.masters += 1
        self.ledger.next_master(output)
        into = ("sh", "-c", f'exec "$@" > {output.name}', "sh")
        master = Running(*into, *argv, cwd=self.folder, env=self.env)
        return self.stack.enter_context(master)

    def _work_there(self, place: int) -> Running:
        port = self.proxies[place - 1].port if place else self.port
        argv = [*DQ, "worker", "-q", "-s", f"127.0.0.1:{port}", "-p", WORKERS[place]]
        return self.stack.enter_context(Running(*argv, cwd=self.folder, env=self.env))

    def _work(self, item: int) -> str:
        """What a guest does: the same as a task."""
        token = secrets.token_hex(4)
        with (self.folder / "log").open("ab") as log:
            log.write(f"{item} {token} {os.getpid()}\n".encode())
        if item < 0:
            raise Deadly
        return token

    # Faults

    def kill_task_process(self) -> None:
        if victim := self._at_work():
            self.charges += kill(victim)

    def stop_task_process(self) -> None:
        if victim := self._at_work():
            self._stop(victim)

    def kill_worker(self) -> None:
        """A supervisor, with whom its task processes end; then another comes."""
        place = self.random.randrange(len(WORKERS))
        kill(self.workers[place].pid)
        self._replace(place)

    def stop_worker(self) -> None:
        self._stop(self.random.choice(self.workers).pid)

    def change_worker(self) -> None:
        place = self.random.randrange(len(WORKERS))
        self.workers[place].send_signal(signal.SIGTERM)
        self._replace(place)

    def kill_master(self) -> None:
        self.master.send_signal(signal.SIGKILL)
        if self.master.wait() != -signal.SIGKILL:
            return  # it had come to its end
        self._explain()
        self.stale += SLOTS * self.plan.batch
        time.sleep(self.random.choice([0, 0, 0.3]))
        self.master = self._serve()

    def stop_master(self) -> None:
        """Not while anything else happens here: a visit would wait for it."""
        self.master.send_signal(signal.SIGSTOP)
        time.sleep(self.random.uniform(0, 0.3))
        self.master.send_signal(signal.SIGCONT)

    def freeze_line(self) -> None:
        proxy = self._line()
        proxy.freeze()
        self._soon(proxy.thaw)

    def delay_line(self) -> None:
        proxy = self._line()
        proxy.delay(self.random.uniform(0, 0.05))
        self._soon(lambda: proxy.delay(0))

    def cut_line(self) -> None:
        self._line().cut_after(self.random.randrange(600), self.random.choice(["up", "down"]))

    def reset_line(self) -> None:
        self._line().reset()

    def refuse_line(self) -> None:
        proxy = self._line()
        proxy.refuse()
        proxy.reset()
        self._soon(proxy.accept)

    def swallow_line(self) -> None:
        """What is lost in a stream can't be made up for: it ends with a reset."""
        proxy = self._line()
        proxy.drop(self.random.choice([None, "up", "down"]))

        def heal() -> None:
            proxy.reset()
            proxy.drop(on=False)

        self._soon(heal)

    def visit(self) -> None:
        vanished = self.guests.vanished
        try:
            self.guests.come(self.port)
        except (OSError, EOFError, DqError, AuthenticationError):
            pass  # the master was killed meanwhile, or has come to its end
        while len(self.staying) > STAYING:
            self.staying.popleft().leave()
        self.charges += self.guests.vanished - vanished

    def _at_work(self) -> int | None:
        """A task process that has worked: five in a row that die while they start are a fault of
        their own, at which a supervisor rightly stops."""
        self.ledger.look()
        found = [pid for worker in self.workers for pid in task_processes(worker.pid)]
        victims = sorted(self.ledger.pids.intersection(found))
        return self.random.choice(victims) if victims else None

    def _stop(self, pid: int) -> None:
        send(pid, signal.SIGSTOP)
        self._soon(lambda: send(pid, signal.SIGCONT))

    def _replace(self, place: int) -> None:
        before = self.workers[place]
        self.left.append(before)
        self._soon(lambda: before.send_signal(signal.SIGCONT))  # it may have been stopped
        self.workers[place] = self._work_there(place)

    def _line(self) -> FaultProxy:
        return self.random.choice(self.proxies)

    def _soon(self, undo: Callable[[], object]) -> None:
        due = time.monotonic() + self.random.uniform(0, 0.6)
        heapq.heappush(self.later, (due, next(self.numbers), undo))

    # The course of things

    def rage(self) -> None:
        """One fault after the other, while others still last, until the job is done."""
        kinds: dict[Callable[[], None], int] = {
            self.visit: 6,
            self.kill_task_process: 4,
            self.stop_task_process: 2,
            self.kill_worker: 1,
            self.stop_worker: 1,
            self.change_worker: 1,
            self.kill_master: 2,
            self.stop_master: 1,
            self.freeze_line: 1,
            self.delay_line: 1,
            self.cut_line: 2,
            self.reset_line: 2,
            self.refuse_line: 1,
            self.swallow_line: 1,
        }
        at = time.monotonic()
        while self.faults.total() < self.plan.faults and not self.over:
            [fault] = self.random.choices([*kinds], [*kinds.values()])
            if self._may_charge() or fault not in (self.visit, self.kill_task_process):
                self._explain()
                fault()
                self.faults[fault.__name__] += 1
            at += self.random.expovariate(1 / self.plan.pause)
            self._until(at)
        self._until(math.inf)

    @property
    def over(self) -> bool:
        return self.master.process.poll() is not None

    def _may_charge(self) -> bool:
        """Whether no task can have had too many lives taken yet. Of thousands, the same one will
        hardly be met again and again."""
        return self.plan.count > 1000 or self.charges < DEATHS - 1

    def _explain(self) -> None:
        """A fault may cause to be executed again what was begun and is not on record, and what is
        leased and not begun: that may be done elsewhere first."""
        self.ledger.look()
        self.allowed += self.ledger.begun - self.ledger.shown + SLOTS * self.plan.batch

    def _until(self, at: float) -> None:
        """Take back what is due, up to a time."""
        while self.later and self.later[0][0] <= at:
            due, _, undo = heapq.heappop(self.later)
            time.sleep(max(0.0, due - time.monotonic()))
            undo()
            self._check_workers()
        if at < math.inf:
            time.sleep(max(0.0, at - time.monotonic()))

    def _check_workers(self) -> None:
        for worker in self.workers:
            ended = worker.process.poll() is not None and not self.over
            assert not ended or self._ends_soon(), worker.printed

    def _ends_soon(self) -> bool:
        """Workers hear of the end before the master has ended."""
        try:
            wait_until(lambda: self.over, 5)
        except AssertionError:
            return False
        return True

    def finish(self) -> None:
        """Nothing more goes wrong: the job is done."""
        for proxy in self.proxies:
            proxy.heal()
        while self.staying:
            self.staying.popleft().leave()
        assert self.master.wait(self.plan.patience) == bool(self.plan.poison), self.master.printed
        self.ledger.check(self.plan.ordered)
        assert self.ledger.again <= self.stale
        if not self.plan.ordered:  # where it is, what is on record may still wait to be shown
            assert self.ledger.extra <= self.allowed
        for one in [self.master, *self.workers, *self.left]:
            assert "Traceback" not in one.stderr_text, one.printed

    def __str__(self) -> str:
        ledger = self.ledger
        faults = ", ".join(f"{count} {name}" for name, count in sorted(self.faults.items()))
        return (
            f"{self.plan}: {ledger.shown} shown, {ledger.extra} executed again (explained:"
            f" {self.allowed}), {ledger.again} of them when done; {self.masters} masters;"
            f" {self.faults.total()} faults: {faults}"
        )


def send(pid: int, number: int) -> None:
    """A signal, unless it has gone."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def survive(folder: Path, random: random.Random, plan: Plan) -> Chaos:
    with ExitStack() as stack:
        chaos = Chaos(folder, random, plan, stack)
        try:
            chaos.rage()
            chaos.finish()
        finally:
            print(chaos, file=sys.stderr, flush=True)
    return chaos


@pytest.mark.parametrize("nth", range(2))
def test_every_kind_of_fault_at_once_loses_and_doubles_nothing(
    tmp_path: Path, seeded: random.Random, nth: int
) -> None:
    survive(tmp_path / "project", seeded, Plan.draw(seeded, most=3000, faults=FAULTS))


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_every_kind_of_fault_at_once_for_many_seeds(tmp_path: Path, seeded: random.Random) -> None:
    """With any of them in DQ_TEST_SEED, the short test does the same again."""
    until = time.monotonic() + float(os.environ.get("DQ_TEST_SOAK_SECONDS", "900"))
    total: Counter[str] = Counter()
    for nth in itertools.count():
        if time.monotonic() > until:
            break
        seed = seeded.getrandbits(32)
        print(f"DQ_TEST_SEED={seed}", file=sys.stderr)
        chances = random.Random(seed)
        chaos = survive(tmp_path / str(nth), chances, Plan.draw(chances, 3000, FAULTS))
        total.update(chaos.faults)
        total.update(seeds=1, tasks=chaos.plan.count, again=chaos.ledger.extra)
    print(dict(total), file=sys.stderr)


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_a_million_tasks_amid_every_kind_of_fault(tmp_path: Path, seeded: random.Random) -> None:
    count = int(os.environ.get("DQ_TEST_SOAK_TASKS", "1000000"))
    plan = Plan(count, 20, 0.0005, 20, False, faults=count, pause=0.3, patience=600)
    survive(tmp_path / "project", seeded, plan)


#: Calls in worker processes that are killed now and then, some of them cancelled, in a script of
#: its own; prints who was cancelled, and what the others have returned.
CALLS = """
import json, os, random, signal, sys
import dq, hazards
from support import alive, task_processes, wait_until
from faults.scene import kill

chance = random.Random(int(sys.argv[1]))
told, killed, cancelled, seen = [], 0, set(), []


def both():
    seen[:] = [pid for pid in task_processes(os.getpid()) if alive(pid)]
    return len(seen) == 2


with dq.Executor(2, max_deaths=1000, report=lambda line: None) as pool:
    futures = []
    for n in range(250):
        futures.append(pool.submit(hazards.short, n))
        futures[n].add_done_callback(lambda future, n=n: told.append(n))
        if chance.random() < 0.3:
            victim = chance.randrange(n + 1)
            if futures[victim].cancel():
                cancelled.add(victim)
        if n % 60 == 30:
            wait_until(both)
            killed += kill(chance.choice(seen))
    values = {n: f.result(60) for n, f in enumerate(futures) if n not in cancelled}
assert sorted(told) == list(range(250)), told
assert cancelled == {n for n, future in enumerate(futures) if future.cancelled()}
print(json.dumps([sorted(cancelled), list(values.items()), killed]))
"""


def test_cancelled_calls_stay_so_and_the_others_have_their_own_result(
    hazards: Hazards, seeded: random.Random
) -> None:
    cancelled, values, killed = in_script(hazards, CALLS, seeded)
    assert cancelled
    assert killed
    assert sorted([*cancelled, *(n for n, _ in values)]) == list(range(250))
    check_values(hazards, values)


#: Streams that nobody reads to their end, and one that somebody does.
STREAMS = """
import itertools, json, os, random, sys
import dq, hazards
from faults.scene import kill
from support import task_processes

chance = random.Random(int(sys.argv[1]))
taken, killed = [], 0
with dq.Master(workers=2, max_deaths=1000, report=lambda line: None) as master:
    for stream in range(6):
        first, count = 10_000 * stream, 3000 if stream < 5 else 300
        results = master.stream(hazards.short, range(first, first + count))
        some = list(itertools.islice(results, chance.randrange(60) if stream < 5 else None))
        taken.append([(result.input, result.value) for result in some])
        del results
        if found := task_processes(os.getpid()):
            killed += kill(chance.choice(found))
print(json.dumps([[], taken, killed]))
"""


def test_an_abandoned_stream_soon_stops_and_nothing_of_it_comes_up_in_the_next(
    hazards: Hazards, seeded: random.Random
) -> None:
    _, streams, killed = in_script(hazards, STREAMS, seeded)
    assert killed
    executed = Counter(entry["input"] // 10_000 for entry in hazards.executions)
    for stream, values in enumerate(streams):
        inputs = [given for given, _ in values]
        assert {given // 10_000 for given in inputs} <= {stream}
        assert len(set(inputs)) == len(inputs)
        assert stream == 5 or executed[stream] < 3000
        check_values(hazards, values)
    assert len(streams[-1]) == 300


def in_script(hazards: Hazards, code: str, seeded: random.Random) -> tuple[Any, Any, int]:
    """What a script prints that is given a seed, and everything that tests have."""
    env = {**hazards.env, "PYTHONPATH": os.pathsep.join([str(hazards.folder), *sys.path])}
    argv = [sys.executable, "-c", code, str(seeded.getrandbits(32))]
    done = run(*argv, cwd=hazards.folder, env=env)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    cancelled, values, killed = json.loads(done.stdout)
    return cancelled, values, killed


def check_values(hazards: Hazards, values: list[Any]) -> None:
    """Each is of its own input, and was computed by an execution of it."""
    tokens = {entry["token"]: entry["input"] for entry in hazards.executions}
    for given, value in values:
        assert value["input"] == given
        assert tokens[value["token"]] == given
