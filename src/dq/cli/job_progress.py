"""Waits for jobs on a serving master, and shows how far they are."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence

from dq.cli.job_stalls import Stalls
from dq.cli.signals import ended_by, ending_is_interrupting
from dq.errors import DqError
from dq.master.progress import Progress
from dq.service.client import Client
from dq.service.selectors import selector_of
from dq.service.status import JobStatus
from dq.service.submitted_job import PAUSE_S, SubmittedJob

CHECK_S = 1.0  # the longest time between two looks at jobs
PAUSE_EACH_S = 0.005  # the shortest for each job, so that many are no burden to the master


@contextlib.contextmanager
def leaving(numbers: Sequence[int], hint: str = "") -> Iterator[None]:
    """Have Ctrl-C and the other signals that end a command say that the jobs that are waited for
    go on.

    Args:
        numbers: of the jobs.
        hint: what to do about that.
    """
    go = "goes" if len(numbers) == 1 else "go"
    message = f"{listed(numbers)} {go} on{hint}"
    try:
        with ending_is_interrupting():
            yield
    except KeyboardInterrupt as signal:
        raise ended_by(signal, message) from None


def listed(numbers: Sequence[int]) -> str:
    """Jobs, for people.

    >>> listed([7]), listed([7, 8])
    ('job 7', 'jobs 7, 8')
    """
    return f"job{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))}"


def wait_for(
    client: Client, jobs: Sequence[JobStatus], on_change: Callable[[list[JobStatus]], object]
) -> list[JobStatus]:
    """Wait until jobs have ended. Returns their figures.

    Args:
        client: the master's.
        jobs: which.
        on_change: called with their figures at intervals.
    """
    found = {job.id: job for job in jobs}
    stalls = Stalls(client.known)
    while True:
        shown = list(found.values())
        on_change(shown)
        stalls.look(shown)
        waiting = [job for job in shown if not job.has_ended]
        if not waiting:
            return shown
        client.known(waiting[0]).changed_since(waiting[0].version, CHECK_S)
        time.sleep(max(PAUSE_S, len(waiting) * PAUSE_EACH_S))
        found |= {job.id: job for job in client.jobs(*(selector_of(job.id) for job in waiting))}


class Sum:
    """The progress of several jobs as one, on the terminal.

    Args:
        quiet: show nothing.
    """

    def __init__(self, *, quiet: bool) -> None:
        self._total: int | None = None
        self.progress = Progress(lambda: self._total, quiet=quiet)

    def show(self, jobs: list[JobStatus]) -> None:
        """Show these figures from now on."""
        self._total = sum(job.total for job in jobs)
        self.progress.show(sum(job.done for job in jobs), sum(job.failed for job in jobs))


class Watch:
    """Shows the progress of a job while its results are copied, from `__enter__` to `__exit__`, and
    says why it does not run.

    Args:
        job: which.
        follow: the copying waits for what is not there yet; else there is nothing to show.
        quiet: show no progress.
    """

    def __init__(self, job: SubmittedJob[object], *, follow: bool, quiet: bool) -> None:
        self._job = job
        self._follow = follow
        self._is_over = threading.Event()
        self._sum = Sum(quiet=quiet or not follow)
        self._thread = threading.Thread(target=self._look, name="dq-watch", daemon=True)

    def __enter__(self) -> Watch:
        self._sum.progress.start()
        if self._follow:
            self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._is_over.set()
        self._sum.progress.stop()

    def finish(self, done: int, failed: int) -> None:
        """Show a summary, as `dq run` does."""
        self._sum.progress.show(done, failed)
        self._sum.progress.finish()

    def _look(self) -> None:
        # The copying meets the same errors, and reports them.
        with contextlib.suppress(DqError), self._job.apart() as job:
            stalls = Stalls(lambda _: job)
            while not self._is_over.is_set():
                found = [job.status()]
                self._sum.show(found)
                stalls.look(found)
                self._is_over.wait(CHECK_S)
