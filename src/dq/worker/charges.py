"""Which task is charged when a process dies or has to be killed."""

from __future__ import annotations

import signal
from collections.abc import Iterator

from dq._support.frozen import frozen
from dq.worker.cells import CODED_BY, DEADLINE, ENCODED, ENCODING, INDEX, LAST, LEASE, SPAN
from dq.worker.child import Child


@frozen
class Charge:
    """The task that a process was running when it ended; the fields are those of
    `Client.charge`."""

    what: str
    lease: int
    index: int
    span: int
    detail: str


def of_dead(child: Child, threads: int, code: int, *, loading: bool = False) -> Iterator[Charge]:
    """The charges for the tasks that a process was in that has ended with `code`. If it was loading
    a function, no task is to blame."""
    if child.is_charged:
        return
    for view in child.slot_views(threads):
        # A process may have grown too large because of results that it has not reported yet.
        lease = view[LAST] if child.kill_reason else view[LEASE]
        if lease:
            index, span = under_way(view)
            detail = child.kill_reason or how_ended(code)
            what = "loading" if loading else "died"
            yield Charge(what=what, lease=lease, index=index, span=span, detail=detail)


def of_end(child: Child) -> Charge:
    """What is said last of a process: the master then knows that it was in no other task."""
    return Charge(what="ended", lease=0, index=0, span=1, detail=child.name)


def of_overdue(child: Child, threads: int, now: float, detail: str) -> Iterator[Charge]:
    """The charges for tasks of a process that have exceeded their time limit."""
    for view in child.slot_views(threads):
        lease = view[LEASE]
        index, span = under_way(view)
        if lease and (_is_over(view, DEADLINE, now) or _is_over(view, CODED_BY, now)):
            # If there are several, any of them may be too slow: each is then tried alone.
            what = "timeout" if span == 1 else "died"
            yield Charge(what=what, lease=lease, index=index, span=span, detail=detail)


def of_endless_loading(child: Child, threads: int, now: float, detail: str) -> Iterator[Charge]:
    """What is said of the batches whose function a process has taken too long to load. It would in
    the next process, too."""
    for view in child.slot_views(threads):
        if _is_over(view, CODED_BY, now):
            yield Charge(what="unloadable", lease=view[LEASE], index=0, span=1, detail=detail)


def under_way(view: memoryview) -> tuple[int, int]:
    """Index of the first task that a slot may be working on, and how many there may be: the task
    that runs, and those whose results are being encoded."""
    start, stop = view[INDEX], view[INDEX] + view[SPAN]
    if view[ENCODING]:
        start, stop = min(start, view[ENCODED]), max(stop, view[ENCODED] + view[ENCODING])
    return start, stop - start


def _is_over(view: memoryview, cell: int, now: float) -> bool:
    """Whether the deadline in a cell has passed, and is still in force."""
    by = view[cell]
    return bool(by) and now * 1e9 > by == view[cell]


def how_ended(code: int) -> str:
    """How a process ended.

    >>> how_ended(-9), how_ended(3)
    ('was killed by SIGKILL', 'ended with exit code 3')
    """
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"
