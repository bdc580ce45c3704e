"""``dq jobs`` and ``dq status``."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
import sys
import time
from collections.abc import Callable
from typing import Any

import click

from dq._support.quantities import human_duration
from dq.cli import job_options, options
from dq.cli.layout import OTHER, Command, option
from dq.cli.tables import Column, table
from dq.core.records import printable
from dq.errors import UsageError
from dq.service.client import Client
from dq.service.status import JobStatus

CLEAR = "\x1b[H\x1b[2J"
REDRAW_S = 1.0


@click.command(cls=Command)
@job_options.any_number
@job_options.as_json
@job_options.watch
@job_options.connection
def jobs(**given: Any) -> None:
    """List jobs: all of them, or these. JOB is a number (7), several (3-7), `last`,
    `all`, or a name.

    \b
      dq jobs
      dq jobs 3-7 nightly
      dq jobs --json | jq '.[] | select(.state == "failed") | .number'
    """
    with job_options.connected(given) as client:
        show(lambda: _listing(client, given), given)


@click.command(cls=Command)
@click.argument("job", default="last")
@option(
    "--why", type=options.COUNT, metavar="TASK", group=OTHER,
    help="Only say where the task with this number is.",
)  # fmt: skip
@job_options.as_json
@job_options.watch
@job_options.connection
def status(**given: Any) -> None:
    """Show a job in full, and why none of its tasks runs. Without JOB, the newest.

    \b
      dq status 7
      dq status nightly --watch
      dq status 7 --why 4711
    """
    if given["why"] is not None and given["json"]:
        raise UsageError("--why and --json together: give the one or the other")
    with job_options.connected(given) as client:
        show(lambda: _in_full(client, given), given)


def show(text: Callable[[], str], given: dict[str, Any]) -> None:
    """Print a text, once or again each second."""
    if not given["watch"]:
        click.echo(text())
        return
    if given["json"] or not sys.stdout.isatty():
        raise UsageError("--watch goes with a terminal, and without --json")
    with contextlib.suppress(KeyboardInterrupt):  # which is how it ends
        while True:
            click.echo(CLEAR + text())
            time.sleep(REDRAW_S)


def terminal_width() -> int:
    """How many columns a table may have; 80 where there is no terminal."""
    return shutil.get_terminal_size().columns


def _listing(client: Client, given: dict[str, Any]) -> str:
    found = client.jobs(*given["jobs"])
    if given["json"]:
        return json.dumps([dataclasses.asdict(job) for job in found])
    if not found:
        return "no jobs"
    return jobs_table(found, terminal_width())


def jobs_table(jobs: list[JobStatus], width: int) -> str:
    """A table of jobs that fits so many columns of a terminal."""
    return "\n".join(table(_columns(jobs), width))


def _columns(jobs: list[JobStatus]) -> list[Column]:
    now = time.time()
    return [
        Column("JOB", [str(job.number) for job in jobs], right=True),
        Column("NAME", [printable(job.name) for job in jobs], shrinks=True),
        Column("STATE", [job.state for job in jobs]),
        Column("DONE", [f"{job.done}/{job.total}" for job in jobs], right=True),
        Column("FAILED", [str(job.failed or "") for job in jobs], right=True),
        Column("RUNNING", [str(job.running or "") for job in jobs], right=True, spare=1),
        Column("PRIO", [str(job.priority or "") for job in jobs], right=True, spare=2),
        Column("LEFT", [_left(job) for job in jobs], right=True),
        Column("AGE", [_age(job, now) for job in jobs], right=True, spare=3),
        Column("TASK", [printable(job.task) for job in jobs], shrinks=True),
    ]


def _left(job: JobStatus) -> str:
    return "" if job.left is None else human_duration(job.left)


def _age(job: JobStatus, now: float) -> str:
    return human_duration(round(max(now - job.submitted, 0.0)))


def _in_full(client: Client, given: dict[str, Any]) -> str:
    found = client.job(given["job"])
    if given["why"] is not None:
        return "\n".join(map(printable, found.why_not(given["why"]))) or "it is about to run"
    job = found.status()
    if given["json"]:
        return json.dumps(dataclasses.asdict(job))
    return in_full(job)


def in_full(job: JobStatus) -> str:
    """All that is known of a job, for people."""
    facts = [(name, value) for name, value in _facts(job) if value]
    width = max(len(name) for name, _ in facts)
    return "\n".join(f"{name:{width}}  {printable(value)}" for name, value in facts)


def _facts(job: JobStatus) -> list[tuple[str, str]]:
    state = f"{job.state}: {job.reason}" if job.reason else job.state
    counts = [f"{job.done + job.failed} of {job.total}"]
    counts += [f"{job.failed} failed"] if job.failed else []
    counts += [f"{job.running} running"] if job.running else []
    speed = f"{job.rate:.2g}/s" if job.rate is not None and job.rate < 10 else ""
    speed = f"{job.rate:.0f}/s" if job.rate is not None and job.rate >= 10 else speed
    return [
        ("job", f"{job.number} ({job.name})" if job.name else str(job.number)),
        ("task", job.task),
        ("state", state),
        ("tasks", ", ".join(counts)),
        ("rate", speed),
        ("left", _left(job)),
        ("priority", str(job.priority or "")),
        ("submitted", _moment(job.submitted)),
        ("ended", "" if job.ended is None else _moment(job.ended)),
        *[("waits", reason) for reason in job.why_not],
        *[("note", note) for note in job.notes],
    ]


def _moment(seconds: float) -> str:
    ago = human_duration(round(max(time.time() - seconds, 0.0)))
    return f"{time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(seconds))} ({ago} ago)"
