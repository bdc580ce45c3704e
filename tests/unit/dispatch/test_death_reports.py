"""What supervisors report of dead processes."""

from __future__ import annotations

import pytest

from dq.core.jobs import Rules
from dq.core.records import Failed
from dq.dispatch import death_reports
from dq.manager.worker_endpoint import WorkerEndpoint
from support.connections import FakeClients, grant_of, open_job


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


def test_what_was_sent_to_a_process_that_was_dead_waits_for_no_charge(
    clients: FakeClients, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(death_reports, "DEATH_REPORT_TIMEOUT_S", 3600.0)
    dispatcher = clients.dispatcher()
    supervisor, dead, other = (clients.connect(dispatcher) for _ in range(3))
    supervisor.hello(role="supervisor")
    dead.hello(name="h:2")
    charge = WorkerEndpoint(dispatcher).charge
    open_job(dispatcher, [3], Rules(max_deaths=1))
    lease, *_ = grant_of(dead.exchange())
    supervisor.ask(charge, dispatcher.run, "ended", 0, 0, 1, "h:2")
    dead.leave()
    other.hello(name="h:3")
    again, *_ = grant_of(other.exchange())
    assert again != lease


def test_the_end_of_a_process_says_nothing_of_another(
    clients: FakeClients, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(death_reports, "DEATH_REPORT_TIMEOUT_S", 3600.0)
    dispatcher = clients.dispatcher()
    supervisor, stranger, dead = (clients.connect(dispatcher) for _ in range(3))
    supervisor.hello(role="supervisor")
    stranger.hello("another", role="supervisor")
    dead.hello(name="h:2")
    charge = WorkerEndpoint(dispatcher).charge
    served = open_job(dispatcher, [3], Rules(max_deaths=1))
    lease, *_ = grant_of(dead.exchange())
    supervisor.ask(charge, dispatcher.run, "ended", 0, 0, 1, "h:4")
    stranger.ask(charge, dispatcher.run, "ended", 0, 0, 1, "h:2")
    left = dead.start_leaving()
    supervisor.ask(charge, dispatcher.run, "died", lease, 0, 1, "signal 9")
    left.result(10)
    [record] = dispatcher.delivery.read(served, 5) or []
    assert isinstance(record.outcome, Failed)
