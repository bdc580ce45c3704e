"""What people are told of workers, by what these do."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from dq.core.beats import SlotState, WorkerState
from dq.core.jobs import Rules
from dq.data.sources import Source
from dq.dispatch.dispatcher import Dispatcher
from dq.dispatch.worker_status import RunningTask, WorkerStatus
from dq.functions.reference import TaskRef
from dq.functions.spec import JobSpec
from support import wait_until
from support.connections import FakeClient, FakeClients, grant_of, open_job
from support.fakes import FakeClock


def beat_of(
    clients: FakeClients, supervisor: FakeClient, group: str = "g", default: bool = False
) -> FakeClient:
    """The other connection of a supervisor."""
    beat = clients.connect(supervisor.dispatcher)
    beat.hello(group, role="beat", default=default)
    return beat


def notes_of(dispatcher: Dispatcher) -> list[str]:
    with dispatcher.lock:
        return [note.line for note in dispatcher.presence.notes()]


@pytest.mark.parametrize(
    ("timeout", "end"),
    [
        (None, "until it reports or is ended (timeout would bound that)"),
        (600.0, "until it reports or is ended, or timeout is over"),
    ],
)
def test_a_silent_worker_is_told_with_what_it_keeps(
    clients: FakeClients, timeout: float | None, end: str
) -> None:
    clock = FakeClock()
    dispatcher = clients.dispatcher(clock=clock)
    spec = JobSpec("j", TaskRef("module", "app", "f"), timeout=timeout)
    dispatcher.jobs.open(spec, Rules(batch=2), Source([7, 8, 9]))
    supervisor, first, second = (clients.connect(dispatcher) for _ in range(3))
    supervisor.hello(role="supervisor")
    first.hello()
    second.hello()
    notes_of(dispatcher)
    first.exchange()
    clock.now = 29.0
    assert notes_of(dispatcher) == []
    clock.now = 31.0
    said = f"worker h:1 has not been heard of for 30 s; it keeps tasks 0, 1 {end}"
    assert notes_of(dispatcher) == [said]
    beat_of(clients, supervisor).beat()
    assert notes_of(dispatcher) == ["worker h:1 is heard of again"]


def test_a_stopped_process_is_told_with_what_it_keeps(clients: FakeClients) -> None:
    clock = FakeClock()
    dispatcher = clients.dispatcher(clock=clock)
    open_job(dispatcher, [7])
    supervisor, worker = clients.connect(dispatcher), clients.connect(dispatcher)
    supervisor.hello(role="supervisor")
    worker.hello()
    worker.exchange()
    notes_of(dispatcher)
    beat = beat_of(clients, supervisor)
    for clock.now in (10.0, 20.0, 30.0):
        beat.beat(state=WorkerState(stopped=("h:1", "h:2")))
    assert notes_of(dispatcher) == [
        "process h:1 of worker h:1 is stopped (SIGSTOP); it keeps task 0"
        " until it goes on or is ended (timeout would bound that)",
        "process h:2 of worker h:1 is stopped (SIGSTOP) and holds no tasks",
    ]


@pytest.mark.parametrize("first", ["supervisor", "slot"])
def test_what_a_worker_leaves_is_told(clients: FakeClients, first: str) -> None:
    dispatcher = clients.dispatcher()
    open_job(dispatcher, [7])
    supervisor, worker = clients.connect(dispatcher), clients.connect(dispatcher)
    supervisor.hello(role="supervisor")
    worker.hello()
    worker.exchange()
    leaving = {"supervisor": supervisor.leave, "slot": worker.leave}
    with ThreadPoolExecutor(2) as both:  # a slot's leaving waits for its supervisor's word
        done = both.submit(leaving.pop(first))
        wait_until(lambda: len(dispatcher.presence._held_tasks._groups["g"]) == 1)
        both.submit(leaving.popitem()[1])
        done.result(10)
    assert notes_of(dispatcher)[1:] == [
        "worker h:1 left with 1 task unfinished, for others to do; it was the last one"
    ]


def test_who_leaves_because_the_master_ends_is_not_told(clients: FakeClients) -> None:
    dispatcher = clients.dispatcher()
    supervisor = clients.connect(dispatcher)
    supervisor.hello(role="supervisor")
    notes_of(dispatcher)
    dispatcher.stop()
    supervisor.leave()
    assert notes_of(dispatcher) == []


def test_a_worker_hears_that_neither_end_has_a_task_for_what_clients_put(
    clients: FakeClients,
) -> None:
    dispatcher = clients.dispatcher()
    client, without, having = (clients.connect(dispatcher) for _ in range(3))
    without.hello("a", role="supervisor")
    having.hello("b", role="supervisor", default=True)
    without, having = beat_of(clients, without, "a"), beat_of(clients, having, "b", default=True)
    _, _, lacks_task, _ = without.beat()
    assert not lacks_task
    client.put(3)
    _, _, lacks_task, _ = without.beat()
    assert lacks_task
    _, _, lacks_task, _ = having.beat()
    assert not lacks_task


# What there is


def test_the_workers_are_there_with_what_they_run(clients: FakeClients) -> None:
    clock = FakeClock()
    dispatcher = clients.dispatcher(clock=clock)
    open_job(dispatcher, [7, 8], Rules(batch=1))
    supervisor, slot, other = (clients.connect(dispatcher) for _ in range(3))
    supervisor.hello(role="supervisor", slots=2, dq="1.2", python="3.11.7")
    slot.hello()
    other.hello()
    beat = beat_of(clients, supervisor)
    lease = grant_of(slot.exchange())[0]
    clock.now = 10.0
    runs, gone = SlotState(0, lease, 0, 2.0, 3, 7), SlotState(1, lease + 1, 0, 9.0)
    beat.beat(state=WorkerState((runs, gone), stopped=("h:2",), cpu=0.5, memory=1000))
    clock.now = 11.0
    assert dispatcher.presence.workers() == [
        WorkerStatus(
            name="h:1",
            slots=2,
            busy=1,
            running=(RunningTask(slot=0, job="j", index=0, age=3.0, done=3, total=7),),
            heard=1.0,
            connected=11.0,
            cpu=0.5,
            memory=1000,
            stopped=("h:2",),
            local=False,
            security="not encrypted",
            dq="1.2",
            python="3.11.7",
        )
    ]


def test_a_worker_is_drained_by_its_name_but_not_one_of_the_masters_own(
    clients: FakeClients,
) -> None:
    dispatcher = clients.dispatcher()
    dispatcher.presence.local_group = "own"
    drain = dispatcher.presence.drain_worker
    own = clients.connect(dispatcher)
    own.hello("own", role="supervisor")
    assert not drain("h:1")
    supervisor = clients.connect(dispatcher)
    supervisor.hello(role="supervisor")
    beat = beat_of(clients, supervisor)
    assert not drain("h:2")
    assert drain("h:1")
    assert drain("h:1", now=True)
    commands, *_ = beat.beat()
    assert [what for _, what, *_ in commands] == ["drain", "leave"]
