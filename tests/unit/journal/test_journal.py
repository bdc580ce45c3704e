"""The journal's file: what was written comes back, or a refusal; never anything else."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from dq.core.records import Batch, Done, Failed, Failure, Outcome, Reading, Recorded
from dq.data import inputs
from dq.errors import BadJournal, InputChanged, OutputError
from dq.journal.facts import Facts, facts
from dq.journal.recover import recover
from dq.journal.replay import Replay
from dq.journal.rows import Row, row_of
from dq.journal.writer import Entry, Journal

ABOUT = facts("app:square", reading=Reading("lines"), output="text", unpack=False)
VALUES = facts("app:square", reading=Reading("values"), output="values", unpack=False)
FLIPS = int(os.environ.get("DQ_TEST_FLIPS", "100000"))


def lines(start: int, count: int) -> list[object]:
    return [b"%d\n" % number for number in range(start, start + count)]


def record(start: int, items: list[object], outcome: Outcome | None = None) -> Recorded:
    blob = b"".join(b"result %d\n" % place for place in range(start, start + len(items)))
    batch = Batch("j", start, len(items), inputs.dump(items))
    return Recorded(batch, outcome or Done(len(items), blob, 0.5), 2, "here:1")


def some_records(rows: int = 12, per_row: int = 3, size: int = 0) -> list[Recorded]:
    """Rows of several kinds: short, over many pages, failed."""
    made = []
    for row in range(rows):
        start = row * per_row
        if row % 5 == 4:
            failed = Failed(Failure("ValueError", f"no {row}", "Traceback"), 0.25, retry=False)
            made.append(record(start, lines(start, 1), failed))
            made.append(record(start + 1, lines(start + 1, per_row - 1)))
        else:
            made.append(record(start, lines(start, per_row)))
    if size:
        start = rows * per_row
        made.append(record(start, lines(start, 1), Done(1, random.Random(size).randbytes(size))))
    return made


class Written:
    """Takes what the journal has written."""

    def __init__(self) -> None:
        self.records: list[Recorded] = []
        self.failed = threading.Event()

    def __call__(self, entries: Sequence[Entry]) -> None:
        self.records += [entry.record for entry in entries]
        if not entries:
            self.failed.set()


def write(path: Path, records: list[Recorded], about: Facts = ABOUT) -> None:
    with closing(Journal(str(path), about)) as journal:
        journal.start(Written())
        for one in records:
            journal.add(Entry(None, one))


@contextmanager
def killed(path: Path, records: list[Recorded], commits: int = 1) -> Iterator[Path]:
    """The files as they are when the master dies after so many commits."""
    alive = path.with_name("alive")
    with closing(Journal(str(alive), ABOUT)) as journal:
        size = -(-len(records) // commits)
        for first in range(0, len(records), size):
            journal._insert(
                [row_of(one, True).to_columns() for one in records[first : first + size]]
            )
        shutil.copy(alive, path)
        shutil.copy(f"{alive}-wal", f"{path}-wal")
        yield path


def read(path: Path, items: list[object], about: Facts = ABOUT) -> list[Recorded]:
    """What a run with these inputs takes from it."""
    with closing(Journal(str(path), about)) as journal:
        return replayed(journal, items)


def replayed(journal: Journal, items: list[object]) -> list[Recorded]:
    replay = Replay(journal)
    found, index = [], 0
    while index < len(items):
        room = replay.room(index)
        if room is None:
            break
        index += room
        count = replay.missing(index)
        one = replay.take("j", items[index : index + count])
        assert one is not None
        found.append(one)
        index += count
    return found


def refused(path: Path, items: list[object]) -> bool:
    """Whether it is; where not, all that is there must be as it was written."""
    truth = {one.batch.start: one for one in some_records()}
    try:
        found = read(path, items)
    except (BadJournal, OutputError):
        return True
    assert all(truth[one.batch.start] == one for one in found)
    return len(found) < len(truth)


# What was written


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


# Inputs


def test_a_changed_input_is_found_by_its_index(tmp_path: Path) -> None:
    write(tmp_path / "j", some_records())
    items = lines(0, 100)
    items[17] = b"other\n"
    with pytest.raises(InputChanged) as caught:
        read(tmp_path / "j", items)
    assert caught.value.index == 17


def test_an_input_that_moved_is_a_changed_one(tmp_path: Path) -> None:
    write(tmp_path / "j", [record(0, [b"1\n", b"23\n"])])
    with pytest.raises(InputChanged):
        read(tmp_path / "j", [b"12\n", b"3\n"])


def test_the_last_line_may_get_its_end(tmp_path: Path) -> None:
    write(tmp_path / "j", [record(0, [b"1\n", b"2"])])
    assert read(tmp_path / "j", [b"1\n", b"2\n"])


WORD = "".join(["a", " ", "word"])  # one object, in several of the inputs below


class Point:
    def __init__(self, x: Any) -> None:
        self.x = x


@pytest.mark.parametrize(
    "items",
    [
        [1, "two", 3.0, None, True, b"x\n"],
        [1, (2, 3), {"a": [4]}, "five"],
        [{"name": "a", "list": ["name", "".join(["na", "me"])]}],
        [10**5000, "\udcff"],
        [Point("x"), Point(["x"]), 7],
        [("".join(["na", "me"]), WORD, WORD, 1.0), (WORD, "na" + "me"), ("", b"", "n", b"n")],
        [{WORD: WORD, "".join(["na", "me", "d"]): 1}, {1: WORD}],
        [(str(n), str(n)) for n in range(10)],  # each a string of its own, until it is unpickled
        [[n, [str(n), str(n), {str(n): (str(n),)}]] for n in range(10)],
        [{"tags": set(range(100)) - {0, *range(2, 64), *range(65, 100)}}],
        [set(range(100)) - {0, *range(2, n), *range(65, 100)} for n in range(60, 64)],
        [Point("x"), Point(WORD), Point({WORD: [WORD, "x"], "x": {"x"}}), Point(Point(WORD))],
        [(date(2000, 1, 1 + n), Decimal(n), str(n)) for n in range(9)],
    ],
    ids=[
        *("scalars", "mixed", "shared", "huge", "objects", "rows", "dicts"),
        *("digits", "digits in rows", "set", "sets", "plain objects", "dates"),
    ],
)
def test_values_are_known_again(tmp_path: Path, items: list[object]) -> None:
    write(tmp_path / "j", [record(0, items)], VALUES)
    assert len(read(tmp_path / "j", items, VALUES)) == 1


@pytest.mark.parametrize(
    ("then", "now"),
    [
        (1, b"1"),
        (1, "1"),
        (1, 1.0),
        (1, True),
        ("x", b"x"),
        (b"x", b"x\n"),
        (10**5000, 10**5001),
        (["x", "y"], ["x", "x"]),
    ],
    ids=range(8),
)
def test_values_that_look_alike_are_not_the_same(tmp_path: Path, then: object, now: object) -> None:
    write(tmp_path / "j", [record(0, [then])], VALUES)
    with pytest.raises(InputChanged):
        read(tmp_path / "j", [now], VALUES)


def test_a_value_that_cannot_be_pickled_is_a_changed_one(tmp_path: Path) -> None:
    write(tmp_path / "j", [record(0, [1])], VALUES)
    with pytest.raises(InputChanged):
        read(tmp_path / "j", [threading.Lock()], VALUES)


def test_a_part_of_a_mixed_batch_is_known_without_the_rest(tmp_path: Path) -> None:
    whole = record(0, [1, (2,), 3])
    part = Recorded(whole.batch.part(2, 3), Done(1, b""), 1, "")
    write(tmp_path / "j", [part], VALUES)
    assert len(read(tmp_path / "j", [1, (2,), 3], VALUES)) == 1


# Whose it is


@pytest.mark.parametrize(
    "other",
    [
        facts("app:cube", reading=Reading("lines"), output="text", unpack=False),
        facts("app:square", reading=Reading("raw"), output="text", unpack=False),
        facts("app:square", reading=Reading("lines"), output="jsonl", unpack=False),
        facts("app:square", reading=Reading("lines"), output="text", unpack=True),
    ],
)
def test_the_journal_of_another_run_is_refused(tmp_path: Path, other: Facts) -> None:
    write(tmp_path / "j", some_records())
    with pytest.raises(BadJournal, match="of another run"):
        Journal(str(tmp_path / "j"), other)


@pytest.mark.parametrize("now", [{"fields": ("b", "a")}, {"fields": ("a", "b"), "raw": True}])
def test_rows_of_other_columns_are_another_run(tmp_path: Path, now: dict[str, Any]) -> None:
    def of(**how: Any) -> Facts:
        return facts("app:square", reading=Reading("csv", **how), output="text", unpack=False)

    write(tmp_path / "j", [], of(fields=("a", "b")))
    with pytest.raises(BadJournal, match="of another run"):
        Journal(str(tmp_path / "j"), of(**now))


def test_a_second_journal_on_the_file_is_refused_and_harms_nothing(tmp_path: Path) -> None:
    path = str(tmp_path / "j")
    with closing(Journal(path, ABOUT)) as journal:
        with pytest.raises(BadJournal, match="in use by another master"):
            Journal(path, ABOUT)
        journal.start(Written())
        journal.add(Entry(None, record(0, lines(0, 1))))
    assert len(read(tmp_path / "j", lines(0, 1))) == 1


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


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(BadJournal, match=r"cannot open the journal .*No such file"):
        Journal(str(tmp_path / "nowhere" / "j"), ABOUT)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", "/dev/null"):
        with pytest.raises(BadJournal, match="it is no regular file"):
            Journal(str(path), ABOUT)


# Damage


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


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


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


def fresh_copy(path: Path, other: Path, log: bytes | None) -> Path:
    for end in ("-wal", "-shm"):
        Path(f"{other}{end}").unlink(missing_ok=True)
    shutil.copy(path, other)
    if log is not None:
        Path(f"{other}-wal").write_bytes(log)
    return other


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


def test_a_zeroed_page_is_refused_or_harmless(tmp_path: Path) -> None:
    records = some_records(40, size=30_000)
    write(tmp_path / "j", records)
    whole = (tmp_path / "j").read_bytes()
    for start in range(0, len(whole), 4096):
        (tmp_path / "bad").write_bytes(whole[:start] + bytes(4096) + whole[start + 4096 :])
        with pytest.raises(BadJournal):
            read(tmp_path / "bad", lines(0, 200))


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


# Recovery


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


# A disk that fails


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


def test_a_row_that_is_not_whole_is_none() -> None:
    columns = row_of(record(0, lines(0, 2)), True).to_columns()
    assert Row.from_columns(columns) is not None
    for place in range(len(columns)):
        other = [*columns[:place], 7, *columns[place + 1 :]]
        assert Row.from_columns(other) is None
