"""What is whole in a damaged journal is saved, and nothing else."""

from __future__ import annotations

import random
from contextlib import closing
from pathlib import Path

import pytest

from dq.core.records import Done, Failed, Failure
from dq.errors import BadJournal
from dq.journal.recover import recover
from dq.journal.rows import row_of
from dq.journal.writer import Journal
from support.journals import (
    ABOUT,
    fresh_copy,
    killed,
    lines,
    read,
    record,
    some_records,
    write,
)


def test_all_is_saved_of_a_whole_journal(tmp_path: Path) -> None:
    records = some_records(size=50_000)
    write(tmp_path / "j", records)
    recover(str(tmp_path / "j"), str(tmp_path / "new"))
    assert read(tmp_path / "new", lines(0, 100)) == records


def test_all_is_saved_of_a_killed_masters_log(tmp_path: Path) -> None:
    records = some_records(size=50_000)
    with killed(tmp_path / "j", records, commits=4) as path:
        recover(str(path), str(tmp_path / "new"))
        assert read(tmp_path / "new", lines(0, 100)) == records


def test_what_no_damage_touched_is_saved(tmp_path: Path) -> None:
    records = [record(n, lines(n, 1), Done(1, b"x" * 300)) for n in range(200)]
    write(tmp_path / "j", records)
    whole = (tmp_path / "j").read_bytes()
    for page in range(len(whole) // 4096):
        bad = whole[: page * 4096] + bytes(4096) + whole[(page + 1) * 4096 :]
        (tmp_path / "bad").write_bytes(bad)
        (tmp_path / "new").unlink(missing_ok=True)
        contents = recover(str(tmp_path / "bad"), str(tmp_path / "new"))
        found = read(tmp_path / "new", lines(0, 200))
        assert len(found) == contents.done >= 200 - 12  # of which a page has 11
        assert all(records[one.batch.start] == one for one in found)


def test_a_damaged_log_gives_what_follows_the_damage(tmp_path: Path) -> None:
    records = some_records()
    with killed(tmp_path / "j", records, commits=7) as path:
        log = Path(f"{path}-wal").read_bytes()
        bad = fresh_copy(path, tmp_path / "bad", log[:32] + bytes(4120) + log[32 + 4120 :])
        recover(str(bad), str(tmp_path / "new"))
    assert read(tmp_path / "new", lines(0, 100)) == records


@pytest.mark.parametrize("seed", range(3))
def test_nothing_untrue_is_saved_of_much_damage(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    truth = {one.batch.start: one for one in some_records(60, size=20_000)}
    write(tmp_path / "j", list(truth.values()))
    data = bytearray((tmp_path / "j").read_bytes())
    for _ in range(30):
        data[chance.randrange(8192, len(data))] ^= 1 << chance.randrange(8)
    (tmp_path / "bad").write_bytes(data)
    recover(str(tmp_path / "bad"), str(tmp_path / "new"))
    found = read(tmp_path / "new", lines(0, 200))
    assert found
    assert all(truth[one.batch.start] == one for one in found)


def test_a_recovered_failure_that_was_run_again_is_the_later_outcome(tmp_path: Path) -> None:
    failed = Failed(Failure("ValueError", "no"))
    with killed(tmp_path / "j", [record(0, lines(0, 1), failed)]) as path:
        with closing(Journal(str(path), ABOUT, retry_failed=True)) as journal:
            journal._insert([row_of(record(0, lines(0, 1)), True).to_columns()])
        recover(str(path), str(tmp_path / "new"))
    assert read(tmp_path / "new", lines(0, 1)) == [record(0, lines(0, 1))]


def test_nothing_can_be_saved_where_nothing_says_of_which_run_it_was(tmp_path: Path) -> None:
    write(tmp_path / "j", [])
    (tmp_path / "bad").write_bytes((tmp_path / "j").read_bytes()[:4096])
    with pytest.raises(BadJournal, match="nothing can be saved"):
        recover(str(tmp_path / "bad"), str(tmp_path / "new"))
    assert not (tmp_path / "new").exists()
