"""What clients see of jobs, as records."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from dq._support.fields import names_of
from dq._support.frozen import cast, frozen
from dq.dispatch.worker_status import ProcessStacks, RunningTask, WorkerStatus

T = TypeVar("T")


@frozen
class JobStatus:
    """The figures of a job on a serving master, at one moment.

    Args:
        number: what people call it.
        id: what its submitter called it: random.
        name: likewise, if it was given one.
        task: what it calls.
        state: "waiting", "running"; or how it has ended: "done" (each task returned), "failed" (all
            have an outcome, some failed), "stopped" (too many failed) or "cancelled".
        reason: why it was stopped or cancelled.
        total: how many inputs it has.
        done: how many tasks have returned.
        failed: how many have failed.
        running: how many tasks workers have now.
        priority: jobs with a higher one go first.
        submitted, ended: when, in seconds since 1970; None if it has not ended.
        rate: outcomes per second; None if that is not known.
        left: seconds that it will still take at this rate; None likewise.
        why_not: why none of its tasks runs, if that is asked for; a line for each reason.
        version: changes with the figures.
        notes: what its submitter should know, as that a worker has another version of its file.

    >>> JobStatus(number=7, id="a1", state="failed", total=5, done=4, failed=1).ended_well
    False
    """

    number: int
    id: str
    name: str = ""
    task: str = ""
    state: str = "waiting"
    reason: str = ""
    total: int = 0
    done: int = 0
    failed: int = 0
    running: int = 0
    priority: int = 0
    submitted: float = 0.0
    ended: float | None = None
    rate: float | None = None
    left: float | None = None
    why_not: tuple[str, ...] = ()
    version: int = 0
    notes: tuple[str, ...] = ()

    @property
    def has_ended(self) -> bool:
        """Whether no more of it is run."""
        return self.state not in ("waiting", "running")

    @property
    def ended_well(self) -> bool:
        """Whether each of its tasks has returned."""
        return self.state == "done"

    @property
    def exit_code(self) -> int:
        """The exit code of ``dq run`` for a run that ended like this; 0 while it has not ended."""
        return {"failed": 1, "stopped": 4, "cancelled": 4}.get(self.state, 0)

    @classmethod
    def from_wire(cls, wire: object) -> JobStatus:
        """From the master's answer."""
        given = cast("dict[str, object]", wire)
        values = {name: given[name] for name in names_of(cls) if name in given}
        for name in ("why_not", "notes"):
            values[name] = tuple(cast("list[str]", values.get(name, ())))
        return cls(**values)  # type: ignore[arg-type]  # the master's own


def running_to_wire(
    what: WorkerStatus | ProcessStacks, number_of: Callable[[str], str]
) -> dict[str, object]:
    """A record about running tasks as built-in types.

    Args:
        what: the record.
        number_of: the number of the job to which a task belongs, from the id that workers know.
    """
    wire = {name: getattr(what, name) for name in names_of(type(what))}
    running = [{name: getattr(one, name) for name in names_of(RunningTask)} for one in what.running]
    return {**wire, "running": [{**one, "job": number_of(one["job"])} for one in running]}


def read_running(cls: type[T], wire: object) -> T:
    """The inverse."""
    given = cast("dict[str, object]", wire)
    running = cast("list[dict[str, object]]", given["running"])
    tasks = tuple(RunningTask(**one) for one in running)  # type: ignore[arg-type]  # the master's own
    return cls(**{**given, "running": tasks})


@frozen
class FailureGroup:
    """Failed tasks of a job that failed in the same way at the same place.

    Args:
        number: from 1, the largest group first.
        type: of the exception.
        place: the last place in the user's own code; "" if that is not known.
        count: how many there are.
        ids: which tasks.
        message: of the first one.
        input: of the first one, as its worker would have read it.
        traceback: of the first one.
    """

    number: int
    type: str
    place: str
    count: int
    ids: tuple[int, ...]
    message: str
    input: object
    traceback: str
