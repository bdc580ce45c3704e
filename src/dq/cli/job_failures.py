"""``dq failures`` and ``dq retry``."""

from __future__ import annotations

from typing import Any

import click

from dq._support import spans
from dq._support.spans import Spans
from dq.cli import job_options, options
from dq.cli.failures import shortened
from dq.cli.layout import FAILURES, Command, option
from dq.cli.printer import say
from dq.core.records import printable
from dq.data.outputs import dumps
from dq.data.pieces import BadValue
from dq.errors import UsageError
from dq.security.safe_pickle import safe_loads
from dq.service.status import FailureGroup
from dq.service.submitted_job import SubmittedJob

group_option = option(
    "--group", type=options.POSITIVE, metavar="N", group=FAILURES,
    help="Only the group with this number.",
    more="Numbers are as `dq failures` shows them; after a retry they are others.",
)  # fmt: skip


@click.command(cls=Command)
@job_options.one
@group_option
@job_options.as_json
@job_options.connection
def failures(**given: Any) -> None:
    """Show the failed tasks of a job, grouped by the type of the exception and the
    last place in your own code. With --group, one group with its traceback.

    \b
      dq failures 7
      dq failures 7 --group 1
    """
    with job_options.connected(given) as client:
        found = _groups(client.job(given["job"]), given["group"])
    if given["json"]:
        click.echo("[" + ", ".join(map(_as_json, found)) + "]")
        return
    for group in found:
        for line in _lines(group, in_full=given["group"] is not None):
            click.echo(line)
    if not found:
        click.echo("no task failed")


def _groups(job: SubmittedJob[object], number: int | None) -> list[FailureGroup]:
    """The groups of a job's failed tasks, or the one with this number."""
    found = job.failure_groups(safe_loads)
    if number is None:
        return found
    if number > len(found):
        there = f"there are {len(found)}" if found else "no task failed"
        raise UsageError(f"job {job.number} has no group {number} of failures: {there}")
    return [found[number - 1]]


def _lines(group: FailureGroup, *, in_full: bool) -> list[str]:
    place = f" in {group.place}" if group.place else ""
    message = " ".join(group.message.split())
    first = f"task {group.ids[0]}"
    if not isinstance(group.input, BadValue):
        first += f" ({shortened(group.input)})"
    lines = [f"{group.number}: {group.count} x {group.type}{place}", f"   {first}: {message}"]
    if group.count > 1:
        lines.append(f"   tasks {Spans((id, id + 1) for id in group.ids)}")
    if in_full:
        lines += group.traceback.splitlines()
    return [_printable(line) for line in lines]


def _printable(line: str) -> str:
    """A line of a traceback, whose indentation stays."""
    return printable(line.expandtabs(4))


def _as_json(group: FailureGroup) -> str:
    record: dict[str, object] = {
        "number": group.number,
        "type": group.type,
        "place": group.place,
        "count": group.count,
        "ids": list(group.ids),
        "message": group.message,
        "traceback": group.traceback,
    }
    if not isinstance(group.input, BadValue):
        record["input"] = group.input
    return dumps(record)


@click.command(cls=Command)
@job_options.one
@group_option
@option(
    "--only", type=options.Parsed("numbers", spans.parse), metavar="N,N-M", group=FAILURES,
    help="Only the tasks with these numbers.",
)  # fmt: skip
@option(
    "--here", is_flag=True, group=FAILURES,
    help="Run them in this process, to debug them.",
    more="As `dq run --here` does. Results go to standard output; the job stays as it is.",
)  # fmt: skip
@job_options.connection
def retry(**given: Any) -> None:
    """Run the failed tasks of a job again: all of them, or some. Prints how many they
    are. A job that was stopped or cancelled goes on with what it had left, too.

    \b
      dq retry 7
      dq retry 7 --group 1
      dq retry 7 --only 3,17-20
      python -m pdb -m dq retry 7 --only 17 --here --debug
    """
    if given["group"] is not None and given["only"] is not None:
        raise UsageError("--group and --only together: give the one or the other")
    with job_options.connected(given) as client:
        job = client.job(given["job"])
        ids = _chosen(job, given)
        if not given["here"]:
            _retry(job, ids)
            return
        from dq.cli import retry_here  # here, since it needs much of what a run does

        retry_here.run_again_here(job, ids, debug=given["debug"])


def _retry(job: SubmittedJob[object], ids: list[int] | None) -> None:
    before = job.status()
    click.echo(job.retry(ids))
    left = before.total - before.done - before.failed
    if before.state in ("stopped", "cancelled") and left:
        say(f"job {job.number} goes on with what it had left, too: {left} task{'s' * (left > 1)}")


def _chosen(job: SubmittedJob[object], given: dict[str, Any]) -> list[int] | None:
    """The ids of the tasks to run again; None for all that failed."""
    if given["group"] is not None:
        [group] = _groups(job, given["group"])
        return list(group.ids)
    if given["only"] is None:
        return None
    failed = {row[0] for row in job.failed_rows()}
    for id in (id for span in given["only"] for id in range(*span)):
        if id not in failed:
            raise UsageError(f"task {id} of job {job.number} has not failed")
    return [id for span in given["only"] for id in range(*span)]
