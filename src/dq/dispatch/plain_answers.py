"""What plain clients answer to the master's own inputs, taken in as outcomes."""

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
    """Takes what plain clients put on the result queue as the outcomes of inputs that they hold.

    It keeps nothing of its own.

    Args:
        state: what the dispatcher's parts share.
        delivery: given what comes to be on record.
        max_message: characters of a result that becomes text.
    """

    def __init__(self, state: DispatchState, delivery: Delivery, *, max_message: int) -> None:
        self._state = state
        self._delivery = delivery
        self._max_message = max_message

    def answer(self, lease: Lease, value: object) -> None:
        """Take a value as what the function has returned for a lease of one task."""
        served = self._state.served_jobs.get(lease.batch.job)
        if served is None:
            return
        seconds = self._state.clock() - lease.granted
        outcome = encode_value(served, lease, value, seconds, self._max_message)
        self._record(lease, outcome, seconds)

    def fail(self, lease: Lease, failure: Failure) -> None:
        """Take a lease of one task as failed, once and for all."""
        self._record(lease, Failed(failure, retry=False), 0.0)

    def _record(self, lease: Lease, outcome: Outcome, seconds: float) -> None:
        report = Report(lease=lease.id, first=lease.next, outcomes=(outcome,), busy=seconds)
        state = self._state
        with state.lock:
            self._delivery.deliver(state.board.report(lease.holder, report, state.clock()))


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
