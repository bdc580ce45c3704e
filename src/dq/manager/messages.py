"""The messages between a worker and a master, as records and as built-in types on the wire.

Any Python and any dq of the same protocol can read these types. `dq.manager.message_checks` checks
what arrives, since a client that has the key can still send anything.
"""

from __future__ import annotations

from dq._support.frozen import frozen
from dq.core.records import Done, Outcome

Wire = tuple[object, ...]
LeaseWire = tuple[int, str, int, int, int, bytes, int]  # the fields of a LeaseMessage
# A job's spec, the first time; which jobs have ended; definitions of the job's classes by value.
NewsWire = tuple[Wire | None, list[str], list[tuple[tuple[str, ...], bytes]]]
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
    blob: bytes
    attempt: int

    @classmethod
    def from_wire(cls, wire: LeaseWire) -> LeaseMessage:
        """From built-in types, of a master that is trusted."""
        return cls(*wire)

    def to_wire(self) -> LeaseWire:
        """As built-in types."""
        return (
            self.lease, self.job, self.start, self.count, self.skip, self.blob, self.attempt
        )  # fmt: skip


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


def _to_wire(outcome: Outcome) -> tuple[object, ...]:
    if isinstance(outcome, Done):
        return (outcome.count, outcome.blob, outcome.seconds)
    failure = outcome.failure
    return (
        failure.type,
        failure.message,
        failure.traceback,
        outcome.seconds,
        outcome.retry,
    )
