"""Cancelled tasks and jobs, and what workers are told about them."""

from __future__ import annotations

from typing import cast

import pytest

from dq.core.beats import WorkerState
from dq.core.jobs import Rules
from dq.core.leases import LeaseHolder
from dq.core.records import Failed, Failure, Recorded
from dq.data import batches
from dq.dispatch.dispatcher import Dispatcher
from dq.dispatch.served_job import PLAIN, ServedJob
from dq.errors import ProtocolError
from dq.manager.messages import ReportMessage
from dq.manager.worker_endpoint import WorkerEndpoint
from support import wait_until
from support.connections import FakeClient, FakeClients, grant_of, open_job, outcome_of

ONE_BY_ONE = Rules(batch=1)


def connect(clients: FakeClients, dispatcher: Dispatcher) -> tuple[FakeClient, FakeClient]:
    """A worker: its slot, and the connection on which it gets commands."""
    slot = clients.connect(dispatcher)
    slot.hello()
    return slot, connect_supervisor(clients, dispatcher)[1]


def connect_supervisor(
    clients: FakeClients, dispatcher: Dispatcher
) -> tuple[FakeClient, FakeClient]:
    """A supervisor's two connections, the second of which is for commands."""
    supervisor, beat = (clients.connect(dispatcher) for _ in range(2))
    supervisor.hello(role="supervisor")
    beat.hello(role="beat")
    return supervisor, beat


def read(dispatcher: Dispatcher, served: ServedJob) -> list[tuple[int, object]]:
    """Which tasks have an outcome, and what it is."""

    def told(record: Recorded) -> tuple[int, object]:
        outcome = record.outcome
        if isinstance(outcome, Failed):
            return record.batch.start, str(outcome.failure)
        return record.batch.start, batches.load(cast(bytes, outcome.blob))

    return [told(record) for record in dispatcher.delivery.read(served, 5) or []]


CANCELLED = "CancelledError: it was cancelled"


def test_a_task_that_nobody_has_is_recorded_at_once_and_never_run(clients: FakeClients) -> None:
    dispatcher = clients.dispatcher()
    served = open_job(dispatcher, [1, 2, 3], ONE_BY_ONE)
    assert dispatcher.cancellation.cancel_task("j", 1)
    assert read(dispatcher, served) == [(1, CANCELLED)]
    slot, _ = connect(clients, dispatcher)
    answer = slot.exchange()
    for value in (1, 3):
        assert batches.load(grant_of(answer)[5]) == [value]
        answer = slot.exchange(outcome_of(dispatcher, answer, [value]), wait=0.0)
    assert read(dispatcher, served) == [(0, [1]), (2, [3])]
    assert served.finished


def test_a_job_whose_tasks_are_all_cancelled_is_over(clients: FakeClients) -> None:
    dispatcher = clients.dispatcher()
    served = open_job(dispatcher, [1, 2, 3])
    assert all(dispatcher.cancellation.cancel_task("j", index) for index in (2, 0, 1))
    assert sorted(read(dispatcher, served)) == [(index, CANCELLED) for index in range(3)]
    assert served.finished


@pytest.mark.parametrize("was_there", [False, True])
def test_a_task_that_is_cancelled_while_its_supervisor_is_not_there_is_ended(
    clients: FakeClients, was_there: bool
) -> None:
    dispatcher = clients.dispatcher()
    open_job(dispatcher, [1])
    slot = clients.connect(dispatcher)
    slot.hello()
    before = connect_supervisor(clients, dispatcher) if was_there else ()
    lease = grant_of(slot.exchange())[0]
    for connection in before:
        connection.leave()
    assert dispatcher.cancellation.cancel_task("j", 0)
    _, beat = connect_supervisor(clients, dispatcher)
    [(_, what, about, _)], *_ = beat.beat()
    assert (what, about) == ("cancel", lease)


