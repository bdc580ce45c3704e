"""Jobs that only some workers may have, that are not to go faster, or that try slow tasks twice."""

from __future__ import annotations

import pytest

from dq.core.jobs import Rules
from dq.core.records import Done
from dq.data import batches
from dq.data.sources import Source
from dq.dispatch.dispatcher import Dispatcher, plain_rules
from dq.errors import ProtocolError
from dq.manager.messages import ReportMessage
from dq.manager.worker_endpoint import WorkerEndpoint
from support.connections import SPEC, FakeClients, grant_of, open_job, outcome_of
from support.fakes import FakeClock

GPU = Rules(needs=frozenset(["gpu"]))


def notes_of(dispatcher: Dispatcher) -> list[str]:
    with dispatcher.lock:
        return [note.line for note in dispatcher.presence.notes()]


def test_a_job_goes_to_a_worker_with_its_tags_however_many_others_wait(
    clients: FakeClients,
) -> None:
    dispatcher = clients.dispatcher()
    others = [clients.connect(dispatcher) for _ in range(3)]
    able = clients.connect(dispatcher)
    able.hello("able", tags=("eu", "gpu"))
    ask = WorkerEndpoint(dispatcher).exchange
    able.start(ask, None, -1, 10.0)
    for number, other in enumerate(others):
        other.hello(f"other {number}", tags=("eu",))
        assert other.exchange(wait=0.0)[0] == "idle"
        other.start(ask, None, -1, 10.0)  # the newest that wait
    open_job(dispatcher, [3], GPU)
    grant_of(able.received())


def test_a_job_for_one_worker_gets_there_and_leaves_nothing_behind(clients: FakeClients) -> None:
    dispatcher = clients.dispatcher()
    able, other = (clients.connect(dispatcher) for _ in range(2))
    ask = WorkerEndpoint(dispatcher).exchange
    able.hello("able")
    able.start(ask, None, -1, 10.0)
    other.hello("other")
    other.start(ask, None, -1, 10.0)  # the newest that waits
    served = dispatcher.jobs.open(SPEC, Rules(), Source([3]), only_for="able")
    grant_of(able.received())
    assert dispatcher.pending.is_selective()
    dispatcher.jobs.close(served)
    assert not dispatcher.pending.is_selective()  # each batch would wake all that wait


def test_what_a_worker_with_the_tags_had_waits_for_another_with_them(clients: FakeClients) -> None:
    dispatcher = clients.dispatcher()
    open_job(dispatcher, [3], GPU)
    first, other, second = (clients.connect(dispatcher) for _ in range(3))
    first.hello("first", tags=("gpu",))
    first.exchange()
    first.leave()
    other.hello("other")
    assert other.exchange(wait=0.0)[0] == "idle"
    second.hello("second", tags=("gpu",))
    grant_of(second.exchange())


def test_a_plain_client_has_no_tags(clients: FakeClients) -> None:
    dispatcher = clients.dispatcher()
    open_job(dispatcher, [3], GPU)
    plain = clients.connect(dispatcher)
    plain.put(4)
    assert plain.get() == 4


def test_a_job_that_no_worker_may_have_is_told_once_after_a_while(clients: FakeClients) -> None:
    clock = FakeClock()
    dispatcher = clients.dispatcher(clock=clock)
    open_job(dispatcher, [3], GPU)
    worker = clients.connect(dispatcher)
    worker.hello("other", tags=("eu",))
    said = []
    for second in range(1, 20):
        clock.now = float(second)
        said += [(second, line) for line in notes_of(dispatcher)]
    told = "no connected worker has the tag gpu, which app:square needs"
    assert said == [(6, f"{told}; start one with dq worker --tags gpu")]


def test_a_job_whose_worker_is_there_is_not_told_of(clients: FakeClients) -> None:
    clock = FakeClock()
    dispatcher = clients.dispatcher(clock=clock)
    open_job(dispatcher, [3], GPU)
    clients.connect(dispatcher).hello("able", tags=("gpu",))
    for second in range(1, 20):
        clock.now = float(second)
        assert notes_of(dispatcher) == []


