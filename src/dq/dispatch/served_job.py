"""A job as a master serves it: its inputs, and its records until they are read."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dq.core.jobs import Job
from dq.core.records import Batch, Failure, Recorded
from dq.data.decoding import Decoder
from dq.data.sources import Source
from dq.functions.spec import JobSpec
from dq.security.safe_pickle import safe_loads

if TYPE_CHECKING:
    from dq.journal.replay import Replay  # SQLite, which few runs need

# How tasks fail, without a traceback, that may have come no further than to unpickle their input.
UNOPENED = {"WorkerDied", "TimeoutError", "UnpicklingError"}

PLAIN = "plain"  # id of the job that plain clients put into


@dataclass(slots=True)
class ServedJob:
    """A job with its inputs and, until somebody reads them, its records. The dispatcher's lock
    guards it, unless said otherwise.

    Args:
        source: inputs that have been read; its buffer needs no lock.
        decoder: makes values of inputs.
        news: there are records, or no more to come; a condition of the dispatcher's lock.
        refill: more inputs should be read ahead; the same.
        replay: what the job's journal has.
        reads_ahead: whether somebody does, so that a source may be waited for.

    Attributes:
        records: nobody has read them yet.
        sink: takes records one by one, in place of `records`.
        unwritten: how many records are on their way to the journal.
        closed: whether no more inputs are read.
        is_slow: whether its source has to be waited for, as far as is known. Like `step` it is
            changed only by the thread that reads the source.
        step: how many inputs were read at once.
        definitions: of classes by value that inputs have: their names, and what defines them. Each
            connection is sent them in this order. Only appended to, so it needs no lock.
        defined: these classes.
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
    unwritten: int = 0
    closed: bool = False
    is_slow: bool = True
    step: int = 1
    definitions: list[tuple[tuple[str, ...], bytes]] = field(default_factory=list)
    defined: dict[str, type] = field(default_factory=dict)

    @property
    def finished(self) -> bool:
        """Whether no more records can come."""
        if self.unwritten and self.job.stopped is not None and self.replay is not None:
            return self.job.finished and self.replay.stuck  # the rest is not waited for
        return self.job.finished and not self.unwritten

    def read_ahead_limit(self, slots: int) -> int:
        """How many inputs to have read ahead: enough for the next two batches of each slot, and
        no more than a megabyte or so."""
        sizer = self.job.sizer
        if self.replay is not None and (ahead := self.replay.ahead(self.job.next)):
            return ahead
        nbytes = sizer.nbytes  # of one
        if not nbytes:
            return 4
        ahead = 2 * sizer.size(None, slots) * max(slots, 1)
        return max(min(max(64, ahead), int(2**20 / nbytes)), 2)

    def needs_refill(self, slots: int) -> bool:
        """Whether more inputs should be read ahead, where somebody does that."""
        return self.reads_ahead and len(self.source.buffer) < self.read_ahead_limit(slots) // 2

    def define(self, found: dict[str, type]) -> None:
        """Have workers know these classes before they get an input that needs them.

        Raises:
            BadTask: one refers to something that cannot be pickled.
        """
        new = {name: kind for name, kind in found.items() if name not in self.defined}
        if new:
            from dq.functions import sending  # here, since few inputs need it

            self.definitions.append((tuple(new), sending.definitions_of(new.values())))
            self.defined.update(new)

    def values(self, batch: Batch) -> list[object]:
        """The inputs of a batch."""
        return self.decoder.decode(batch.blob, batch.skip, batch.count)

    def input_of(self, batch: Batch, failure: Failure) -> object:
        """The input of one task that failed; a `BadValue` where unpickling it may have ended a
        worker's process, and could end this one too."""
        if failure.type in UNOPENED and not failure.traceback:
            return self.plain_input(batch)
        [value] = self.values(batch)
        return value

    def plain_input(self, batch: Batch) -> object:
        """The input of one task, for the journal: a `BadValue` where it has types that are not
        standard data types."""
        spec = self.spec
        decoder = Decoder(spec.reading, safe_loads)
        [value] = decoder.decode(batch.blob, batch.skip, batch.count)
        return value
