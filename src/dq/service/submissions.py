"""Takes in the jobs that clients submit, block by block."""

from __future__ import annotations

import threading
import time
from functools import partial
from typing import Protocol

from dq.data.blocks import count_of
from dq.errors import DqError, UsageError
from dq.functions.spec import JobSpec
from dq.service import rows
from dq.service.options import JobOptions
from dq.service.store import Store
from dq.service.stored_job import StoredJob, by_id

UNFINISHED_S = 3600.0  # without a word from its submitter, after which a job is swept


class Service(Protocol):
    """What keeps the jobs."""

    @property
    def store(self) -> Store:
        """The file."""

    def committed(self, job: StoredJob, number: int, total: int) -> None:
        """Begin to run a job, all of whose inputs are on disk."""


class Submissions:
    """Jobs whose inputs are being received. The blocks of a job come in order. Each answer says
    which block is wanted next, and how many are on disk: the submitter keeps the others, and sends
    them again to a master that was killed before it had written them.

    Args:
        service: keeps the jobs.
        lock: the service's.
        jobs: all jobs by their ids; the lock guards it.
    """

    def __init__(self, service: Service, lock: threading.RLock, jobs: dict[str, StoredJob]) -> None:
        self._service = service
        self._lock = lock
        self._jobs = jobs

    def begin(self, id: str, spec: JobSpec, functions: bytes | None, options: JobOptions) -> int:
        """Take in a job, whose inputs will follow. The same again changes nothing. Returns which
        block is wanted next."""
        store = self._service.store
        with self._lock:
            for other in options.after:
                by_id(self._jobs, other)
        key = store.ask(
            partial(rows.add_job, id=id, spec=spec, functions=functions, options=options)
        )
        with self._lock:
            for other in options.after:
                by_id(self._jobs, other)  # once it is gone, nobody knows how it has ended
            if id not in self._jobs:
                self._jobs[id] = StoredJob(
                    key=key,
                    id=id,
                    number=0,
                    name=options.name,
                    task=str(spec.ref),
                    options=options,
                    submitted=time.time(),
                    state=rows.RECEIVING,
                )
            self._jobs[id].seen = time.monotonic()
            return self._jobs[id].received

    def add_block(self, id: str, number: int, data: bytes) -> tuple[int, int]:
        """Take in a block of inputs, if it is the one that is wanted. Returns which one is wanted
        next, and how many are on disk.

        Raises:
            UsageError: it is not a block, or there is no such job.
            DqError: an earlier one could not be written.
        """
        try:
            count = count_of(data)
        except ValueError as error:
            raise UsageError(str(error)) from None
        with self._lock:
            job = by_id(self._jobs, id)
            self._raise_error(job)
            job.seen = time.monotonic()
            if number == job.received and not job.is_committed:
                job.received += 1
                self._write(job, number, count, data)
            return job.received, job.written

    def _write(self, job: StoredJob, number: int, count: int, data: bytes) -> None:
        def written(_: object) -> None:
            job.written = number + 1

        def refused(error: DqError) -> None:
            job.error = job.error or error

        action = partial(rows.add_block, key=job.key, number=number, count=count, data=data)
        self._service.store.stream(action, written, refused, len(data))

    def _raise_error(self, job: StoredJob) -> None:
        """Raise the error that kept a block from being written, once: those from there on may be
        sent again."""
        error, job.error = job.error, None
        if error is not None:
            job.received = job.written
            raise error

    def commit(self, id: str, blocks: int, total: int) -> tuple[int, int, int]:
        """Begin to run a job, all of whose inputs have come. The same again changes nothing.

        Returns:
            Its number, or 0 if blocks are missing; which one is wanted next; and how many are on
            disk.

        Raises:
            UsageError: there is no such job, or its blocks have other inputs.
            DqError: some could not be written.
        """
        with self._lock:
            job = by_id(self._jobs, id)
            if not job.is_committed and job.received < blocks:
                self._raise_error(job)
                return 0, job.received, job.written

        def then(number: int | None) -> None:
            if number is not None:
                self._service.committed(job, number, total)

        action = partial(rows.commit_job, key=job.key, blocks=blocks, total=total)
        number = self._service.store.ask(action, then)
        if number is None:
            with self._lock:
                self._raise_error(job)
            raise UsageError(f"the {blocks} blocks do not have {total} inputs")
        return number, blocks, blocks

    def sweep(self, now: float) -> None:
        """Remove the jobs whose submitters have not been heard of for long."""
        with self._lock:
            left = [
                job
                for job in self._jobs.values()
                if not job.is_committed and now - job.seen > UNFINISHED_S
            ]
            for job in left:
                del self._jobs[job.id]
                self._service.store.write(partial(rows.forget, key=job.key))
