"""Records plain clients' answers to the master's own inputs."""

from __future__ import annotations

import pickle
from collections import deque
from collections.abc import Collection

from dq.core.leases import Lease, Report
from dq.core.records import Done, Failed, Failure, Outcome
from dq.data import outputs
from dq.dispatch.delivery import Delivery
from dq.dispatch.served_job import ServedJob
from dq.dispatch.state import DispatchState


class PlainAnswers:
    """Records what plain clients put on the result queue as outcomes of the inputs they hold.

    This class has no state of its own.

    Args:
        state: what the dispatcher's parts share.
        delivery: gets the new records.
        max_message: characters of the largest result that is converted to text.
    """

    def __init__(self, state: DispatchState, delivery: Delivery, *, max_message: int) -> None:
        self._state = state
        self._delivery = delivery
        self._max_message = max_message

    def answer(self, lease: Lease, value: object) -> None:
        """Record a value as the result of a lease of one task."""
        served = self._state.served_jobs.get(lease.batch.job)
        if served is None:
            return
        seconds = self._state.clock() - lease.granted
        outcome = encode_value(served, lease, value, seconds, self._max_message)
        self._record(lease, outcome, seconds)

    def fail(self, lease: Lease, failure: Failure) -> None:
        """Record that the task of a lease has failed, without a retry."""
        self._record(lease, Failed(failure, retry=False), 0.0)

    def _record(self, lease: Lease, outcome: Outcome, seconds: float) -> None:
        report = Report(lease=lease.id, first=lease.next, outcomes=(outcome,), busy=seconds)
        state = self._state
        with state.lock:
            self._delivery.deliver(state.board.report(lease.holder, report, state.clock()))


def encode_value(
    served: ServedJob, lease: Lease, value: object, seconds: float, most: int
) -> Outcome:
    """Encode a value as a worker would. A text may have at most `most` characters."""
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
    """Roughly how long a value is as text. A value that contains others many times over can be
    small in memory and endless as text, so each one is measured only once."""
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
