"""Outcomes, on their way to readers."""

from __future__ import annotations

from typing import cast

from dq.core.records import Done
from dq.data import batches
from support.connections import FakeClients, open_job, outcome_of


def test_outcomes_come_to_be_read(clients: FakeClients) -> None:
    dispatcher = clients.dispatcher()
    served = open_job(dispatcher, [3])
    worker = clients.connect(dispatcher)
    worker.hello()
    worker.exchange(outcome_of(dispatcher, worker.exchange(), [9]), wait=0.0)
    [record] = dispatcher.delivery.read(served, 5) or []
    assert batches.load(cast(Done, record.outcome).blob) == [9]
    assert record.worker == "h:1"
