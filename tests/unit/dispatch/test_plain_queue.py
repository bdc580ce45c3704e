"""Items and results of plain clients."""

from __future__ import annotations

import queue

import pytest

from dq.core.records import Failed, Failure
from dq.data import batches
from dq.dispatch.served_job import PLAIN
from dq.functions.spec import JobSpec
from dq.manager.endpoints import ResultQueue, TaskQueue
from dq.manager.messages import ReportMessage
from support.connections import SQUARE, FakeClients, grant_of, outcome_of


def test_items_come_in_the_order_they_were_put(clients: FakeClients) -> None:
    me = clients.connect(clients.dispatcher())
    for item in range(5):
        me.put(item)
    assert [me.get() for _ in range(5)] == list(range(5))


def test_an_empty_queue_is_empty_at_once_or_in_time(clients: FakeClients) -> None:
    me = clients.connect(clients.dispatcher())
    for args in [(False,), (True, 0.05)]:
        with pytest.raises(queue.Empty):
            me.ask(TaskQueue(me.dispatcher).get, *args)
        with pytest.raises(queue.Empty):
            me.ask(ResultQueue(me.dispatcher).get, *args)


def test_a_full_queue_is_full_until_an_item_is_got(clients: FakeClients) -> None:
    me = clients.connect(clients.dispatcher(maxsize=1))
    me.put("a")
    assert me.ask(TaskQueue(me.dispatcher).full)
    for args in [("b", False), ("b", True, 0.05)]:
        with pytest.raises(queue.Full):
            me.ask(TaskQueue(me.dispatcher).put, *args)
    me.get()
    me.put("b")


def test_a_negative_time_out_is_refused_as_by_queue(clients: FakeClients) -> None:
    me = clients.connect(clients.dispatcher())
    with pytest.raises(ValueError, match="non-negative"):
        me.ask(TaskQueue(me.dispatcher).get, True, -1)


def test_who_waits_gets_what_another_puts(clients: FakeClients) -> None:
    dispatcher = clients.dispatcher()
    me, other = clients.connect(dispatcher), clients.connect(dispatcher)
    waiting = me.start(TaskQueue(dispatcher).get)
    other.put("late")
    assert waiting.result(10) == "late"


def test_what_a_connection_held_is_given_out_again_when_it_ends(clients: FakeClients) -> None:
    dispatcher = clients.dispatcher()
    me, other = clients.connect(dispatcher), clients.connect(dispatcher)
    other.put("a")
    assert me.get() == "a"
    me.leave()
    assert other.get() == "a"


def test_an_item_is_settled_by_its_holders_next_request(clients: FakeClients) -> None:
    dispatcher = clients.dispatcher()
    me, other = clients.connect(dispatcher), clients.connect(dispatcher)
    other.put("a")
    me.get()
    me.ask(TaskQueue(dispatcher).qsize)
    me.leave()
    assert other.ask(TaskQueue(dispatcher).empty)


def test_with_redeliver_off_what_was_got_is_gone(clients: FakeClients) -> None:
    dispatcher = clients.dispatcher(redeliver=False)
    me, other = clients.connect(dispatcher), clients.connect(dispatcher)
    other.put("a")
    me.get()
    me.leave()
    assert other.ask(TaskQueue(dispatcher).empty)


def test_a_client_that_went_while_it_waited_swallows_nothing(clients: FakeClients) -> None:
    dispatcher = clients.dispatcher()
    me, other = clients.connect(dispatcher), clients.connect(dispatcher)
    waiting = me.start(TaskQueue(dispatcher).get)
    me.channel.ended.set()
    other.put("a")
    with pytest.raises(EOFError):
        waiting.result(10)
    assert other.get() == "a"


def test_a_result_that_its_getter_never_received_is_there_again(clients: FakeClients) -> None:
    dispatcher = clients.dispatcher()
    me, other = clients.connect(dispatcher), clients.connect(dispatcher)
    other.answer("r")
    me._thread.submit(ResultQueue(dispatcher).get).result(10)  # and nothing was sent
    me.leave()
    assert other.result() == "r"


def test_join_waits_for_task_done(clients: FakeClients) -> None:
    dispatcher = clients.dispatcher()
    me, other = clients.connect(dispatcher), clients.connect(dispatcher)
    me.put("a")
    joined = other.start(TaskQueue(dispatcher).join)
    me.get()
    assert not joined.done()
    me.ask(TaskQueue(dispatcher).task_done)
    joined.result(10)


def test_task_done_without_a_task_is_refused_as_by_queue(clients: FakeClients) -> None:
    me = clients.connect(clients.dispatcher())
    with pytest.raises(ValueError, match="too many times"):
        me.ask(TaskQueue(me.dispatcher).task_done)


def test_a_stopped_master_ends_who_waits(clients: FakeClients) -> None:
    dispatcher = clients.dispatcher()
    waiting = clients.connect(dispatcher).start(TaskQueue(dispatcher).get)
    dispatcher.stop()
    with pytest.raises(EOFError):
        waiting.result(10)


def test_what_a_worker_does_for_a_plain_client_is_a_bare_result(clients: FakeClients) -> None:
    dispatcher = clients.dispatcher(default=JobSpec(PLAIN, SQUARE))
    client, worker = clients.connect(dispatcher), clients.connect(dispatcher)
    worker.hello()
    client.put(3)
    worker.exchange(outcome_of(dispatcher, worker.exchange(), [9]), wait=0.0)
    assert client.result() == 9


def test_a_failure_for_a_plain_client_is_a_runtime_error(clients: FakeClients) -> None:
    dispatcher = clients.dispatcher(default=JobSpec(PLAIN, SQUARE))
    client, worker = clients.connect(dispatcher), clients.connect(dispatcher)
    worker.hello()
    client.put("x")
    lease, _, start, *_ = grant_of(worker.exchange())
    failed = Failed(Failure("TypeError", "no", "Traceback"))
    worker.exchange(ReportMessage(dispatcher.run, lease, start, (failed,)), wait=0.0)
    error = client.result()
    assert isinstance(error, RuntimeError)
    assert error.args == ("TypeError", "no", "Traceback")


def test_without_a_function_plain_items_go_to_workers_that_have_one(clients: FakeClients) -> None:
    dispatcher = clients.dispatcher()
    client, without, having = (clients.connect(dispatcher) for _ in range(3))
    client.put(3)
    without.hello("a")
    having.hello("b", default=True)
    assert without.exchange(wait=0.0)[0] == "idle"
    assert batches.load(grant_of(having.exchange())[5]) == [3]
