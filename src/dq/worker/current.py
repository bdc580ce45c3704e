"""What a task can find out about itself, and what it can say of its progress."""

from __future__ import annotations

from _thread import _local
from contextvars import ContextVar

from dq._support.frozen import TYPE_CHECKING, frozen
from dq.worker.cells import DONE, INDEX, PROGRESS_OF, TOTAL

if TYPE_CHECKING:
    from dq.worker.batch import RunningBatch


@frozen
class CurrentTask:
    """The task that is being run; see `current_task`.

    Args:
        id: position of its input, from 0, as in `Result`.
        attempt: which attempt this is, from 1.
        job: the job's id: all tasks of one call of `map`, for example, have the same.
        worker: ``host:pid`` of this process, as in `Result`.
        slot: number of the slot that runs it, from 0. No two slots of a worker have the same number
            at the same time, and a process that replaces another has the numbers of that one.
    """

    id: int
    attempt: int
    job: str
    worker: str
    slot: int


class _Here(_local):
    """The batch that this thread runs, while it is calling the function."""

    batch: RunningBatch | None = None


here = _Here()
# The same for `async def` tasks, which run in another thread: the batch, and which task of it.
awaited: ContextVar[tuple[RunningBatch, int] | None] = ContextVar("awaited", default=None)


def current_task() -> CurrentTask | None:
    """The task that calls this, or None outside of one.

    It is None, too, in threads and processes that a task has started, and for the items of a plain
    `BaseManager` master, which do not have a number.

    >>> current_task() is None
    True
    """
    found = find()
    return None if found is None else found[0].describe(found[1])


def progress(done: float, total: float | None = None) -> None:
    """Say how far the task is that calls this: `done` of `total`, in units of its own.

    This takes less than a microsecond and sends nothing, so it may be called as often as there is
    something to say. ``dq workers`` shows whole numbers. Outside of a task it does nothing.

    Raises:
        ValueError: a number is negative, or no number at all.

    >>> progress(3, 10)
    """
    batch = here.batch
    if batch is None and (batch := _awaited_batch()) is None:
        return
    view = batch.cells.view
    try:
        view[DONE] = done  # type: ignore[call-overload]  # it takes whole numbers only
        view[TOTAL] = total or 0  # type: ignore[assignment]
    except (TypeError, ValueError):
        _set_rounded(view, done, total or 0)
    view[PROGRESS_OF] = view[INDEX] + 1


def _awaited_batch() -> RunningBatch | None:
    """The batch of a coroutine, unless the task that it belongs to is over."""
    found = awaited.get()
    return None if found is None or found[0].current_index() != found[1] else found[0]


def _set_rounded(view: memoryview, done: float, total: float) -> None:
    try:
        view[DONE], view[TOTAL] = int(done), int(total)
    except (ValueError, OverflowError):
        raise ValueError("progress needs numbers from 0 on") from None


def find() -> tuple[RunningBatch, int] | None:
    """The batch that this code runs in, and which task of it; None outside of a task."""
    batch = here.batch
    if batch is not None:
        return batch, batch.current_index()
    return awaited.get()