@pytest.mark.parametrize("tags", ["gpu", [b"gpu"], ["x"] * 1000, None])
def test_tags_that_are_none_are_refused(clients: FakeClients, tags: object) -> None:
    with pytest.raises((ProtocolError, ValueError)):
        clients.connect(clients.dispatcher()).hello(tags=tags)


def test_a_request_is_answered_when_the_rate_allows_it(clients: FakeClients) -> None:
    dispatcher = clients.dispatcher()
    open_job(dispatcher, [1, 2, 3], Rules(rate=20.0))
    worker = clients.connect(dispatcher)
    worker.hello()
    started = dispatcher.clock()
    answer = worker.exchange()
    for _ in range(2):
        answer = worker.exchange(outcome_of(dispatcher, answer, [0]))
    assert grant_of(answer)[2] == 2
    assert dispatcher.clock() - started >= 0.09


def test_a_plain_client_waits_for_the_rate_too(clients: FakeClients) -> None:
    dispatcher = clients.dispatcher()
    open_job(dispatcher, [1, 2, 3], Rules(rate=20.0))
    plain = clients.connect(dispatcher)
    started = dispatcher.clock()
    assert [plain.get() for _ in range(3)] == [1, 2, 3]
    assert dispatcher.clock() - started >= 0.09


def test_the_items_of_plain_clients_have_the_rate_and_the_needs_of_the_masters_jobs() -> None:
    rules = Rules(retries=3, rate=5.0, needs=frozenset(["gpu"]))
    plain = plain_rules(rules)
    assert (plain.rate, plain.needs, plain.retries) == (5.0, {"gpu"}, 0)


def test_a_slow_task_is_leased_to_a_waiting_worker_and_its_first_outcome_counts(
    clients: FakeClients,
) -> None:
    dispatcher = clients.dispatcher()
    served = open_job(dispatcher, [0, 1, 2, 3], Rules(batch=1, speculate=True))
    slow, fast = clients.connect(dispatcher), clients.connect(dispatcher)
    slow.hello("slow")
    fast.hello("fast")
    held = slow.exchange()
    answer = fast.exchange()
    for _ in range(2):
        answer = fast.exchange(outcome_of(dispatcher, answer, [0]))
    copy = fast.exchange(outcome_of(dispatcher, answer, [0]))  # waits until the first is slow
    assert grant_of(copy)[2] == grant_of(held)[2] == 0
    fast.exchange(outcome_of(dispatcher, copy, ["fast"]), wait=0.0)
    assert served.job.finished
    lease = grant_of(held)[0]
    late = ReportMessage(dispatcher.run, lease, 0, (Done(1, batches.dump(["slow"])),), busy=1.0)
    slow.exchange(late, wait=0.0)
    records = dispatcher.delivery.read(served)
    assert records is not None
    assert sorted(record.batch.start for record in records) == [0, 1, 2, 3]
    [first] = [record for record in records if record.batch.start == 0]
    assert isinstance(first.outcome, Done)
    assert batches.load(first.outcome.blob) == ["fast"]
    assert served.job.counts.dropped == 1


def test_the_other_copy_of_a_task_is_ended(clients: FakeClients) -> None:
    dispatcher = clients.dispatcher()
    open_job(dispatcher, [0, 1, 2, 3], Rules(batch=1, speculate=True))
    slow, fast, beat, supervisor = (clients.connect(dispatcher) for _ in range(4))
    supervisor.hello("slow", role="supervisor")
    slow.hello("slow")
    fast.hello("fast")
    beat.hello("slow", role="beat")
    held = slow.exchange()
    answer = fast.exchange()
    for _ in range(3):
        answer = fast.exchange(outcome_of(dispatcher, answer, [0]))
    fast.exchange(outcome_of(dispatcher, answer, [0]), wait=0.0)
    told = repr(beat.beat())
    assert "cancel" in told
    assert str(grant_of(held)[0]) in told
