"""What supervisors report of dead processes."""

from __future__ import annotations

import pytest

from dq.core.jobs import Rules
from dq.core.records import Failed
from dq.dispatch import death_reports
from dq.dispatch.dispatcher import Dispatcher
from dq.manager.worker_endpoint import WorkerEndpoint
from support.connections import FakeClient, FakeClients, grant_of, open_job


def test_a_supervisors_word_charges_the_task_that_its_process_died_in(clients: FakeClients) -> None:
    dispatcher = clients.dispatcher()
    served = open_job(dispatcher, [3], Rules(max_deaths=1))
    worker, supervisor = clients.connect(dispatcher), clients.connect(dispatcher)
    worker.hello()
    supervisor.hello(role="supervisor")
    lease, *_ = grant_of(worker.exchange())
    supervisor.ask(
        WorkerEndpoint(dispatcher).charge, dispatcher.run, "died", lease, 0, 1, "signal 9"
    )
    [record] = dispatcher.delivery.read(served, 5) or []
    assert isinstance(record.outcome, Failed)
    assert record.outcome.failure.type == "WorkerDied"


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A master waits for reports of deaths for an hour."""
    monkeypatch.setattr(death_reports, "DEATH_REPORT_TIMEOUT_S", 3600.0)


def connect(clients: FakeClients, dispatcher: Dispatcher) -> tuple[FakeClient, FakeClient]:
    """A supervisor, and the slot of its process h:2."""
    supervisor, slot = clients.connect(dispatcher), clients.connect(dispatcher)
    supervisor.hello(role="supervisor")
    slot.hello(name="h:2")
    return supervisor, slot


def say_ended(supervisor: FakeClient, process: str) -> None:
    """Report that a process has ended."""
    dispatcher = supervisor.dispatcher
    charge = WorkerEndpoint(dispatcher).charge
    supervisor.ask(charge, dispatcher.run, "ended", 0, 0, 1, process)


def test_what_was_sent_to_a_process_that_was_dead_waits_for_no_charge(
    clients: FakeClients, patient: None
) -> None:
    dispatcher = clients.dispatcher()
    supervisor, dead = connect(clients, dispatcher)
    open_job(dispatcher, [3], Rules(max_deaths=1))
    lease, *_ = grant_of(dead.exchange())
    say_ended(supervisor, "h:2")
    dead.leave()
    other = clients.connect(dispatcher)
    other.hello(name="h:3")
    again, *_ = grant_of(other.exchange())
    assert again != lease


def test_the_end_of_a_process_says_nothing_of_another(clients: FakeClients, patient: None) -> None:
    dispatcher = clients.dispatcher()
    supervisor, dead = connect(clients, dispatcher)
    stranger = clients.connect(dispatcher)
    stranger.hello("another", role="supervisor")
    served = open_job(dispatcher, [3], Rules(max_deaths=1))
    lease, *_ = grant_of(dead.exchange())
    say_ended(supervisor, "h:4")
    say_ended(stranger, "h:2")
    left = dead.start_leaving()
    charge = WorkerEndpoint(dispatcher).charge
    supervisor.ask(charge, dispatcher.run, "died", lease, 0, 1, "signal 9")
    left.result(10)
    [record] = dispatcher.delivery.read(served, 5) or []
    assert isinstance(record.outcome, Failed)
