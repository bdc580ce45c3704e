"""Journals to test with: of some records, of a killed master, and what a run takes from one."""

from __future__ import annotations

import random
import shutil
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from dq.core.records import Batch, Done, Failed, Failure, Outcome, Reading, Recorded
from dq.data import batches
from dq.journal.facts import Facts, facts
from dq.journal.replay import Replay
from dq.journal.rows import row_of
from dq.journal.writer import Entry, Journal

ABOUT = facts("app:square", reading=Reading("lines"), output="text", unpack=False)

VALUES = facts("app:square", reading=Reading("values"), output="values", unpack=False)


def lines(start: int, count: int) -> list[object]:
    return [b"%d\n" % number for number in range(start, start + count)]


def record(start: int, items: list[object], outcome: Outcome | None = None) -> Recorded:
    blob = b"".join(b"result %d\n" % place for place in range(start, start + len(items)))
    batch = Batch("j", start, len(items), batches.dump(items, together=batches.DATA))
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


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def fresh_copy(path: Path, other: Path, log: bytes | None) -> Path:
    for end in ("-wal", "-shm"):
        Path(f"{other}{end}").unlink(missing_ok=True)
    shutil.copy(path, other)
    if log is not None:
        Path(f"{other}-wal").write_bytes(log)
    return other
