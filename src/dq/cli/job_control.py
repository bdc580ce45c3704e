"""``dq wait``, ``dq cancel``, ``dq forget`` and ``dq stop``."""

from __future__ import annotations

from typing import Any

import click

from dq.cli import job_options, options
from dq.cli.job_progress import Sum, leaving, listed, wait_for
from dq.cli.layout import OTHER, Command, option
from dq.cli.printer import say
from dq.errors import ConnectError, Interrupted, UsageError
from dq.service.client import Client
from dq.service.selectors import selector_of
from dq.service.status import JobStatus


@click.command(cls=Command)
@job_options.some
@job_options.connection
@options.quiet
def wait(**given: Any) -> None:
    """Wait until jobs have ended. The exit code is what `dq run` would have had; of
    several jobs, the highest one.

    \b
      dq wait 7 && dq results 7
      dq wait 3-7 nightly
    """
    with job_options.connected(given) as client:
        jobs = client.jobs(*given["jobs"])
        sum = Sum(quiet=given["quiet"])
        sum.progress.start()
        try:
            with leaving([job.number for job in jobs]):
                found = wait_for(client, jobs, sum.show)
        finally:
            sum.progress.stop()
    for job in found:
        for note in job.notes:
            say(f"job {job.number}: {note}")
        if not job.ended_well:
            say(how_it_ended(job))
    if code := max((job.exit_code for job in found), default=0):
        raise click.exceptions.Exit(code)


def how_it_ended(job: JobStatus) -> str:
    """How a job has ended, on one line."""
    if job.state == "done":
        return f"job {job.number} is done"
    if job.state == "failed":
        return f"job {job.number}: {job.failed} of {job.total} tasks failed"
    why = f": {job.reason}" if job.reason else ""
    return f"job {job.number} was {job.state}{why}"


@click.command(cls=Command)
@job_options.some
@job_options.connection
def cancel(**given: Any) -> None:
    """End jobs: nothing more of them is run, and running tasks are ended. Their
    results stay.

    \b
      dq cancel 7
      dq cancel all
    """
    with job_options.connected(given) as client:
        # What was open before and is cancelled now was cancelled by this command, or by another one
        # at the same moment. The answer alone would not do: it may have been lost with a master.
        before = client.jobs(*given["jobs"])
        is_named = given["jobs"] != ("all",)  # who says `all` means those that go on
        ids = [selector_of(job.id) for job in before if not job.has_ended]
        if ids:
            client.cancel(*ids)
        after = {job.number: job for job in client.jobs(*ids)} if ids else {}
    for job in before:
        now = after.get(job.number)
        if now is not None and now.state == "cancelled":
            click.echo(f"job {job.number} is cancelled")
        elif now is not None or is_named:
            say(f"job {job.number} had ended already: {(now or job).state}")
    if not ids and not is_named:
        say("no job is left to be cancelled")


@click.command(cls=Command)
@job_options.some
@job_options.connection
def forget(**given: Any) -> None:
    """Remove jobs that have ended from the master, with their inputs and results.

    \b
      dq forget 7
      dq forget 1-6
    """
    with job_options.connected(given) as client:
        found = client.jobs(*given["jobs"])
        going = [job.number for job in found if not job.has_ended]
        if going:
            has = "has" if len(going) == 1 else "have"
            raise UsageError(f"{listed(going)} {has} not ended: `dq cancel` ends them")
        for job in reversed(found):  # first those that follow others
            _forget(client, job)
            click.echo(f"job {job.number} is forgotten")


def _forget(client: Client, job: JobStatus) -> None:
    try:
        client.known(job).forget()
    except UsageError:
        # It may have been removed by the same call, whose answer was lost with the master.
        if any(other.id == job.id for other in client.jobs()):
            raise


@click.command(cls=Command)
@option("--now", is_flag=True, group=OTHER, help="Do not wait for running tasks.")
@job_options.connection
def stop(**given: Any) -> None:
    """End a master: once its running tasks have ended, or now. Its jobs go on when it
    is started again with the same journal.

    \b
      dq stop --server 10.0.0.2
      dq stop --now
    """
    # Not looked for once it has gone: that is what this waits for.
    with job_options.connected({**given, "reconnect": 0.0}) as client:
        client.stop(now=given["now"])
        try:
            client.wait_for_end()
        except ConnectError:
            return
        except KeyboardInterrupt:
            raise Interrupted("interrupted; the master ends once its tasks have ended") from None
