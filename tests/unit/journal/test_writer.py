"""What is written to a journal, in what order, and what happens where it cannot be."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from dq.core.records import Done, Failed, Failure, Recorded
from dq.journal.writer import Entry, Journal
from support.journals import (
    ABOUT,
    Written,
    killed,
    lines,
    read,
    record,
    replayed,
    some_records,
    write,
)


def test_what_was_written_comes_back(tmp_path: Path) -> None:
    records = some_records(size=20_000)
    write(tmp_path / "j", records)
    assert read(tmp_path / "j", lines(0, 100)) == records


def test_a_journal_is_one_file_when_it_is_closed(tmp_path: Path) -> None:
    write(tmp_path / "j", some_records())
    assert os.listdir(tmp_path) == ["j"]


def test_nothing_is_told_of_before_it_is_on_disk(tmp_path: Path) -> None:
    path = str(tmp_path / "j")
    seen: list[int] = []

    def deliver(entries: list[Entry]) -> None:
        with closing(sqlite3.connect(path)) as other:
            [count] = other.execute("SELECT count(*) FROM outcomes").fetchone()
            seen.append(count)

    with closing(Journal(path, ABOUT)) as journal:
        journal.start(deliver)
        journal.add(Entry(None, record(0, lines(0, 1))))
    assert seen == [1]


def test_a_killed_masters_journal_has_every_commit(tmp_path: Path) -> None:
    records = some_records()
    with killed(tmp_path / "j", records, commits=5) as path:
        assert read(path, lines(0, 100)) == records


def test_whether_a_failure_may_be_retried_comes_back(tmp_path: Path) -> None:
    failed = Failed(Failure("BadInput", "is not JSON"), retry=False)
    write(tmp_path / "j", [record(0, lines(0, 1), failed)])
    [found] = read(tmp_path / "j", lines(0, 1))
    assert found.outcome == failed


def test_failures_can_be_forgotten(tmp_path: Path) -> None:
    records = some_records()
    write(tmp_path / "j", records)
    with closing(Journal(str(tmp_path / "j"), ABOUT, retry_failed=True)) as journal:
        found = replayed(journal, lines(0, 100))
    assert found == [one for one in records if isinstance(one.outcome, Done)]


@pytest.mark.parametrize("worker", ["here\udcff:1", "here\0:1", "", "hör:1"])
def test_whatever_a_worker_calls_itself_can_be_written(tmp_path: Path, worker: str) -> None:
    one = Recorded(record(0, lines(0, 1)).batch, Done(1, b"x", -0.0), 1, worker)
    write(tmp_path / "j", [one])
    assert [found.outcome for found in read(tmp_path / "j", lines(0, 1))] == [one.outcome]


def test_a_relative_path_that_sqlite_takes_for_a_name_is_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(Path(":memory:"), some_records())
    assert read(Path(":memory:"), lines(0, 100)) == some_records()


class Failing:
    """A connection that raises an error so many times."""

    def __init__(self, db: sqlite3.Connection, text: str, times: int) -> None:
        self._db, self._text, self.times = db, text, times

    def executemany(self, *args: Any) -> None:
        if self.times:
            self.times -= 1
            raise sqlite3.OperationalError(self._text)
        self._db.executemany(*args)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._db, name)


def test_a_full_disk_is_waited_for_and_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dq.journal.writer.RETRY_INTERVAL", 0.01)
    said: list[str] = []
    written = Written()
    path = str(tmp_path / "j")
    journal = Journal(path, ABOUT, log=said.append)
    journal._db = Failing(journal._db, "database or disk is full", 3)  # type: ignore[assignment, arg-type]
    journal.start(written)
    for one in some_records():
        journal.add(Entry(None, one))
    while len(written.records) < len(some_records()):
        assert journal._writer is not None
        assert journal._writer.is_alive()
    journal.close()
    assert said == [
        f"no space left for {path}: no more tasks are started until there is",
        f"there is space again for {path}; going on",
    ]
    assert read(tmp_path / "j", lines(0, 100)) == some_records()


def test_a_journal_on_a_full_disk_can_be_closed(tmp_path: Path) -> None:
    written = Written()
    journal = Journal(str(tmp_path / "j"), ABOUT)
    journal._db = Failing(journal._db, "database or disk is full", 10**9)  # type: ignore[assignment, arg-type]
    journal.start(written)
    journal.add(Entry(None, record(0, lines(0, 1))))
    journal.close()
    assert written.records == []
    assert read(tmp_path / "j", lines(0, 1)) == []


@pytest.mark.parametrize("text", ["disk I/O error", "whatever else"])
def test_any_other_failure_to_write_is_told_at_once(tmp_path: Path, text: str) -> None:
    written = Written()
    journal = Journal(str(tmp_path / "j"), ABOUT)
    journal._db = Failing(journal._db, text, 1)  # type: ignore[assignment, arg-type]
    journal.start(written)
    journal.add(Entry(None, record(0, lines(0, 1))))
    assert written.failed.wait(10)
    assert str(journal.error) == f"cannot write the journal {tmp_path / 'j'}: {text}"
    journal.close()
    assert written.records == []
