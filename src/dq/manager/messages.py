"""The messages between a worker and a master, as records and as built-in types on the wire.

Any Python and any dq of the same protocol can read these types. `dq.manager.message_checks` checks
what arrives, since a client that has the key can still send anything.
"""

from __future__ import annotations

from itertools import islice

from dq._support.frozen import TYPE_CHECKING, frozen
from dq.core.blobs import Blob, LargeBlob
from dq.core.records import Done, Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dq.core.leases import Lease  # not at run time: task processes need none

Wire = tuple[object, ...]
# The head of a `LargeBlob`, and how many buffers it has, which are attached to the message.
LargeWire = tuple[bytes, int]
# The fields of a LeaseMessage
LeaseWire = tuple[int, str, int, int, int, bytes | LargeWire, int]
# A job's spec, the first time; which jobs have ended; definitions of the job's classes by value.
NewsWire = tuple[Wire | None, list[str], list[tuple[tuple[str, ...], bytes]]]
CommandWire = tuple[int, str, int, int]  # the fields of a `dq.core.beats.Command`
# Commands; seconds until the next beat; whether there are tasks that nobody has a function for;
# whether somebody wants what tasks print.
BeatWire = tuple[list[CommandWire], float, bool, bool]
ExchangeWire = tuple[str, LeaseWire | None, NewsWire | None]  # "go", "idle" or "stop"; lease; news


@frozen
class LeaseMessage:
    """A lease for a worker: `count` tasks from index `start` on. Their inputs are the items of
    `blob` after the first `skip`."""

    lease: int
    job: str
    start: int
    count: int
    skip: int
    blob: Blob
    attempt: int

    @classmethod
    def of(cls, lease: Lease) -> LeaseMessage:
        """From the master's own record of it."""
        batch = lease.batch
        return cls(
            lease=lease.id,
            job=batch.job,
            start=batch.start,
            count=batch.count,
            skip=batch.skip,
            blob=batch.blob,
            attempt=lease.attempt,
        )

    @classmethod
    def from_wire(cls, wire: LeaseWire, attached: Iterable[memoryview] = ()) -> LeaseMessage:
        """From built-in types, of a master that is trusted."""
        lease, job, start, count, skip, blob, attempt = wire
        if isinstance(blob, bytes):  # the values by position: this is on the path of each call
            return cls(lease, job, start, count, skip, blob, attempt)
        return cls(lease, job, start, count, skip, large_blob(blob, attached), attempt)

    def to_wire(self) -> LeaseWire:
        """As built-in types."""
        return (
            self.lease, self.job, self.start, self.count, self.skip, blob_to_wire(self.blob),
            self.attempt
        )  # fmt: skip

    @property
    def buffers(self) -> tuple[memoryview, ...]:
        """What to attach to its message."""
        return buffers_of(self.blob)


@frozen
class ReportMessage:
    """A worker's report on a lease. `refusal` says why it cannot run the job at all."""

    run: str
    lease: int
    first: int
    outcomes: tuple[Outcome, ...] = ()
    handed_back: int = 0
    busy: float = 0.0
    refusal: str = ""

    def to_wire(self) -> tuple[object, ...]:
        """As built-in types."""
        outcomes = [_to_wire(outcome) for outcome in self.outcomes]
        return (
            self.run,
            self.lease,
            self.first,
            outcomes,
            self.handed_back,
            self.busy,
            self.refusal,
        )

    @property
    def buffers(self) -> tuple[memoryview, ...]:
        """What to attach to its message."""
        found: tuple[memoryview, ...] = ()
        for outcome in self.outcomes:
            if isinstance(outcome, Done) and not isinstance(outcome.blob, bytes):
                found += outcome.blob.buffers
        return found


def buffers_of(blob: Blob) -> tuple[memoryview, ...]:
    """The buffers of a blob, which are attached to its message."""
    return blob.buffers if isinstance(blob, LargeBlob) else ()


def blob_to_wire(blob: Blob) -> bytes | LargeWire:
    """A blob as built-in types, without its buffers."""
    if isinstance(blob, bytes):
        return blob
    return blob.head, len(blob.buffers)


def large_blob(wire: LargeWire, attached: Iterable[memoryview]) -> LargeBlob:
    """The blob whose buffers are the next that were attached to a message.

    Raises:
        ValueError: there are fewer.
    """
    head, count = wire
    buffers = tuple(islice(attached, count))
    if len(buffers) < count:
        raise ValueError("buffers are missing")
    return LargeBlob(head, buffers)


def _to_wire(outcome: Outcome) -> tuple[object, ...]:
    if isinstance(outcome, Done):
        return (outcome.count, blob_to_wire(outcome.blob), outcome.seconds)
    failure = outcome.failure
    return (
        failure.type,
        failure.message,
        failure.traceback,
        outcome.seconds,
        outcome.retry,
        outcome.exception,
    )
