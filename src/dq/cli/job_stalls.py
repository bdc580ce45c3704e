"""Says why a job does not run to those who wait for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from dq.cli.printer import say
from dq.service.status import JobStatus
from dq.service.submitted_job import SubmittedJob

STALL_NOTICE_S = 5.0  # without a running task, after which there is a notice


class Stalls:
    """Notices, given once for each job and reason.

    Args:
        job_of: makes the job to ask for the reasons.
        clock: seconds from any moment on.
    """

    def __init__(
        self,
        job_of: Callable[[JobStatus], SubmittedJob[object]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._job_of = job_of
        self._clock = clock
        self._since: dict[int, tuple[int, float]] = {}  # by number: outcomes, and when they were so
        self._said: set[tuple[int, str]] = set()

    def look(self, jobs: Sequence[JobStatus]) -> None:
        """Say what is to be said about these figures."""
        for job in jobs:
            if job.has_ended or job.running:
                self._since.pop(job.number, None)
            elif self._has_stalled(job):
                self._explain(job)

    def _has_stalled(self, job: JobStatus) -> bool:
        outcomes, now = job.done + job.failed, self._clock()
        before, since = self._since.get(job.number, (-1, now))
        if before != outcomes:
            since = now
        self._since[job.number] = outcomes, since
        return now - since >= STALL_NOTICE_S

    def _explain(self, job: JobStatus) -> None:
        for reason in self._job_of(job).status().why_not:
            what = reason.partition(" for ")[0]  # without how long, which differs each time
            if (job.number, what) not in self._said:
                self._said.add((job.number, what))
                say(f"job {job.number} waits: {reason}")
