"""What comes from workers that are none, or of another run."""

from __future__ import annotations

import pytest

from dq.core.records import Done
from dq.data import batches
from dq.errors import ProtocolError
from dq.manager.messages import ReportMessage
from dq.manager.protocol import PROTOCOL
from dq.manager.worker_endpoint import WorkerEndpoint
from support.connections import FakeClients, grant_of, open_job, outcome_of


def test_outcomes_of_another_run_are_dropped(clients: FakeClients) -> None:
    dispatcher = clients.dispatcher()
    served = open_job(dispatcher, [3])
    worker = clients.connect(dispatcher)
    worker.hello()
    lease, _, start, *_ = grant_of(worker.exchange())
    stale = ReportMessage("another run", lease, start, (Done(1, batches.dump([9])),))
    worker.exchange(stale, wait=0.0)
    assert dispatcher.delivery.read(served, 0.0) == []


def test_a_report_on_anothers_lease_ends_the_connection(clients: FakeClients) -> None:
    dispatcher = clients.dispatcher()
    served = open_job(dispatcher, [3])
    honest, liar = clients.connect(dispatcher), clients.connect(dispatcher)
    honest.hello("a")
    liar.hello("b")
    forged = outcome_of(dispatcher, honest.exchange(), ["forged"])
    with pytest.raises(ProtocolError):
        liar.exchange(forged, wait=0.0)
    assert liar.channel.ended.is_set()
    assert dispatcher.delivery.read(served, 0.0) == []


@pytest.mark.parametrize(
    "outcomes",
    [
        "abc",
        None,
        [()],
        [(0, b"", 0.0)],
        [(-1, b"", 0.0)],
        [(True, b"", 0.0)],
        [(1, "text", 0.0)],
        [(1, b"", float("nan"))],
        [(1, b"", -1.0)],
        [("a", "b", "c", 0.0)],
    ],
    ids=repr,
)
def test_a_report_that_is_none_is_refused_and_changes_nothing(
    clients: FakeClients, outcomes: object
) -> None:
    dispatcher = clients.dispatcher()
    served = open_job(dispatcher, [3])
    worker = clients.connect(dispatcher)
    worker.hello()
    lease, _, start, *_ = grant_of(worker.exchange())
    report = (dispatcher.run, lease, start, outcomes, 0, 0.0, "")
    with pytest.raises(ProtocolError):
        worker.ask(WorkerEndpoint(dispatcher).exchange, report, -1, 0.0)
    assert dispatcher.delivery.read(served, 0.0) == []
    assert served.job.outstanding == 1


def test_another_protocol_is_refused_with_what_to_do(clients: FakeClients) -> None:
    me = clients.connect(clients.dispatcher())
    with pytest.raises(ValueError, match="install the same dq on both"):
        me.ask(WorkerEndpoint(me.dispatcher).hello, PROTOCOL + 1, {})


def test_nobody_says_hello_twice(clients: FakeClients) -> None:
    me = clients.connect(clients.dispatcher())
    me.hello()
    with pytest.raises(ValueError, match="said hello before"):
        me.hello()


@pytest.mark.parametrize(
    "state",
    [
        None,
        ([], ["h:1"], None),
        ("h:1", [], None, 0, [], 0, [], 0),
        ([], [1], None, 0, [], 0, [], 0),
        ([], ["x"] * 10_000_001, None, 0, [], 0, [], 0),
        ([(0, 1, 2, 0.5, None)], [], None, 0, [], 0, [], 0),
        ([(0, 1, 2, float("nan"), None, None)], [], None, 0, [], 0, [], 0),
        ([], [], 0.5, -1, [], 0, [], 0),
        ([], [], None, 0, [("h:1", "j", 0)], 0, [], 0),
        ([], [], None, 0, [("h:1", "j", -2, "text")], 0, [], 0),
        ([], [], None, 0, [("h:1", "j", 0, "")] * 70_000, 0, [], 0),
        ([], [], None, 0, [], 0, [("h:1", (0, 1), "text")], 1),
        ([], [], None, 0, [], 0, [("h:1", 0, "text", "")], 1),
        ([], [], None, 0, [], 0, [("h:1", (0, -1), "text", "")], 1),
        ([], [], None, 0, [], 0, ["text"], 1),
        ([], [], None, 0, [], 0, [], -1),
    ],
    ids=lambda state: repr(state)[:40],
)
def test_a_beat_that_is_none_is_refused(clients: FakeClients, state: object) -> None:
    dispatcher = clients.dispatcher()
    supervisor, beat = clients.connect(dispatcher), clients.connect(dispatcher)
    supervisor.hello(role="supervisor")
    beat.hello(role="beat")
    with pytest.raises((ProtocolError, ValueError)):
        beat.ask(WorkerEndpoint(dispatcher).beat, state, 0, 0.0)


def test_only_a_connection_for_it_sends_beats(clients: FakeClients) -> None:
    dispatcher = clients.dispatcher()
    supervisor, stranger = clients.connect(dispatcher), clients.connect(dispatcher)
    supervisor.hello(role="supervisor")
    with pytest.raises(ProtocolError, match="not for it"):
        supervisor.beat()
    with pytest.raises(ValueError, match="not here"):
        stranger.hello("another", role="beat")
