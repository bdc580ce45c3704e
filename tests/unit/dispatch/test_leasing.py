"""What dq's own workers are given, and when."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import cast

import pytest

from dq.core.jobs import Rules
from dq.core.records import Failed, Failure
from dq.data import batches
from dq.data.sources import Source
from dq.dispatch.dispatcher import Dispatcher
from dq.dispatch.served_job import ServedJob
from dq.dispatch.worker_requests import SEND_AT_ONCE_BYTES
from dq.manager.messages import ReportMessage
from dq.manager.worker_endpoint import ANSWERED, WorkerEndpoint
from support import wait_until
from support.connections import SPEC, FakeClient, FakeClients, grant_of, open_job, outcome_of


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
    worker.ask(WorkerEndpoint(dispatcher).exchange, None, -1, 60.0)
    dispatcher.stop()
    assert worker.received()[0] == "stop"


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


# Requests that are kept until there is something


def keep_request(worker: FakeClient, wait: float = 60.0) -> None:
    """Ask for a batch; the thread of the connection is free again at once."""
    worker.ask(WorkerEndpoint(worker.dispatcher).exchange, None, -1, wait)


def calls(clients: FakeClients, count: int) -> tuple[ServedJob, list[FakeClient]]:
    """A job of pushed inputs, and workers that wait for one, the newest last."""
    dispatcher = clients.dispatcher()
    served = dispatcher.jobs.open(SPEC, Rules(), Source(iter(())))
    workers = [clients.connect(dispatcher) for _ in range(count)]
    for number, worker in enumerate(workers):
        worker.hello(str(number))
        keep_request(worker)
    return served, workers


def values_of(answer: tuple[object, ...]) -> list[object]:
    return batches.load(grant_of(answer)[5])


def test_workers_that_wait_share_a_job_that_is_opened_later(clients: FakeClients) -> None:
    dispatcher = clients.dispatcher()
    workers = [clients.connect(dispatcher) for _ in range(3)]
    for worker in workers:
        worker.hello()
        keep_request(worker)
    open_job(dispatcher, [3, 4, 5])
    values = sorted(cast(int, values_of(worker.received())[0]) for worker in workers)
    assert values == [3, 4, 5]


def test_a_request_is_answered_when_its_time_is_up(clients: FakeClients) -> None:
    dispatcher = clients.dispatcher()
    patient, hasty = clients.connect(dispatcher), clients.connect(dispatcher)
    for worker, wait in ((patient, 60.0), (hasty, 0.05)):
        worker.hello()
        keep_request(worker, wait)
    assert hasty.received()[0] == "idle"
    assert patient.channel.sent.empty()


def push(dispatcher: Dispatcher, served: ServedJob, item: object) -> None:
    dispatcher.feeding.push(served, item)
    dispatcher.feeding.hand_out()


def test_a_pushed_input_is_sent_by_the_thread_that_pushes_it(clients: FakeClients) -> None:
    served, [first, last] = calls(clients, 2)
    dispatcher = first.dispatcher
    push(dispatcher, served, 3)
    assert not last.channel.sent.empty()  # already
    push(dispatcher, served, 4)
    assert values_of(last.received()) == [3]
    assert values_of(first.received()) == [4]


def test_a_pushed_input_for_a_worker_that_is_gone_is_anothers(clients: FakeClients) -> None:
    served, [here, gone] = calls(clients, 2)
    gone.channel.ended.set()
    push(here.dispatcher, served, 3)
    gone.leave()
    assert values_of(here.received()) == [3]


def test_a_pushed_input_that_cannot_be_pickled_leaves_the_worker_to_the_next(
    clients: FakeClients,
) -> None:
    served, [worker] = calls(clients, 1)
    push(worker.dispatcher, served, threading.Lock())
    push(worker.dispatcher, served, 4)
    assert values_of(worker.received()) == [4]


@pytest.mark.parametrize(
    ("size", "is_full"), [(SEND_AT_ONCE_BYTES + 1, False), (1, True)], ids=["slow", "full"]
)
def test_a_worker_to_which_sending_blocks_holds_up_neither_the_caller_nor_others(
    clients: FakeClients, monkeypatch: pytest.MonkeyPatch, size: int, is_full: bool
) -> None:
    served, [other, slow] = calls(clients, 2)
    slow.channel.is_full = is_full
    drained = threading.Event()
    send = slow.channel.send

    def send_slowly(answer: object) -> None:
        assert drained.wait(10)
        send(answer)

    monkeypatch.setattr(slow.channel, "send", send_slowly)
    push(slow.dispatcher, served, "x" * size)  # returns
    push(slow.dispatcher, served, 4)
    assert values_of(other.received()) == [4]
    assert slow.channel.sent.empty()
    drained.set()
    assert values_of(slow.received()) == ["x" * size]


def test_results_are_read_while_the_next_batch_is_still_on_its_way(
    clients: FakeClients, monkeypatch: pytest.MonkeyPatch
) -> None:
    dispatcher = clients.dispatcher()
    served = open_job(dispatcher, [3, "x" * (SEND_AT_ONCE_BYTES + 1)])
    worker = clients.connect(dispatcher)
    worker.hello()
    first = outcome_of(dispatcher, worker.exchange(), [9])
    drained = threading.Event()
    monkeypatch.setattr(worker.channel, "send", lambda answer: drained.wait(10))
    with ThreadPoolExecutor(1) as reader:
        records = reader.submit(dispatcher.delivery.read, served, 10)
        sending = worker.start(WorkerEndpoint(dispatcher).exchange, first.to_wire(), -1, 60.0)
        assert records.result(10)
        assert not sending.done()
        drained.set()


def test_who_asks_again_before_the_answer_is_disconnected(clients: FakeClients) -> None:
    dispatcher = clients.dispatcher()
    hasty = clients.connect(dispatcher)
    hasty.hello()
    keep_request(hasty)
    with pytest.raises(EOFError):
        keep_request(hasty)


def test_a_worker_that_leaves_while_it_waits_is_given_nothing(clients: FakeClients) -> None:
    served, [worker] = calls(clients, 1)
    worker.leave()
    push(worker.dispatcher, served, 3)
    assert len(worker.dispatcher.pending) == 0
    assert worker.channel.sent.empty()
    assert served.job.unbatched == 1


def test_the_thread_of_an_encrypted_connection_does_not_read_before_the_answer(
    clients: FakeClients,
) -> None:
    """One thread must not send over TLS while another receives."""
    dispatcher = clients.dispatcher()
    served = dispatcher.jobs.open(SPEC, Rules(), Source(iter(())))
    worker = clients.connect(dispatcher)
    worker.channel.is_encrypted = True
    worker.hello()
    waiting = worker.start(WorkerEndpoint(worker.dispatcher).exchange, None, -1, 60.0)
    wait_until(lambda: len(worker.dispatcher.pending) == 1)
    assert not waiting.done()
    push(worker.dispatcher, served, 3)
    assert waiting.result(10) is ANSWERED
    assert values_of(worker.received()) == [3]


def test_the_thread_of_an_encrypted_connection_notices_its_end(
    clients: FakeClients, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dq.dispatch.worker_requests.LIVENESS_CHECK_S", 0.02)
    worker = clients.connect(clients.dispatcher())
    worker.channel.is_encrypted = True
    worker.hello()
    waiting = worker.start(WorkerEndpoint(worker.dispatcher).exchange, None, -1, 60.0)
    wait_until(lambda: len(worker.dispatcher.pending) == 1)
    worker.channel.ended.set()
    with pytest.raises(EOFError):
        waiting.result(10)
    assert len(worker.dispatcher.pending) == 0


def test_a_batch_that_is_delayed_is_sent_when_it_is_due(clients: FakeClients) -> None:
    dispatcher = clients.dispatcher()
    open_job(dispatcher, [3], Rules(retries=1, retry_delay=0.05))
    first, second = clients.connect(dispatcher), clients.connect(dispatcher)
    first.hello("a")
    second.hello("b")
    lease, _, start, *_ = grant_of(first.exchange())
    failed = (Failed(Failure("ValueError", "")),)
    report = ReportMessage(dispatcher.run, lease, start, failed)
    first.exchange(report, wait=0.0)
    keep_request(second)
    assert values_of(second.received()) == [3]
