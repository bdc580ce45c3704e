"""``dq results``, and the results that ``dq submit --wait`` prints."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import Any

import click

from dq._support.screen import screen
from dq._support.spans import Spans
from dq.cli import job_options, options
from dq.cli.failures import FailureReport
from dq.cli.job_control import how_it_ended
from dq.cli.job_progress import Watch, leaving
from dq.cli.layout import OUTPUT, Command, option
from dq.cli.printer import say
from dq.cli.result_lines import LineMaker, name_of
from dq.cli.run_files import output_format
from dq.data.output_file import Writer
from dq.errors import DqError, Stopped
from dq.service.results import Row
from dq.service.status import JobStatus
from dq.service.submitted_job import SubmittedJob


@click.command(cls=Command)
@job_options.one
@job_options.follow
@options.outputs
@option("-0", "--null", is_flag=True, group=OUTPUT, help="Results end with NUL, not a newline.")
@job_options.connection
@options.quiet
def results(**given: Any) -> None:
    """Print the results of a job, at any time, as often as wanted, on any machine:
    as `dq run` prints them. JOB is a job's number or name, or `last`.

    \b
      dq results 7
      dq results last --follow -o squares.txt
      dq results nightly --format jsonl | jq .result
    """
    printer = ResultPrinter(given)
    try:
        with job_options.connected(given) as client:
            printer.print_results(client.job(given["job"]), follow=given["follow"])
    finally:
        printer.close()


class ResultPrinter:
    """Prints the results of a job on standard output or to a file.

    Args:
        given: the command's options.

    Raises:
        UsageError: the file cannot be written, or options do not go together.
    """

    def __init__(self, given: dict[str, Any]) -> None:
        self._given = given
        self._form = output_format(given)
        self._writer = Writer(given["output"])
        self._printed = Spans()  # tasks whose outcomes were printed
        self._failed = 0

    def close(self) -> None:
        """Close the file; FILE.part stays if it is not complete."""
        self._writer.close()

    def print_results(self, job: SubmittedJob[object], *, follow: bool) -> None:
        """Print them.

        Args:
            job: whose they are.
            follow: wait for those that are not there yet, until the job has ended.

        Raises:
            Exit: some tasks failed.
            Stopped: the job ended early, or has not ended.
            Interrupted: by Ctrl-C. The job goes on.
        """
        reading = job.reading()
        maker = LineMaker(self._form, reading, self._given["fill"])
        report = FailureReport(say, raw=reading.kind == "raw", quiet=self._given["quiet"])
        ordered = not self._given["unordered"]
        watch = Watch(job, follow=follow, quiet=self._given["quiet"])
        try:
            with leaving([job.number], f"; dq results {job.number} --follow"), watch:
                for row in job.rows(ordered=ordered, follow=follow, inputs=maker.needs_inputs):
                    self._take(row, maker, report)
            status = job.status()
            for note in status.notes:
                say(note)
            self._complete(status)
        except DqError as error:
            raise self._with_what_is_kept(error) from None
        finally:
            report.summarize(f"; dq failures {job.number} shows all of them in groups")
            watch.finish(self._printed.count - self._failed, self._failed)
        if self._failed:
            raise click.exceptions.Exit(1)

    def _take(self, row: Row, maker: LineMaker, report: FailureReport) -> None:
        lines = maker.lines(row)
        if lines.blob:
            with screen.room() if self._writer.is_terminal else contextlib.nullcontext():
                self._writer.write(lines.blob)
        self._printed.add(row[0], row[0] + row[1])
        for result in lines.failed:
            self._failed += 1
            assert result.error is not None  # it failed
            report.add(result.error, result.attempts, result.input, partial(name_of, result))

    def _complete(self, status: JobStatus) -> None:
        """Complete the file, if each task has an outcome and all of them were printed.

        Raises:
            Stopped: that is not so.
        """
        count = self._printed.count
        if status.state in ("done", "failed") and count == status.total:
            self._writer.commit()
            return
        which = f"job {status.number}"
        counts = f"{status.done + status.failed} of {status.total} tasks"
        if not status.has_ended:
            raise Stopped(
                f"{which} has not ended: {counts} have an outcome; --follow waits for the others"
            )
        if status.state in ("done", "failed"):
            raise Stopped(f"{which} has changed while it was read; once more has all of it")
        raise Stopped(f"{how_it_ended(status)}; {counts} had an outcome")

    def _with_what_is_kept(self, error: DqError) -> DqError:
        """The same error, with a message that also says which results were printed."""
        count = self._printed.count
        if not count or (self._writer.broken and not self._writer.kept):
            return error
        tasks = f" (of tasks {self._printed})" if self._printed.has_gaps else ""
        results = "1 result is" if count == 1 else f"{count} results are"
        error.args = (f"{error}; {results} {self._writer.place}{tasks}",)
        return error
