"""What becomes of calls, as a master tells their client: in built-in types."""

from __future__ import annotations

from dq._support.frozen import cast, frozen
from dq.core.records import Batch, Done, Failed, Failure, Recorded
from dq.errors import ProtocolError
from dq.service.outcome_wire import FailureWire, outcome_to_wire

# Whether it was a blob with large buffers, and the pickle of a function.
FunctionWire = tuple[bool, bytes]
# Start, count, attempts, worker, results, failure, seconds.
_RecordWire = tuple[int, int, int, str, bytes, "FailureWire | None", float]


@frozen
class Begun:
    """Consecutive calls that a worker has.

    Args:
        start: the first one.
        count: how many.
    """

    start: int
    count: int


Event = Begun | Recorded


@frozen
class CallsState:
    """The state of a client's calls as a whole.

    Args:
        stopped: why no more are made; "" if they are.
        is_over: whether all that were made have an outcome, which the client has.
        refusal: why each worker refuses them; "" if one does not.
        slots: how many tasks the connected workers work on at a time.
    """

    stopped: str
    is_over: bool
    refusal: str
    slots: int

    def to_wire(self) -> tuple[str, bool, str, int]:
        return self.stopped, self.is_over, self.refusal, self.slots

    @classmethod
    def from_wire(cls, wire: tuple[str, bool, str, int]) -> CallsState:
        """The inverse of `to_wire`."""
        stopped, is_over, refusal, slots = wire
        return cls(stopped=stopped, is_over=is_over, refusal=refusal, slots=slots)


# Events, the cursor after them, and the state; None if only an outcome had to be told in a hurry.
Answer = tuple["list[tuple[object, ...]]", int, "tuple[str, bool, str, int] | None"]


def to_wire(event: Event) -> tuple[object, ...]:
    """An event as built-in types."""
    if isinstance(event, Begun):
        return event.start, event.count
    batch, outcome = event.batch, outcome_to_wire(event.outcome)
    return (batch.start, batch.count, event.attempts, event.worker, *outcome)


def from_wire(wire: tuple[object, ...]) -> Event:
    """The inverse; a record's batch has no inputs.

    Raises:
        ProtocolError: it is not an event.
    """
    if len(wire) == 2:
        start, count = cast("tuple[int, int]", wire)
        return Begun(start=start, count=count)
    try:
        start, count, attempts, worker, blob, failure, seconds = cast("_RecordWire", wire)
    except ValueError:
        raise ProtocolError("the master sends what is no outcome") from None
    outcome: Done | Failed = Done(count=count, blob=blob, seconds=seconds)
    if failure is not None:
        kind, message, traceback, exception = failure
        cause = Failure(type=kind, message=message, traceback=traceback)
        outcome = Failed(failure=cause, seconds=seconds, exception=exception)
    batch = Batch(job="", start=start, count=count, blob=b"")
    return Recorded(batch=batch, outcome=outcome, attempts=attempts, worker=worker)
