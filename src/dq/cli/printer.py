"""Handles the records of a run: writes results to the output, and reports failures and progress."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

from dq._support.screen import screen
from dq._support.spans import Spans
from dq.cli.failures import SHOWN, FailureReport, named
from dq.cli.signals import FINISHING, Stages
from dq.core.records import Done, Failed, Failure, Recorded, Result, printable
from dq.data.buffers import head_of
from dq.data.output_file import Writer
from dq.data.outputs import NUL_ENDED, is_text, jsonl, text
from dq.data.pieces import BadValue
from dq.dispatch.results import results_of
from dq.errors import BadInput, DqError, InputChanged, Interrupted, OutputError, Stopped
from dq.master.progress import Progress

if TYPE_CHECKING:
    from dq.cli.run_inputs import RunInputs
    from dq.master.job_reader import JobReader  # not at run time, since `dq worker` needs none

LEFT = "without waiting for running tasks"


def say(line: str) -> None:
    """Write one line for people."""
    screen.say(f"dq: {printable(line)}")


def say_finishing(running: int) -> None:
    """Say what the first signal does, if there are tasks to wait for."""
    if running:
        say(FINISHING)


class Unreadable(BadInput):
    """Raised when a line cannot be read, and must not be skipped."""


class Printer:
    """Copies records to the output, and reports failures.

    Args:
        job: the job to read.
        source: its inputs.
        writer: where results go.
        failures: an additional file for the records of failed tasks; None for none.
        given: the command's options.
    """

    def __init__(
        self,
        job: JobReader,
        source: RunInputs,
        writer: Writer,
        failures: Writer | None,
        given: dict[str, Any],
    ) -> None:
        self._job = job
        self._source = source
        self._writer = writer
        self._failures = failures
        self._given = given
        self._form = given["format"]
        self._shares_terminal = writer.is_terminal
        known = job.served.replay.left if job.served.replay is not None else 0
        # A result that ends in NUL leaves the cursor behind it, so there is no free line for a bar.
        has_no_line = self._shares_terminal and self._form == NUL_ENDED
        self.progress = Progress(
            self._total, quiet=given["quiet"] or has_no_line, known=known,
            live=not given.get("here"),
        )  # fmt: skip
        job.on_records = self.progress.take
        self.failed = 0
        self._skipped = 0
        self._report = FailureReport(say, raw=given["raw"], quiet=given["quiet"])
        self._written = Spans()  # tasks whose results are in the output

    # From a signal's thread

    def drain(self) -> None:
        """Let running tasks finish, and start no others."""
        self._job.halt("interrupted")  # first, so that the line is true when it appears
        say_finishing(self._job.served.job.leases)

    def leave(self) -> None:
        """End the run now."""
        self._job.abort(Stopped(LEFT))

    def stop(self) -> None:
        """End the run, in which no task runs elsewhere."""
        self._job.abort(Stopped("interrupted"))

    # From the main thread

    def run(self, stages: Stages) -> None:
        """Handle all records.

        Raises:
            DqError: the run ended early; the message says which results exist.
        """
        records = self._job.unordered if self._given["unordered"] else self._job.ordered
        self.progress.start()
        try:
            for record in records():
                self._take(record)
        except KeyboardInterrupt:  # raised in a task's code, if that runs in this process
            with contextlib.suppress(DqError):
                self._take_rest()
            raise self._explained(Interrupted("interrupted"), stages) from None
        except Exception as error:
            with contextlib.suppress(DqError):  # the first error is the one to report
                self._take_rest()
            if error is self._job.input_error and not isinstance(error, DqError):
                error = BadInput(f"cannot read {self._source.name}: {_reason(error)}")
            if not isinstance(error, DqError):
                raise
            raise self._explained(error, stages) from None
        finally:
            self.progress.stop()

    def commit(self) -> None:
        """Complete the files, now that every task has an outcome."""
        try:
            self._writer.commit()
            if self._failures is not None:
                self._failures.commit()
        except OutputError as error:
            raise self._with_what_is_kept(error) from None

    def summarize(self) -> None:
        """Report failures, and the end of the run."""
        self._report.summarize("" if self._failures else "; --failures FILE writes each of them")
        if self._skipped > SHOWN:
            say(f"{self._skipped - SHOWN} more inputs were skipped")
        # These counts are checked. A worker may claim that any input could not be read.
        self.progress.failed, self.progress.skipped = self.failed, self._skipped
        self.progress.finish(self._job.served.job.counts.dropped)

    def _total(self) -> int | None:
        if self._source.selection is not None:
            return self._source.count()
        job = self._job.served.job
        return job.next + job.unbatched if job.ended else self._source.count()

    def _explained(self, error: DqError, stages: Stages) -> DqError:
        """The error that tells people why the run ended early."""
        if isinstance(error, InputChanged):
            error = BadInput(f"{self._source.place(error.index)} {error.reason}")
        elif type(error) is Interrupted or (type(error) is Stopped and stages.count):
            when = "before the end" if self._written.count else "before the first result"
            how = f", {LEFT}" if str(error) == LEFT else ""
            by_term = stages.count and not stages.interrupted
            error = (Stopped if by_term else Interrupted)(f"stopped {when}{how}")
        return self._with_what_is_kept(error)

    def _with_what_is_kept(self, error: DqError) -> DqError:
        """The same error, with a message that also says which results exist, and how to get the
        others."""
        count = self._written.count
        if not count or (self._writer.broken and not self._writer.kept):
            return error
        tasks = f" (of tasks {self._written})" if self._written.has_gaps else ""
        results = "1 result is" if count == 1 else f"{count} results are"
        resume = self._resume(error)
        error.args = (f"{error}; {results} {self._writer.place}{tasks}{resume}",)
        return error

    def _resume(self, error: DqError) -> str:
        """How to get the other results; "" if the same inputs would fail in the same way."""
        if self._source.selection is not None:
            return ""
        if self._given["journal"] is None:
            return "; with --journal FILE the same command would have gone on from there"
        if isinstance(error, Unreadable):
            how = "the same command with --retry-failed goes on from there"
            return f"; once it can be read, {how}"
        return "" if isinstance(error, BadInput) else "; the same command goes on from there"

    def _take(self, record: Recorded) -> None:
        outcome = record.outcome
        if isinstance(outcome, Done):
            self._write(record, head_of(outcome.blob))
        elif outcome.is_unreadable and (bad := self._why_bad(record)):
            self._take_bad(record, bad)
        else:
            self._take_failure(record, outcome)

    def _take_rest(self) -> None:
        """Write the results that have arrived but were not written yet. Some of them waited for
        earlier ones, but users are better off with them than without."""
        for record in self._job.undelivered():
            with contextlib.suppress(BadInput):  # the first one is reported
                self._take(record)

    def _write(self, record: Recorded, blob: bytes) -> None:
        with screen.room() if self._shares_terminal else contextlib.nullcontext():
            self._writer.write(blob)
        self._written.add(record.batch.start, record.batch.stop)

    def _why_bad(self, record: Recorded) -> Failure | None:
        """Why an input cannot be read; None if it can. It is checked here, because a bad input ends
        the run, and a worker may claim that any input is bad."""
        [value] = self._job.served.values(record.batch)
        return value.failure if isinstance(value, BadValue) else None

    def _fill(self, record: Recorded) -> None:
        """Write the value of `--fill`, if given, in place of a missing result."""
        if self._given["fill"] is not None:
            self._write(record, text(self._form, [self._given["fill"]]))

    def _take_bad(self, record: Recorded, failure: Failure) -> None:
        why = f"{self._source.place(record.batch.start)} {failure.message}"
        if not self._given["skip_bad"]:
            raise Unreadable(f"{why}; --skip-bad goes on without such lines")
        self._skipped += 1
        if is_text(self._form):
            self._fill(record)
        if self._skipped <= SHOWN:
            say(f"skipped {why}")

    def _take_failure(self, record: Recorded, failed: Failed) -> None:
        self.failed += 1
        [result] = results_of(self._job.served, record)
        if is_text(self._form):
            self._fill(record)
        else:
            self._write(record, jsonl(result).encode())
        if self._failures is not None and not self._failures.broken:
            self._failures.write(_failure_line(result).encode())
        self._report.add(failed.failure, record.attempts, result.input, lambda: self._name(result))

    def _name(self, result: Result[object]) -> str:
        place = self._source.line(result.id)
        return named(result.id, result.input, place, known=_has_input(result))


def _reason(error: Exception) -> str:
    """Why a file cannot be read."""
    return (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__


def _has_input(result: Result[object]) -> bool:
    """Whether the record of a failed task has its input. An input that was too large is not
    kept."""
    return result.error is None or result.error.type != "InputTooLarge"


def _failure_line(result: Result[object]) -> str:
    """The line that `--failures` writes. If the record has no input, the line has none either:
    another run would take a null for the input."""
    line = jsonl(result)
    if _has_input(result):
        return line
    record = json.loads(line)
    del record["input"]
    return json.dumps(record) + "\n"
