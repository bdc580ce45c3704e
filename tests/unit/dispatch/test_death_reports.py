"""What supervisors report of dead processes."""

from __future__ import annotations

from dq.core.jobs import Rules
from dq.core.records import Failed
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
