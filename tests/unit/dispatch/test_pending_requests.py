"""Requests that wait: which of them are woken, and that none misses what comes."""

from __future__ import annotations

from typing import cast

import pytest

from dq.core.jobs import Rules
from dq.core.leases import LeaseHolder
from dq.dispatch.connections import Connection
from dq.dispatch.pending_requests import PendingRequests, WaitingThread, WorkerRequest
from dq.dispatch.state import DispatchState
from dq.transport.channel import Channel
from support.fakes import FakeChannel


@pytest.fixture
def state() -> DispatchState:
    state = DispatchState(clock=lambda: 0.0)
    state.board.open_job("j", Rules())
    return state


def waiting(pending: PendingRequests, count: int) -> list[WaitingThread]:
    """So many requests, the newest last."""
    requests = []
    for number in range(count):
        connection = Connection(cast(Channel, FakeChannel()), LeaseHolder(number))
        requests.append(WaitingThread(connection))
        pending.add(requests[-1])
    return requests


def woken(requests: list[WaitingThread]) -> list[bool]:
    return [not request.bell.locked() for request in requests]


def test_the_newest_is_woken_for_what_comes(state: DispatchState) -> None:
    pending = PendingRequests(state)
    requests = waiting(pending, 3)
    state.board.supply("j", 1)
    pending.announce()
    assert woken(requests) == [False, False, True]
    assert len(pending) == 2


def test_none_is_woken_for_nothing(state: DispatchState) -> None:
    pending = PendingRequests(state)
    requests = waiting(pending, 2)
    pending.announce()
    assert (woken(requests), pending.announced) == ([False, False], 0)


def test_all_are_woken_where_one_might_not_be_allowed_to_have_it(state: DispatchState) -> None:
    pending = PendingRequests(state)
    requests = waiting(pending, 2)
    pending.has_refusals = True
    state.board.supply("j", 1)
    with state.lock:
        pending.announce()
    assert woken(requests) == [True, True]


def test_who_has_waited_long_enough_no_longer_waits(state: DispatchState) -> None:
    pending = PendingRequests(state)
    [request] = waiting(pending, 1)
    pending.wait(request, 0.0)
    assert len(pending) == 0


def test_a_workers_request_stays_pending_when_something_is_announced(state: DispatchState) -> None:
    """Who answers it removes it, so that nobody has to add it again if there was nothing."""
    pending = PendingRequests(state)
    [thread] = waiting(pending, 1)
    connection = Connection(cast(Channel, FakeChannel()), LeaseHolder(9))
    pending.add(request := WorkerRequest(connection, None, 60.0, lambda lease: None))
    state.board.supply("j", 1)
    with state.lock:
        pending.announce()
    assert pending.newest_of_worker() is request
    assert (woken([thread]), request.open.locked()) == ([False], True)


def test_an_answer_that_cannot_be_sent_ends_the_connection() -> None:
    channel = FakeChannel()

    def send(lease: object) -> None:
        raise BrokenPipeError

    connection = Connection(cast(Channel, channel), LeaseHolder(9))
    request = WorkerRequest(connection, None, 60.0, send)
    request.answer(None)
    assert channel.ended.is_set()
    assert not request.open.locked()
