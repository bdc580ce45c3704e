"""A log has whole commits, and one that is damaged or missing is noticed."""

from __future__ import annotations

import random
from contextlib import closing
from pathlib import Path

import pytest

from dq.errors import BadJournal, OutputError
from dq.journal.rows import row_of
from dq.journal.writer import Journal
from support.journals import (
    ABOUT,
    flipped,
    fresh_copy,
    killed,
    lines,
    read,
    record,
    some_records,
    write,
)


@pytest.mark.parametrize("seed", range(3))
def test_a_flipped_bit_in_the_log_is_refused_or_costs_the_last_commit(
    tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    records = some_records()
    with killed(tmp_path / "j", records, commits=7) as path:
        log = Path(f"{path}-wal").read_bytes()
        for _ in range(60):
            flip = flipped(log, chance.randrange(len(log) * 8))
            bad = fresh_copy(path, tmp_path / "bad", flip)
            try:
                found = read(bad, lines(0, 100))
            except (BadJournal, OutputError):
                continue
            assert found == records[: len(found)]
            assert len(found) >= len(records) - -(-len(records) // 7)


def test_a_log_cut_at_any_byte_has_whole_commits(tmp_path: Path) -> None:
    records = some_records()
    with killed(tmp_path / "j", records, commits=7) as path:
        log = Path(f"{path}-wal").read_bytes()
        counts = []
        for size in range(0, len(log) + 1, 211):
            found = read(fresh_copy(path, tmp_path / "cut", log[:size]), lines(0, 100))
            assert found == records[: len(found)]
            counts.append(len(found))
    assert counts == sorted(counts)
    assert counts[0] == 0
    assert len(set(counts)) == 7


def test_a_zeroed_page_of_the_log_is_refused_while_more_than_a_commit_follows(
    tmp_path: Path,
) -> None:
    with killed(tmp_path / "j", some_records(), commits=7) as path:
        log = Path(f"{path}-wal").read_bytes()
        bad = fresh_copy(path, tmp_path / "bad", log[:32] + bytes(4120) + log[32 + 4120 :])
        with pytest.raises(BadJournal, match="-wal cannot be read to the end"):
            read(bad, lines(0, 100))
        assert Path(f"{bad}-wal").stat().st_size == len(log)  # more can be saved of it


@pytest.mark.parametrize("was_killed", [False, True])
def test_no_log_is_missed_where_a_master_was_killed_before_it_had_written_an_outcome(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, was_killed: bool
) -> None:
    """What there is before and after each step of opening a journal is what a kill leaves."""
    copies: list[Path] = []
    mark = Journal._mark

    def copied(journal: Journal, is_open: bool) -> None:
        for step in (lambda: None, lambda: mark(journal, is_open)):
            step()
            copies.append(tmp_path / f"copy{len(copies)}")
            log = Path(f"{journal.path}-wal")
            fresh_copy(Path(journal.path), copies[-1], log.read_bytes() if log.exists() else None)

    with killed(tmp_path / "j", some_records()) as path:
        log = Path(f"{path}-wal").read_bytes()
        fresh_copy(path, tmp_path / "again", log if was_killed else None)
    if not was_killed:
        with closing(Journal(str(tmp_path / "again"), ABOUT)):
            pass  # closed in an orderly way
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "_mark", copied)
        Journal(str(tmp_path / "again"), ABOUT).close()
    assert len(copies) > 4
    said: list[str] = []
    for copy in copies:
        with closing(Journal(str(copy), ABOUT, log=said.append)):
            pass
    assert said == []


def test_a_missing_log_is_said(tmp_path: Path) -> None:
    said: list[str] = []
    with killed(tmp_path / "j", some_records()) as path:
        fresh_copy(path, tmp_path / "bad", None)
        with closing(Journal(str(tmp_path / "bad"), ABOUT, log=said.append)) as journal:
            assert journal.left == 0
    assert said == [
        f"{tmp_path / 'bad'} has lost its -wal file: tasks whose outcomes were in it run again"
    ]


def test_a_log_that_is_not_missing_is_not_missed(tmp_path: Path) -> None:
    said: list[str] = []
    write(tmp_path / "j", some_records())
    with killed(tmp_path / "k", some_records()) as path:
        Journal(str(path), ABOUT, log=said.append).close()
        Journal(str(path), ABOUT, log=said.append).close()
        Journal(str(tmp_path / "j"), ABOUT, log=said.append).close()
    assert said == []


def test_old_rounds_of_a_log_are_not_taken_for_damage(tmp_path: Path) -> None:
    path = tmp_path / "j"
    with closing(Journal(str(path), ABOUT)) as journal:
        for start in range(0, 60, 10):
            rows = [row_of(record(n, lines(n, 1)), True) for n in range(start, start + 10)]
            for row in rows:
                journal._insert([row.to_columns()])
            assert journal._db is not None
            if start < 50:
                journal._db.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()
            copy = fresh_copy(path, tmp_path / "copy", Path(f"{path}-wal").read_bytes())
            assert len(read(copy, lines(0, 100))) == start + 10
