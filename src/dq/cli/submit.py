"""``dq submit``: sends a job to a serving master."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from dq._support.fields import given_for
from dq.cli import completion, job_options, options, submit_check
from dq.cli.job_progress import leaving
from dq.cli.job_results import ResultPrinter
from dq.cli.layout import JOB, OUTPUT, Command, option
from dq.cli.printer import say
from dq.cli.run_files import check_files
from dq.cli.run_inputs import RunInputs, run_inputs
from dq.cli.signals import ended_by, ending_is_interrupting
from dq.cli.surroundings import enter_directory, quietly
from dq.errors import BadInput, ConnectError, UsageError
from dq.functions.forked_checks import checks
from dq.functions.job_specs import JobSpecs
from dq.functions.task_options import TaskOptions
from dq.master.progress import Progress
from dq.service.client import Client
from dq.service.options import MOST_PRIORITY, JobOptions
from dq.service.specs import OUTPUT as KEPT
from dq.service.submitted_job import SubmittedJob

UNSURE = "whether it was submitted is not certain: `dq jobs` shows it"


@click.command(cls=Command)
@click.argument("task", type=completion.TASK)
@click.argument("inputs", type=completion.INPUT, nargs=-1, metavar="[INPUT]...")
@options.readable
@option(
    "--wait", is_flag=True, group=OUTPUT,
    help="Print the results, as `dq run` does.",
    more="The job's number then goes to standard error. Ctrl-C leaves the job running.",
)  # fmt: skip
@options.outputs
@options.retries
@options.after_failures
@option("--name", default="", metavar="NAME", group=JOB, help="What the job may be called.")
@option(
    "--priority", type=options.Whole(-MOST_PRIORITY, MOST_PRIORITY), default=0,
    show_default=True, metavar="N", group=JOB,
    help="Jobs with a higher one go first.",
)  # fmt: skip
@option(
    "--after", multiple=True, metavar="JOB", group=JOB,
    help="Run it once JOB has succeeded.",
    more="May be given several times. If JOB fails, this one is cancelled.",
)  # fmt: skip
@options.calls
@job_options.connection
@options.quiet
@options.dry_run
def submit(**given: Any) -> None:
    """Send a job to a serving master, and print its number once all of it is on
    the master's disk. TASK and INPUTs are as for `dq run`.

    \b
      dq submit app:square --input numbers.txt
      dq submit app.py:resize a.png b.png --name photos --retries 2
      dq submit app:square 1 2 3 --wait > squares.txt
    """
    if not given["inputs"] and given["input"] is None:
        from dq.cli import no_input  # here, since few commands need it

        raise no_input.error(given["task"])
    _check_wait(given)
    enter_directory()
    given["max_failures"] = 1 if given["fail_fast"] else given["max_failures"]
    wanted = JobOptions(
        name=given["name"],
        priority=given["priority"],
        tasks=TaskOptions(**given_for(given, TaskOptions)),
    )
    given |= {"only": None, "journal": None}
    if given["dry_run"]:
        submit_check.check_job(given, wanted.tasks)
        return
    specs = _checked(wanted.tasks, given)
    source = run_inputs(given)
    printer = ResultPrinter(given) if given["wait"] else None
    try:
        with job_options.connected(given) as client:
            _warn_of_unsuccessful(client, given["after"])
            job = _send(client, specs, source, wanted, given)
            if printer is None:
                _print_number(job.number)
                return
            with leaving([job.number], f"; dq results {job.number} --follow"):
                say(f"this is job {job.number}")
                printer.print_results(job, follow=True)
    finally:
        if printer is not None:
            printer.close()


def _warn_of_unsuccessful(client: Client, after: Sequence[str]) -> None:
    """Say which of the jobs that are to be followed have not succeeded, since they never may."""
    for awaited in client.jobs(*after) if after else ():
        if awaited.has_ended and not awaited.ended_well:
            say(
                f"job {awaited.number} has not succeeded, so this one is cancelled; once a retry of"
                f" job {awaited.number} has succeeded, retry this one"
            )


def _print_number(number: int) -> None:
    try:
        click.echo(number)
    except OSError:
        say(f"this is job {number}")  # the error, which follows, does not say so
        raise


def _check_wait(given: dict[str, Any]) -> None:
    """Refuse options for results that nobody waits for."""
    if given["wait"]:
        check_files({**given, "journal": None, "failures": None})
        return
    for name in ("output", "format", "fill", "unordered"):
        if options.is_typed(name):
            raise UsageError(
                f"--{name} goes with --wait; `dq results JOB --{name}` has the results later"
            )


def _checked(tasks: TaskOptions, given: dict[str, Any]) -> JobSpecs:
    """Check the TASK as far as that is possible here. Its libraries may be on the workers alone."""
    checks.begin(given["timeout"])
    try:
        with quietly():
            specs = JobSpecs(tasks, has_workers=False, report=say)
            specs.check(given["task"])
        return specs
    finally:
        checks.close()


def _send(
    client: Client,
    specs: JobSpecs,
    source: RunInputs,
    wanted: JobOptions,
    given: dict[str, Any],
) -> SubmittedJob[object]:
    spec = specs.spec(*specs.refer(given["task"]), output=KEPT, reading=source.reading)
    records = _Records(source)
    progress = Progress(source.count, quiet=given["quiet"])
    if progress.has_bar:
        source.start_counting()
    progress.show(0, 0)
    progress.start()
    try:
        with ending_is_interrupting():
            return client.send(
                spec, records, wanted, given["after"], lambda sent: progress.show(sent, 0)
            )
    except KeyboardInterrupt as signal:
        what = UNSURE if records.are_over else "no job was submitted"
        raise ended_by(signal, f"interrupted; {what}") from None
    except ConnectError as error:
        what = UNSURE if records.are_over else "no job was submitted"
        error.args = (f"{error}; {what}",)
        raise
    finally:
        progress.stop()
        source.stop_counting()


class _Records:
    """The inputs of a job, which notes when all of them have been read.

    Attributes:
        are_over: whether they have: before that, the job cannot have begun.
    """

    def __init__(self, source: RunInputs) -> None:
        self._source = source
        self.are_over = False

    def __iter__(self) -> Any:
        try:
            yield from self._source.items
        except (OSError, EOFError, ValueError) as error:  # a damaged file, perhaps compressed
            reason = getattr(error, "strerror", None) or str(error)
            raise BadInput(f"cannot read {self._source.name}: {reason}") from None
        self.are_over = True