def test_the_worker_of_a_running_task_is_told_and_what_it_reports_is_dropped(
    clients: FakeClients,
) -> None:
    dispatcher = clients.dispatcher()
    served = open_job(dispatcher, [1], Rules(batch=1, max_failures=1, retries=3))
    slot, beat = connect(clients, dispatcher)
    answer = slot.exchange()
    lease = grant_of(answer)[0]
    assert dispatcher.cancellation.cancel_task("j", 0)
    assert read(dispatcher, served) == [(0, CANCELLED)]
    [(number, what, about, index)], *_ = beat.beat()
    assert (what, about, index) == ("cancel", lease, 0)
    assert beat.beat()[0], "an answer that was lost is sent again"
    assert not beat.beat(seen=number)[0]
    slot.exchange(outcome_of(dispatcher, answer, [1]), wait=0.0)
    assert not read(dispatcher, served)
    assert served.job.counts.failed == 0
    assert served.job.stopped is None


def test_the_other_tasks_of_a_batch_are_leased_again_without_a_charge(clients: FakeClients) -> None:
    dispatcher = clients.dispatcher()
    served = open_job(dispatcher, [1, 2, 3], Rules(batch=3))
    slot, _ = connect(clients, dispatcher)
    lease = grant_of(slot.exchange())[0]
    assert dispatcher.cancellation.cancel_task("j", 1)
    assert read(dispatcher, served) == [(1, CANCELLED)]
    slot.ask(WorkerEndpoint(dispatcher).charge, dispatcher.run, "cancelled", lease, 0, 1, "")
    answer = slot.exchange()
    for index, value in ((0, 1), (2, 3)):
        assert grant_of(answer)[2:4] == (index, 1)
        answer = slot.exchange(outcome_of(dispatcher, answer, [value]), wait=0.0)
    assert read(dispatcher, served) == [(0, [1]), (2, [3])]
    assert served.finished
    assert not served.job.deaths


def test_tasks_that_were_reported_with_a_cancelled_one_are_run_again(clients: FakeClients) -> None:
    dispatcher = clients.dispatcher()
    served = open_job(dispatcher, [1, 2], Rules(batch=2))
    slot, _ = connect(clients, dispatcher)
    answer = slot.exchange()
    assert dispatcher.cancellation.cancel_task("j", 1)
    again = slot.exchange(outcome_of(dispatcher, answer, [1, 2]))
    assert grant_of(again)[2:4] == (0, 1)
    slot.exchange(outcome_of(dispatcher, again, [1]), wait=0.0)
    assert read(dispatcher, served) == [(1, CANCELLED), (0, [1])]


class CancelsWhenPickled:
    """An input that has its own task cancelled while the master pickles it."""

    def __init__(self, dispatcher: Dispatcher, index: int) -> None:
        self.how = dispatcher, index

    def __reduce__(self) -> tuple[type[list[object]], tuple[()]]:
        dispatcher, index = self.how
        dispatcher.cancellation.cancel_task("j", index)
        return list, ()


@pytest.mark.parametrize("cancelled", [0, 1])
def test_a_task_on_its_way_to_a_worker_is_cut_out(clients: FakeClients, cancelled: int) -> None:
    dispatcher = clients.dispatcher()
    inputs = [CancelsWhenPickled(dispatcher, cancelled), CancelsWhenPickled(dispatcher, cancelled)]
    served = open_job(dispatcher, list(inputs), Rules(batch=2))
    slot, _ = connect(clients, dispatcher)
    answer = slot.exchange()
    assert grant_of(answer)[2:4] == (1 - cancelled, 1)
    slot.exchange(outcome_of(dispatcher, answer, [5]), wait=0.0)
    assert read(dispatcher, served) == [(cancelled, CANCELLED), (1 - cancelled, [5])]
    assert served.finished


