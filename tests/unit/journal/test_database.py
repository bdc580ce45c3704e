"""A damaged file is refused, or what was written to it comes back."""

from __future__ import annotations

import os
import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from dq.errors import BadJournal, OutputError
from dq.journal.writer import Journal
from support.journals import (
    ABOUT,
    flipped,
    lines,
    read,
    some_records,
    write,
)


def test_another_format_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "j", some_records())
    with closing(sqlite3.connect(tmp_path / "j")) as db:
        db.execute("PRAGMA user_version = 2")
    with pytest.raises(BadJournal, match="format 2, this dq reads 1; use the dq that wrote it"):
        Journal(str(tmp_path / "j"), ABOUT)


@pytest.mark.parametrize(
    "content", [b"1\n2\n3\n", b"SQLite format 3\0" + b"x" * 5000, b"\0" * 9000]
)
def test_a_file_that_is_no_journal_is_refused_and_left_alone(
    tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "j").write_bytes(content)
    with pytest.raises(BadJournal, match="damaged, or no journal"):
        Journal(str(tmp_path / "j"), ABOUT)
    assert (tmp_path / "j").read_bytes() == content


def test_another_programs_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "j")) as db:
        db.execute("CREATE TABLE outcomes (start)")
    before = (tmp_path / "j").read_bytes()
    with pytest.raises(BadJournal, match="no journal of dq"):
        Journal(str(tmp_path / "j"), ABOUT)
    assert (tmp_path / "j").read_bytes() == before


def test_an_empty_file_becomes_a_journal(tmp_path: Path) -> None:
    (tmp_path / "j").touch()
    write(tmp_path / "j", some_records())
    assert read(tmp_path / "j", lines(0, 100)) == some_records()


FLIPS = int(os.environ.get("DQ_TEST_FLIPS", "100000"))


def test_a_journal_cut_at_any_byte_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "j", some_records())
    whole = (tmp_path / "j").read_bytes()
    for size in [*range(1, 600), *range(600, len(whole), 97), len(whole) - 1]:
        (tmp_path / "cut").write_bytes(whole[:size])
        with pytest.raises(BadJournal):
            Journal(str(tmp_path / "cut"), ABOUT)
    assert not list(tmp_path.glob("cut-*"))


@pytest.mark.slow
def test_a_flipped_bit_is_refused_or_harmless(tmp_path: Path) -> None:
    flip_closed(tmp_path, random.Random(1), 400)


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_a_hundred_thousand_flipped_bits_are_refused_or_harmless(tmp_path: Path) -> None:
    flip_closed(tmp_path, random.Random(2), FLIPS)


def flip_closed(folder: Path, chance: random.Random, times: int) -> None:
    """Flip bits of a closed journal, one at a time: all of it comes back, or nothing does."""
    records = some_records()
    write(folder / "j", records)
    whole = (folder / "j").read_bytes()
    for _ in range(times):
        bit = chance.randrange(len(whole) * 8)
        (folder / "bad").write_bytes(flipped(whole, bit))
        try:
            found = read(folder / "bad", lines(0, 100))
        except (BadJournal, OutputError):
            continue
        finally:
            (folder / "bad-wal").unlink(missing_ok=True)
            (folder / "bad-shm").unlink(missing_ok=True)
        assert found == records, bit


def test_a_zeroed_page_is_refused_or_harmless(tmp_path: Path) -> None:
    records = some_records(40, size=30_000)
    write(tmp_path / "j", records)
    whole = (tmp_path / "j").read_bytes()
    for start in range(0, len(whole), 4096):
        (tmp_path / "bad").write_bytes(whole[:start] + bytes(4096) + whole[start + 4096 :])
        with pytest.raises(BadJournal):
            read(tmp_path / "bad", lines(0, 200))
