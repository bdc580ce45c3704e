"""A served job: its inputs, and its records until they are read."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dq.core.blobs import Blob
from dq.core.jobs import Job
from dq.core.records import Batch, Failure, Recorded
from dq.data import batches
from dq.data.decoding import Decoder
from dq.data.sources import Source
from dq.functions.definitions import Definitions
from dq.functions.spec import JobSpec
from dq.security.safe_pickle import safe_loads

if TYPE_CHECKING:
    from dq.journal.replay import Replay  # SQLite, which few runs need

# Types of failures that have no traceback, and may come from unpickling the input.
UNOPENED = {"WorkerDied", "TimeoutError", "UnpicklingError"}

PLAIN = "plain"  # id of the job that plain clients put into


@dataclass(slots=True)
class ServedJob:
    """A job with its inputs, and with its records until they are read. The dispatcher's lock guards
    it, except where a comment says otherwise.

    Args:
        source: the inputs, and a buffer of those that were read, which needs no lock.
        decoder: decodes inputs to values.
        news: a condition of the dispatcher's lock: notified when there are records, or when no
            more will come.
        refill: a condition of the same lock: notified when more inputs should be read ahead.
        replay: replays the job's journal, if it has one.
        reads_ahead: whether a thread reads inputs ahead, so that a source may block.

    Attributes:
        records: those that were not read yet.
        sink: called with each record, instead of adding it to `records`.
        on_sent: called with each batch that was sent to a worker. (To do it before would add 5 µs
            to the time that a single call takes.)
        called: functions by value of its calls, by their digests, which processes fetch.
        unwritten: how many records the journal has not written yet.
        cannot_write: says whether what the sink gets cannot be written at the moment; None if it is
            not to be written.
        closed: whether to stop reading inputs.
        only_for: the group of the only worker that may have its tasks; "" for any.
        is_slow: whether its source was found to be slow. Only the thread that reads the source
            changes this and `step`.
        step: how many inputs were read at once.
        definitions: the classes by value that inputs refer to.
    """

    spec: JobSpec
    job: Job
    source: Source
    decoder: Decoder
    news: threading.Condition
    refill: threading.Condition
    replay: Replay | None = None
    reads_ahead: bool = False
    records: deque[Recorded] = field(default_factory=deque)
    sink: Callable[[Recorded], None] | None = None
    on_sent: Callable[[Batch], None] | None = None
    called: dict[bytes, Blob] = field(default_factory=dict)
    unwritten: int = 0
    cannot_write: Callable[[], bool] | None = None
    closed: bool = False
    only_for: str = ""
    is_slow: bool = True
    step: int = 1
    definitions: Definitions = field(default_factory=Definitions)

    @property
    def finished(self) -> bool:
        """Whether no more records will come."""
        if self.unwritten and self.job.stopped is not None and self.replay is not None:
            return self.job.finished and self.replay.stuck  # the disk is full: no waiting
        return self.job.finished and not self.unwritten

    def is_replayed(self, index: int) -> bool:
        """Whether the journal may still have an outcome of a task for the reader."""
        return self.replay is not None and self.job.next <= index < self.replay.left

    def drop_cancelled(self) -> None:
        """Drop the inputs that are next and were cancelled."""
        count = self.job.pass_cancelled()
        if count:
            self.source.take(count)
            if self.finished:
                self.news.notify_all()

    @property
    def is_stuck(self) -> bool:
        """Whether its outcomes cannot be written at the moment."""
        if self.cannot_write is not None:
            return self.cannot_write()
        return self.replay is not None and self.replay.stuck

    @property
    def together(self) -> str:
        """Which inputs share a pickle. Calls of an executor have nothing in common, and a journal
        knows an object by its own pickle."""
        if self.spec.unpack == "call":
            return batches.NOTHING
        return batches.ANYTHING if self.replay is None else batches.DATA

    def read_ahead_limit(self, slots: int) -> int:
        """How many inputs to read ahead: enough for the next two batches of each slot, but at most
        about a megabyte, or two batches of large inputs."""
        sizer = self.job.sizer
        if self.replay is not None and (ahead := self.replay.ahead(self.job.next)):
            return ahead
        nbytes = sizer.nbytes  # of one input
        if not nbytes:
            return 4
        most = max(2**20, 2 * sizer.near_limit)
        ahead = 2 * sizer.size(None, slots) * max(slots, 1)
        return max(min(max(64, ahead), int(most / nbytes)), 2)

    def needs_refill(self, slots: int) -> bool:
        """Whether more inputs should be read ahead."""
        return self.reads_ahead and len(self.source.buffer) < self.read_ahead_limit(slots) // 2

    def values(self, batch: Batch) -> list[object]:
        """The inputs of a batch."""
        return self.decoder.decode(batch.blob, batch.skip, batch.count)

    def input_of(self, batch: Batch, failure: Failure) -> object:
        """The input of one failed task. It is a `BadValue` if unpickling it may have killed the
        worker's process, since it could kill this one too."""
        if failure.type in UNOPENED and not failure.traceback:
            return self.plain_input(batch)
        [value] = self.values(batch)
        return value

    def plain_input(self, batch: Batch) -> object:
        """The input of one task, for the journal. It is a `BadValue` if it has other types than the
        standard data types."""
        spec = self.spec
        decoder = Decoder(spec.reading, safe_loads)
        [value] = decoder.decode(batch.blob, batch.skip, batch.count)
        return value
