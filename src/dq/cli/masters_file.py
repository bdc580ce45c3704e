"""``dq journal`` for the file of a master that keeps jobs."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from functools import partial

from dq.cli.failures import Groups, failed_line
from dq.cli.job_lists import in_full, jobs_table, terminal_width
from dq.cli.result_lines import LineMaker, name_of
from dq.core.records import printable
from dq.errors import UsageError
from dq.service.inspect import MastersFile, is_masters
from dq.service.status import JobStatus

__all__ = ["is_masters", "lines"]


def lines(path: str, job: str | None, form: str, *, failed: bool) -> Iterator[str]:
    """What is shown of a file.

    Args:
        path: the file.
        job: which of its jobs; None for all.
        form: "text" or "jsonl".
        failed: only failed tasks.

    Raises:
        UsageError: there is no such job, or options do not go together.
        BadJournal: it is damaged, or of another dq.
    """
    if job is None and failed:
        raise UsageError(f"{path} has several jobs: name the one whose failed tasks you want")
    with MastersFile.opened(path) as file:
        if job is None:
            yield from _jobs(file, form)
        elif form == "text" and not failed:
            yield from _one(file, file.job(job))
        else:
            yield from _outcomes(file, file.job(job), form, failed=failed)


def _jobs(file: MastersFile, form: str) -> Iterator[str]:
    found = file.jobs()
    if form == "jsonl":
        yield from (json.dumps(dataclasses.asdict(job)) + "\n" for job in found)
        return
    yield f"{jobs_table(found, terminal_width())}\n" if found else "no jobs\n"
    if file.is_open:
        yield "open: a master is writing it, or died while it did\n"


def _one(file: MastersFile, job: JobStatus) -> Iterator[str]:
    yield in_full(job) + "\n"
    groups = Groups()
    maker = LineMaker("text", file.reading(job.number), None)
    for row in file.outcomes(job.number):
        for result in maker.lines(row).failed:
            assert result.error is not None  # it failed
            groups.add(result.error, partial(name_of, result))
    yield from (f"{printable(line)}\n" for line in groups.lines())


def _outcomes(file: MastersFile, job: JobStatus, form: str, *, failed: bool) -> Iterator[str]:
    """The records of a job's tasks, or a line for each that failed."""
    maker = LineMaker("jsonl", file.reading(job.number), None)
    for row in file.outcomes(job.number):
        if failed and row[5] is None:
            continue
        found = maker.lines(row)
        if form == "jsonl":
            yield found.blob.decode()
            continue
        for result in found.failed:
            assert result.error is not None  # it failed
            yield printable(failed_line(name_of(result), result.error, result.attempts)) + "\n"
