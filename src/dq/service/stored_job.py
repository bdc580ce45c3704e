"""A job that a serving master keeps, as far as it is in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from dq.dispatch.served_job import ServedJob
from dq.errors import DqError, UsageError
from dq.service.options import JobOptions
from dq.service.rows import ENDED, RECEIVING, JobRow


@dataclass(slots=True, eq=False)
class Round:
    """A job, or some tasks of it, while the dispatcher serves it.

    Args:
        served: what the dispatcher serves; set as soon as that is there.
        before: how many attempts its tasks had had before they were run again on request.
        is_over: whether another round runs its tasks, so that outcomes of this one count no more.
            Only the writer's thread changes it.
    """

    before: dict[int, int]
    served: ServedJob | None = None
    is_over: bool = False

    @property
    def is_going(self) -> bool:
        """Whether more of its tasks are run."""
        return self.served is None or self.served.job.stopped is None


@dataclass(slots=True, eq=False)
class StoredJob:
    """A job. The service's lock guards it. What is large of it is on disk only.

    Attributes:
        rounds: what of it is served now: all of it, or tasks that are run again.
        error: why its inputs could not be written, while they are being received.
        received: how many blocks of them have come.
        written: how many of these are on disk.
        seen: when its submitter was last heard of, while they are; seconds of a steady clock.
        version: changes whenever somebody may want to look at it again.
        started: when it was last begun to serve, in seconds of a steady clock; 0.0 if it was not.
        done_before: how many outcomes it had then.
        retries: counts the requests to run tasks of it again, in the writer's thread.
        ended_at: when it has ended, in seconds of the dispatcher's clock; 0.0 if that was under an
            earlier master.
        notes: what its submitter should know, for people; by the file that it is about. Its printed
            lines have the same on disk.
    """

    key: int
    id: str
    number: int
    name: str
    task: str
    options: JobOptions
    submitted: float
    state: str
    reason: str = ""
    total: int = 0
    done: int = 0
    failed: int = 0
    ended: float | None = None
    rounds: list[Round] = field(default_factory=list)
    error: DqError | None = None
    received: int = 0
    written: int = 0
    seen: float = 0.0
    version: int = 0
    started: float = 0.0
    done_before: int = 0
    retries: int = 0
    ended_at: float = 0.0
    notes: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, row: JobRow, now: float) -> StoredJob:
        """The job that a row describes."""
        return cls(
            key=row.key, id=row.id, number=row.number or 0, name=row.name, task=row.task,
            options=row.options, submitted=row.submitted, state=row.state, reason=row.reason,
            total=row.total, done=row.done, failed=row.failed, ended=row.ended, seen=now,
        )  # fmt: skip

    @property
    def has_ended(self) -> bool:
        return self.state in ENDED

    @property
    def is_committed(self) -> bool:
        """Whether all of its inputs are there."""
        return self.state != RECEIVING

    @property
    def outcomes(self) -> int:
        """How many tasks have one."""
        return self.done + self.failed


def by_id(jobs: Mapping[str, StoredJob], id: str) -> StoredJob:
    """The job with this id.

    Raises:
        UsageError: there is none.
    """
    job = jobs.get(id)
    if job is None:
        raise UsageError("there is no such job: it was forgotten, or the master is another one")
    return job
