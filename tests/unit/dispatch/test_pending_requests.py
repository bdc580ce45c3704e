"""Requests that wait: which of them are woken, and that none misses what comes."""

from __future__ import annotations

import threading
from typing import cast

import pytest

from dq.core.jobs import Rules
from dq.core.leases import LeaseHolder
from dq.dispatch.connections import Connection
from dq.dispatch.pending_requests import PendingRequest, PendingRequests
from dq.dispatch.state import DispatchState
from dq.transport.channel import Channel
from support.fakes import FakeChannel


@pytest.fixture
def state() -> DispatchState:
    state = DispatchState(clock=lambda: 0.0)
    state.board.open_job("j", Rules())
    return state


def waiting(pending: PendingRequests, count: int) -> list[PendingRequest]:
    """So many requests, the newest last."""
    requests = []
    for number in range(count):
        connection = Connection(cast(Channel, FakeChannel()), LeaseHolder(number))
        requests.append(PendingRequest(connection, most=None, send=None))
        pending.add(requests[-1])
    return requests


def woken(requests: list[PendingRequest]) -> list[bool]:
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
    pending.announce()
    assert woken(requests) == [True, True]


def test_who_has_waited_long_enough_no_longer_waits(state: DispatchState) -> None:
    pending = PendingRequests(state)
    [request] = waiting(pending, 1)
    pending.wait(request, 0.0)
    assert len(pending) == 0


def test_a_request_that_is_being_served_when_its_time_is_up_waits_for_that(
    state: DispatchState,
) -> None:
    pending = PendingRequests(state)
    [request] = waiting(pending, 1)
    pending.remove(request)
    late = threading.Timer(0.05, request.bell.release)
    late.start()
    pending.wait(request, 0.0)
    assert late.finished.is_set()
