"""A job as a master serves it: its inputs, its records until they are read, and their forms."""

from __future__ import annotations

import pickle
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import repeat, starmap
from typing import TYPE_CHECKING

from dq.core.jobs import Job
from dq.core.leases import Lease
from dq.core.records import Batch, Done, Failed, Failure, Outcome, Recorded, Result
from dq.data import outputs
from dq.data.batches import BadValue
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
    """A job with its inputs and, until somebody reads them, its records."""

    spec: JobSpec
    job: Job
    source: Source
    decoder: Decoder
    news: threading.Condition
    refill: threading.Condition
    records: deque[Recorded] = field(default_factory=deque)
    closed: bool = False
    reads_ahead: bool = False  # whether somebody does, for a source to be waited for
    is_slow: bool = True  # its source, until it shows that it need not be waited for
    step: int = 1  # how many inputs were read at once
    sink: Callable[[Recorded], None] | None = None  # takes records in place of `records`
    replay: Replay | None = None
    unwritten: int = 0  # records on their way to the journal
    # Of classes by value that inputs have: their names, and what defines them; each connection is
    # told of them in this order.
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
        if not sizer.nbytes:
            return 4
        ahead = 2 * sizer.size(None, slots) * max(slots, 1)
        return max(min(max(64, ahead), int(2**20 / sizer.nbytes)), 2)

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


def encode_value(
    served: ServedJob, lease: Lease, value: object, seconds: float, most: int
) -> Outcome:
    """One value as a worker would have sent it; of `most` characters, where it becomes text."""
    form = served.spec.output
    try:
        is_command = outputs.is_command(form)
        if is_command and _length(value) > most:
            raise ValueError(f"this result is longer than {most} characters")
        items = served.values(lease.batch) if is_command else ()
        result = (value, seconds) if outputs.is_timed(form) else value
        name = lease.holder.name
        blob = outputs.encode(form, lease.next, items, [result], lease.attempt, name)
        return Done(1, blob, seconds)
    except Exception as error:
        return Failed(Failure(type(error).__name__, str(error)), seconds, retry=False)


def _length(value: object) -> int:
    """How long a value is as text, about. One that has others in it many times over can be short
    in memory and never come to an end as text: so each is looked at once."""
    known: dict[int, int] = {}
    begun: set[int] = set()
    waiting = [value]
    while waiting:
        found = waiting[-1]
        if id(found) in known:
            waiting.pop()
        elif id(found) not in begun:
            begun.add(id(found))
            waiting.extend(_parts(found))
        else:
            known[id(found)] = _own_length(found) + sum(
                known.get(id(part), 0) for part in _parts(found)
            )
    return known[id(value)]


def _parts(value: object) -> Collection[object]:
    if isinstance(value, dict):
        return [*value, *value.values()]
    if isinstance(value, BaseException):
        return value.args
    return value if isinstance(value, (list, tuple, set, frozenset, deque)) else ()


def _own_length(value: object) -> int:
    if isinstance(value, (str, bytes, bytearray)):
        return len(value)
    if _parts(value) or isinstance(value, (int, float, list, dict)):
        return 2
    return len(pickle.dumps(value))


def results_of(served: ServedJob, record: Recorded) -> Iterator[Result[object]]:
    """The results of a record, for a job whose output is "results" or one task that failed."""
    batch, outcome = record.batch, record.outcome
    if isinstance(outcome, Failed):
        item = served.input_of(batch, outcome.failure)
        args = outcome.failure, record.attempts, outcome.seconds, record.worker
        return iter([outputs.failed(batch.start, item, *args)])
    items = served.values(batch)
    values, seconds, bad = outputs.load_timed(outcome.blob)
    errors: Iterable[Failure | None] = repeat(None, batch.count)
    if bad:
        errors = [value.failure if isinstance(value, BadValue) else None for value in values]
        values = [None if isinstance(value, BadValue) else value for value in values]
    attempts, workers = repeat(record.attempts, batch.count), repeat(record.worker, batch.count)
    # No loop in Python: it takes as long as all else that the master does for a short task.
    ids = range(batch.start, batch.stop)
    return starmap(Result, zip(ids, items, values, errors, attempts, seconds, workers, strict=True))