def test_a_task_is_cancelled_once_and_not_when_it_is_done(clients: FakeClients) -> None:
    dispatcher = clients.dispatcher()
    open_job(dispatcher, [1, 2], ONE_BY_ONE)
    slot, _ = connect(clients, dispatcher)
    slot.exchange(outcome_of(dispatcher, slot.exchange(), [1]), wait=0.0)
    cancel = dispatcher.cancellation.cancel_task
    assert [cancel("j", 0), cancel("j", 1), cancel("j", 1), cancel("j", 2)] == [
        False, True, False, False,
    ]  # fmt: skip
    assert not cancel("another", 0)


def test_what_plain_clients_have_put_cannot_be_cancelled(clients: FakeClients) -> None:
    dispatcher = clients.dispatcher()
    clients.connect(dispatcher).put(3)
    assert not dispatcher.cancellation.cancel_task(PLAIN, 0)
    assert not dispatcher.cancellation.cancel_job(PLAIN)


def test_a_cancelled_job_ends_when_its_workers_have_given_up_its_leases(
    clients: FakeClients,
) -> None:
    dispatcher = clients.dispatcher()
    served = open_job(dispatcher, [1, 2], ONE_BY_ONE)
    slot, beat = connect(clients, dispatcher)
    lease = grant_of(slot.exchange())[0]
    assert dispatcher.cancellation.cancel_job("j") == 1
    [(_, what, about, index)], *_ = beat.beat()
    assert (what, about, index) == ("cancel", lease, -1)
    assert not served.finished
    slot.ask(WorkerEndpoint(dispatcher).charge, dispatcher.run, "cancelled", lease, 0, 1, "")
    assert dispatcher.delivery.read(served, 5) is None


def test_too_many_failures_end_what_runs(clients: FakeClients) -> None:
    dispatcher = clients.dispatcher()
    open_job(dispatcher, [1, 2], Rules(batch=1, max_failures=1))
    slot, beat = connect(clients, dispatcher)
    other = clients.connect(dispatcher)
    other.hello()
    first = grant_of(slot.exchange())
    second = grant_of(other.exchange())
    failed = (Failed(Failure("ValueError", "no")),)
    slot.exchange(ReportMessage(dispatcher.run, first[0], first[2], failed, busy=0.1), wait=0.0)
    [(_, what, lease, _)], *_ = beat.beat()
    assert (what, lease) == ("cancel", second[0])


# How a worker gets commands


def test_a_beat_that_waits_is_answered_by_a_command(clients: FakeClients) -> None:
    dispatcher = clients.dispatcher()
    open_job(dispatcher, [1])
    slot, beat = connect(clients, dispatcher)
    slot.exchange()
    waiting = beat.start(WorkerEndpoint(dispatcher).beat, WorkerState().to_wire(), 0, 60.0)
    wait_until(lambda: not waiting.done())
    assert dispatcher.cancellation.cancel_task("j", 0)
    commands, *_ = waiting.result(10)
    assert [what for _, what, *_ in commands] == ["cancel"]


def test_a_later_connection_takes_over_the_commands(clients: FakeClients) -> None:
    dispatcher = clients.dispatcher()
    open_job(dispatcher, [1])
    slot, beat = connect(clients, dispatcher)
    slot.exchange()
    state = WorkerState(memory=1)
    waiting = beat.start(WorkerEndpoint(dispatcher).beat, state.to_wire(), 0, 60.0)
    wait_until(lambda: dispatcher.presence.workers()[0].memory == 1)
    later = clients.connect(dispatcher)
    later.hello(role="beat")
    assert not waiting.result(10)[0]
    with pytest.raises(ProtocolError, match="another connection"):
        beat.beat()
    assert dispatcher.cancellation.cancel_task("j", 0)
    assert later.beat()[0]


def test_the_more_workers_there_are_the_fewer_beats_each_sends(clients: FakeClients) -> None:
    dispatcher = clients.dispatcher()
    _, beat = connect(clients, dispatcher)
    assert beat.beat()[1] == 1.0
    for number in range(1000):
        dispatcher.commands.join(LeaseHolder(1000 + number, group=f"group {number}"))
    assert 5.0 < beat.beat()[1] <= 10.0
