"""What a dispatcher relies on in a journal: the same of a file's and of the fake."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from dq.core.records import Recorded
from dq.errors import BadJournal
from dq.journal.replay import Replay
from dq.journal.writer import Entry, Journal
from support import wait_until
from support.fakes import FakeJournal
from support.journals import ABOUT, Written, lines, record, write

OLD = [record(0, lines(0, 2)), record(2, lines(2, 3))]


@dataclass
class Opened:
    """A journal that has `OLD` already, and how to have it write what was added."""

    journal: Journal | FakeJournal
    commit: Callable[[], None]


@pytest.fixture(params=["file", "fake"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opened]:
    if request.param == "fake":
        fake = FakeJournal(OLD)
        yield Opened(fake, fake.commit)
        return
    write(tmp_path / "j", OLD)
    with closing(Journal(str(tmp_path / "j"), ABOUT)) as journal:
        yield Opened(journal, lambda: None)  # its own thread does


def test_it_says_how_far_its_records_go(opened: Opened) -> None:
    assert opened.journal.left == 5
    assert opened.journal.error is None
    assert not opened.journal.full


def test_its_rows_come_in_the_order_of_their_tasks(opened: Opened) -> None:
    rows = opened.journal.rows(0)
    assert [(row.start, row.count) for row in rows] == [(0, 2), (2, 3)]
    assert [row.start for row in opened.journal.rows(2)] == [2]


def test_rows_where_there_are_none_are_damage(opened: Opened) -> None:
    with pytest.raises(BadJournal):
        opened.journal.rows(5)


def test_its_rows_end_where_its_records_did_when_it_was_opened(opened: Opened) -> None:
    written = Written()
    opened.journal.start(written)
    opened.journal.add(Entry(owner=None, record=record(5, lines(5, 1))))
    opened.commit()
    wait_until(lambda: written.records)
    assert [row.start for row in opened.journal.rows(0)] == [0, 2]
    with pytest.raises(BadJournal):
        opened.journal.rows(5)


def test_what_is_added_is_delivered_once_it_is_written(opened: Opened) -> None:
    written, new = Written(), record(5, lines(5, 1))
    opened.journal.start(written)
    opened.journal.add(Entry(owner=None, record=new))
    opened.commit()
    wait_until(lambda: written.records)
    assert written.records == [new]


def test_close_writes_what_was_added(opened: Opened) -> None:
    written, new = Written(), record(5, lines(5, 1))
    opened.journal.start(written)
    opened.journal.add(Entry(owner=None, record=new))
    opened.journal.close()
    assert written.records == [new]


def test_a_replay_takes_inputs_past_its_records(opened: Opened) -> None:
    replay = Replay(opened.journal)  # type: ignore[arg-type]  # or the fake
    taken: list[Recorded | None] = []
    while missing := replay.missing(sum(one.batch.count for one in taken if one is not None)):
        first = sum(one.batch.count for one in taken if one is not None)
        taken.append(replay.take("j", lines(first, missing)))
    assert [one.outcome for one in taken if one is not None] == [one.outcome for one in OLD]
