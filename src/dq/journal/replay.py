"""Skips the inputs of a job for which a journal has outcomes."""

from __future__ import annotations

import zlib
from array import array
from collections import deque

from dq._support.naming import setting
from dq.core.records import Batch, Recorded
from dq.data import batches
from dq.errors import InputChanged
from dq.journal.input_digests import part_again, part_of
from dq.journal.rows import Row, changed
from dq.journal.writer import Entry, Journal


def _define_nothing(found: dict[str, type]) -> None:
    """A batch that no worker gets needs no definitions of classes."""


class Replay:
    """Skips the inputs of a job for which the journal has outcomes, and returns these.

    Args:
        journal: an open journal.
    """

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.left = journal.left
        self._items: list[object] = []
        self._rows: deque[Row] = deque()
        self._nbytes = 0  # of an input, from the last record
        self._fetch(0)

    def _fetch(self, start: int) -> None:
        if not self._rows and start < self.left:
            self._rows.extend(self.journal.rows(start))

    def add(self, owner: object, record: Recorded) -> None:
        """Queue a record to be written."""
        self.journal.add(Entry(owner=owner, record=record))

    @property
    def stuck(self) -> bool:
        """Whether nothing can be written at the moment."""
        return self.journal.full or self.journal.error is not None

    def missing(self, index: int) -> int:
        """How many inputs, from the one at `index` on, the next record still needs."""
        if not self._rows or index < self._rows[0].start:
            return 0
        return self._rows[0].stop - index

    def ahead(self, index: int) -> int:
        """How many inputs to read ahead: those of the next record, and about a megabyte."""
        missing = self.missing(index)
        return max(missing, min(1024, 2**20 // max(self._nbytes, 1))) if missing else 0

    def room(self, index: int) -> int | None:
        """How many inputs may be batched before the next record; None for any number."""
        return self._rows[0].start - index if self._rows else None

    def take(self, job: str, items: list[object]) -> Recorded | None:
        """The next record, once all its inputs are there.

        Raises:
            InputChanged: one of them has changed.
            BadJournal: the journal has been damaged since it was opened.
        """
        self._items += items
        row = self._rows[0]
        if len(self._items) < row.count:
            return None
        parts = [part_of(item, self.journal.lines) for item in self._items]
        index = changed(parts, row)
        if index is not None and not self.journal.lines:
            parts = [
                part if zlib.crc32(part) == then else part_again(item)
                for part, then, item in zip(parts, array("I", row.sums), self._items, strict=True)
            ]
            index = changed(parts, row)
        if index is not None:
            raise InputChanged(index, setting("journal"))
        batch = Batch(
            job=job,
            start=row.start,
            count=row.count,
            blob=batches.dump(self._items, define=_define_nothing),
        )
        self._nbytes = len(batch.blob) // row.count
        self._rows.popleft()
        self._fetch(row.stop)
        self._items = []
        return Recorded(batch=batch, outcome=row.outcome, attempts=row.attempts, worker=row.worker)
