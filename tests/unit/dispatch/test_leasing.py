"""What dq's own workers are given, and when."""

from __future__ import annotations

import threading
from dataclasses import replace

from dq.core.jobs import Rules
from dq.core.records import Failed
from dq.data import batches
from dq.data.sources import Source
from dq.manager.worker_endpoint import WorkerEndpoint
from support.connections import SPEC, FakeClients, grant_of, open_job, outcome_of


def test_a_batch_comes_with_its_jobs_spec_once(clients: FakeClients) -> None:
    dispatcher = clients.dispatcher()
    open_job(dispatcher, [3, 4])
    worker = clients.connect(dispatcher)
    worker.hello()
    first = worker.exchange()
    assert first[2] == (SPEC.to_wire(), [], [])
    assert batches.load(grant_of(first)[5]) == [3]
    second = worker.exchange(outcome_of(dispatcher, first, [9]))
    assert second[2] is None


def test_a_new_job_comes_with_word_of_those_that_have_ended(clients: FakeClients) -> None:
    dispatcher = clients.dispatcher()
    ended = open_job(dispatcher, [3])
    worker = clients.connect(dispatcher)
    worker.hello()
    worker.exchange(outcome_of(dispatcher, worker.exchange(), [9]), wait=0.0)
    dispatcher.jobs.close(ended)
    dispatcher.jobs.open(replace(SPEC, id="next"), Rules(), Source([4]))
    assert worker.exchange()[2] == (replace(SPEC, id="next").to_wire(), [SPEC.id], [])


def test_a_worker_without_work_is_idle_and_told_when_the_master_stops(clients: FakeClients) -> None:
    dispatcher = clients.dispatcher()
    worker = clients.connect(dispatcher)
    worker.hello()
    assert worker.exchange(wait=0.0)[0] == "idle"
    waiting = worker.start(WorkerEndpoint(dispatcher).exchange, None, -1, 60.0)
    dispatcher.stop()
    assert waiting.result(10)[0] == "stop"


def test_what_a_worker_had_goes_to_another_when_it_ends(clients: FakeClients) -> None:
    dispatcher = clients.dispatcher()
    open_job(dispatcher, [3])
    first, second = clients.connect(dispatcher), clients.connect(dispatcher)
    first.hello("a")
    second.hello("b")
    first.exchange()
    first.leave()
    assert batches.load(grant_of(second.exchange())[5]) == [3]


def test_an_input_that_cannot_be_pickled_fails_by_itself(clients: FakeClients) -> None:
    dispatcher = clients.dispatcher()
    served = open_job(dispatcher, [threading.Lock(), 4])
    worker = clients.connect(dispatcher)
    worker.hello()
    assert batches.load(grant_of(worker.exchange())[5]) == [4]
    [record] = dispatcher.delivery.read(served, 5) or []
    assert isinstance(record.outcome, Failed)
    assert "cannot be pickled" in record.outcome.failure.message
