"""The work of ``dq retry --here``: failed tasks of a job run in this process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dq.cli import commands
from dq.cli.here import results_apart, serve_here
from dq.cli.run_inputs import RunInputs
from dq.cli.selection import Selection
from dq.cli.surroundings import enter_directory, quietly
from dq.errors import UsageError
from dq.functions.task_check import checked

if TYPE_CHECKING:
    from dq.service.submitted_job import SubmittedJob


def run_again_here(job: SubmittedJob[object], ids: list[int] | None, *, debug: bool) -> None:
    """``dq retry --here``: run failed tasks of a job in this process: these, or all. The job stays
    as it is.

    Raises:
        UsageError: none has failed.
    """
    wanted = None if ids is None else set(ids)
    rows = [row for row in job.failed_rows() if wanted is None or row[0] in wanted]
    if not rows:
        raise UsageError(f"no task of job {job.number} has failed")
    spec = job.spec()
    assert spec.ref is not None  # each job has a task
    selection = Selection(tuple((row[0], row[0] + row[1]) for row in rows))
    items = [item for row in rows for item in row[7] or ()]
    source = RunInputs(items, spec.reading, selection=selection)
    # The options of a run of the same task.
    given = commands.run.make_context("run", [str(spec.ref), "input", "--here"]).params
    given |= {"unpack": spec.unpack == "items", "format": "text", "debug": debug}
    enter_directory()
    with results_apart() as stdout:
        with quietly():
            ref = spec.ref if spec.ref.kind == "value" else checked(str(spec.ref))
        serve_here(ref, source, given, stdout, init=spec.init)
