"""Stand-ins in memory for what a master has around its board: a connection, a clock, a journal.

Each passes the contract tests of the real one, `tests/unit/**/test_*_contract.py`.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence

from dq.core.records import Batch, Recorded
from dq.errors import BadJournal, DqError, OutputError
from dq.journal.rows import Row, row_of
from dq.journal.writer import READ_ROWS, Entry


class FakeChannel:
    """What endpoints and the dispatcher use of a `Channel`; a test sets `ended` for its peer."""

    is_encrypted = False
    is_full = False  # whether sending would block

    def __init__(self) -> None:
        self.ended = threading.Event()
        self.on_received: Callable[[], None] = lambda: None
        self.on_sent: Callable[[], None] = lambda: None
        self.sent: queue.SimpleQueue[object] = queue.SimpleQueue()

    def peer_closed(self) -> bool:
        return self.ended.is_set()

    def shutdown(self) -> None:
        self.ended.set()

    def may_send(self) -> bool:
        return not self.is_full

    def send(self, obj: object) -> None:
        if self.ended.is_set():
            raise BrokenPipeError
        self.sent.put(obj)

    def peer_sends_at_once(self) -> None:
        pass

    def attach(self, buffers: Sequence[memoryview]) -> None:
        pass

    def take_attachment(self) -> list[memoryview]:
        return []

    def peer(self) -> str:
        return "here"

    def security(self) -> str:
        return "not encrypted"


class FakeClock:
    """Seconds of a steady clock, which pass when a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class FakeJournal:
    """A `Journal` without a disk: what is added is on record once a test calls `commit`.

    Args:
        records: what it has already, of a run before.
    """

    def __init__(self, records: list[Recorded], *, lines: bool = True) -> None:
        self.path = "j"
        self.lines = lines
        self.error: DqError | None = None
        self.full = False
        self.version = ""
        self.records = list(records)
        self.left = max((record.batch.stop for record in records), default=0)
        self._pending: list[Entry] = []
        self._deliver: Callable[[list[Entry]], None] = lambda entries: None

    def rows(self, start: int) -> list[Row]:
        found = sorted(self.records, key=lambda record: record.batch.start)
        old = [record for record in found if start <= record.batch.start < self.left]
        rows = [row_of(record, self.lines) for record in old[:READ_ROWS]]
        if not rows:
            raise BadJournal(f"the journal {self.path} is damaged: nothing from task {start} on")
        return rows

    def start(
        self,
        deliver: Callable[[list[Entry]], None],
        input_of: Callable[[Batch], object] | None = None,
    ) -> None:
        self._deliver = deliver

    def add(self, entry: Entry) -> None:
        self._pending.append(entry)

    def commit(self) -> None:
        """What the writer's thread does now and then."""
        if self.full or self.error is not None:
            return
        entries, self._pending = self._pending, []
        self.records += [entry.record for entry in entries]
        if entries:
            self._deliver(entries)

    def fail(self) -> None:
        """The disk fails at the next commit."""
        self.error = OutputError(f"cannot write the journal {self.path}: disk I/O error")
        self._deliver([])

    def close(self) -> None:
        self.commit()
