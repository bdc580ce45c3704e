"""A master's own inputs, done by plain clients."""

from __future__ import annotations

from typing import cast

from dq.core.records import Done, Failed
from dq.data import batches
from dq.manager.endpoints import TaskQueue
from support.connections import FakeClients, open_job


def test_each_value_answers_the_oldest_of_the_masters_inputs_that_is_held(
    clients: FakeClients,
) -> None:
    dispatcher = clients.dispatcher()
    served = open_job(dispatcher, [3, 4])
    me = clients.connect(dispatcher)
    assert [me.get(), me.get()] == [3, 4]
    me.answer(9)
    me.answer(16)
    records = dispatcher.delivery.read(served, 5) or []
    found = {record.batch.start: record.outcome for record in records}
    assert {i: batches.load(cast(Done, o).blob) for i, o in found.items()} == {0: [9], 1: [16]}
    assert dispatcher.delivery.read(served, 5) is None


def test_a_value_of_one_who_holds_nothing_is_a_plain_result(clients: FakeClients) -> None:
    me = clients.connect(clients.dispatcher())
    me.answer("plain")
    assert me.result() == "plain"


def test_one_of_the_masters_inputs_is_not_settled_by_the_next_request(clients: FakeClients) -> None:
    dispatcher = clients.dispatcher()
    open_job(dispatcher, [3])
    me, other = clients.connect(dispatcher), clients.connect(dispatcher)
    assert me.get() == 3
    me.ask(TaskQueue(dispatcher).qsize)
    me.leave()
    assert other.get() == 3


def test_an_input_whose_holder_ends_three_times_is_a_worker_that_died(clients: FakeClients) -> None:
    dispatcher = clients.dispatcher()
    served = open_job(dispatcher, [3])
    for _ in range(3):
        me = clients.connect(dispatcher)
        assert me.get() == 3
        me.leave()
    [record] = dispatcher.delivery.read(served, 5) or []
    assert isinstance(record.outcome, Failed)
    assert record.outcome.failure.type == "WorkerDied"
