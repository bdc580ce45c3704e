"""Outcomes, on their way to readers."""

from __future__ import annotations

from typing import cast

import pytest

from dq.core.jobs import Rules
from dq.core.records import Done
from dq.data import batches
from dq.data.sources import Source
from dq.dispatch.dispatcher import Dispatcher
from dq.dispatch.served_job import ServedJob
from dq.errors import OutputError
from dq.journal.replay import Replay
from dq.journal.writer import Journal
from support.connections import SPEC, FakeClients, open_job, outcome_of
from support.fakes import FakeJournal


def test_outcomes_come_to_be_read(clients: FakeClients) -> None:
    dispatcher = clients.dispatcher()
    served = open_job(dispatcher, [3])
    worker = clients.connect(dispatcher)
    worker.hello()
    worker.exchange(outcome_of(dispatcher, worker.exchange(), [9]), wait=0.0)
    [record] = dispatcher.delivery.read(served, 5) or []
    assert batches.load(cast(Done, record.outcome).blob) == [9]
    assert record.worker == "h:1"


def open_with(journal: FakeJournal, dispatcher: Dispatcher) -> ServedJob:
    """A job of one input, whose outcomes go to a journal."""
    replay = Replay(cast(Journal, journal))
    return dispatcher.jobs.open(SPEC, Rules(), Source([b"3\n"]), replay)


def test_an_outcome_can_be_read_once_it_is_in_the_journal(clients: FakeClients) -> None:
    dispatcher, journal = clients.dispatcher(), FakeJournal([])
    served = open_with(journal, dispatcher)
    worker = clients.connect(dispatcher)
    worker.hello()
    worker.exchange(outcome_of(dispatcher, worker.exchange(), [9]), wait=0.0)
    assert dispatcher.delivery.read(served, 0.0) == []
    journal.commit()
    [record] = dispatcher.delivery.read(served, 0.0) or []
    assert journal.records == [record]


def test_who_waits_for_an_outcome_learns_that_the_journal_has_failed(clients: FakeClients) -> None:
    dispatcher, journal = clients.dispatcher(), FakeJournal([])
    served = open_with(journal, dispatcher)
    worker = clients.connect(dispatcher)
    worker.hello()
    worker.exchange(outcome_of(dispatcher, worker.exchange(), [9]), wait=0.0)
    journal.fail()
    with pytest.raises(OutputError, match="disk I/O error"):
        dispatcher.delivery.read(served, 5)
