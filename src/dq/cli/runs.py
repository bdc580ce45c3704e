"""What ``dq run`` and ``dq master`` do."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterable, Iterator
from typing import Any

import click

from dq import inputs, keys, processes
from dq.cli.options import is_typed
from dq.cli.progress import Progress
from dq.cli.signals import FINISHING, Stages
from dq.errors import (
    BadInput,
    BadKey,
    InputChanged,
    Interrupted,
    MissingModule,
    Stopped,
    UsageError,
)
from dq.light import frozen
from dq.lines import results_of
from dq.master import Job, Master, checked
from dq.outputs import Writer, jsonl
from dq.processes import Child
from dq.records import Done, Failed, Failure, Recorded, printable
from dq.tasks import TaskRef, refer

SLOW_END = 0.5  # seconds until it is said that processes take their time to end
ENDING = "waiting for task processes to end; once more to leave now"
SHOWN = 10  # failures that are shown one by one


def run(given: dict[str, Any], workers: int, ahead: list[Child]) -> None:
    """``dq run``, with task processes that were started already."""
    _enter()
    try:
        with _quietly():
            ref = checked(given["task"], unpack=given["unpack"])
        authkey = None
        if given["port"] is not None:
            authkey = _key_to_serve(given, given["host"])
        master = _master(None, given, given["port"], authkey, workers=workers)
        master.ahead, master.sharing = ahead, given["sharing"]
        _serve_job(master, ref, given)
    finally:
        processes.dismiss(ahead)  # those that nothing came to be known for


def master(given: dict[str, Any]) -> None:
    """``dq master``."""
    _enter()
    has_inputs = bool(given["inputs"]) or given["input"] is not None
    if has_inputs and not given["task"]:
        raise click.UsageError("--input without TASK: name the function to call with each input")
    if given["journal"] is not None and not has_inputs:
        raise click.UsageError("--journal without inputs: it is of the outcomes of inputs")
    with _quietly():
        ref = _ref(given) if given["task"] else None
    authkey = _key_to_serve(given, given["host"])
    serving = _master(
        given["task"],
        given,
        given["port"],
        authkey,
        workers=given["workers"] or 0,
        maxsize=given["maxsize"],
        redeliver=given["redeliver"],
        pickle=given["pickle"],
    )
    if has_inputs and ref is not None:
        _serve_job(serving, ref, given)
    else:
        _serve_queues(serving)


def _ref(given: dict[str, Any]) -> TaskRef:
    """Where workers find the TASK, once it has been found here: but for its libraries, where all
    of the workers are elsewhere."""
    try:
        return checked(given["task"], unpack=given["unpack"])
    except MissingModule:
        if given["workers"]:
            raise
        return refer(given["task"])  # the master will say it


def _enter() -> None:
    """Have the current directory on the import path, as ``python -m`` has it."""
    here = os.getcwd()
    if sys.path[:1] != [here]:
        sys.path.insert(0, here)


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Standard output is for results: what a module prints when imported goes elsewhere."""
    with contextlib.redirect_stdout(sys.stderr):
        yield


def say(line: str) -> None:
    """One line for people."""
    with contextlib.suppress(OSError):
        print(f"dq: {printable(line)}", file=sys.stderr, flush=True)


def say_finishing(running: int) -> None:
    """Say what the first signal does, where there is something to wait for."""
    if running:
        say(FINISHING)


def find_key(given: dict[str, Any]) -> bytes:
    """The authkey, from wherever it is."""
    # click passes over a variable that is set and empty; a key's must not be.
    prefix = click.get_current_context().auto_envvar_prefix
    for option in ("authkey", "authkey_file"):
        variable = f"{prefix}_{option.upper()}"
        if given[option] is None and os.environ.get(variable) == "":
            raise BadKey(f"{variable} is empty: give it a value, or unset it")
    return keys.find(given["authkey"], given["authkey_file"], prompt=prompt_for_key())


def _key_to_serve(given: dict[str, Any], host: str) -> bytes:
    key = find_key(given)
    warning = keys.check(key, host)
    if warning is not None:
        say(warning)
    return key


def prompt_for_key() -> Any:
    """What asks for the key on a terminal; None where there is none."""
    if sys.stdin is None or not sys.stdin.isatty():
        return None
    return lambda: click.prompt("authkey", hide_input=True, err=True)


def _master(
    task: str | None, given: dict[str, Any], port: int | None, authkey: bytes | None, **more: Any
) -> Master:
    most = 1 if given["fail_fast"] else given["max_failures"]
    with _quietly():
        return Master(
            task,
            host=given["host"],
            port=port,
            authkey=authkey,
            threads=given["threads"],
            retries=given["retries"],
            retry_delay=given["retry_delay"],
            timeout=given["timeout"],
            max_deaths=given["max_deaths"],
            max_failures=most,
            max_tasks=given["max_tasks"],
            max_memory=given["max_memory"],
            grace=given["grace"],
            initializer=given["init"],
            unpack=given["unpack"],
            batch=given["batch"],
            max_message=given["max_message"],
            keepalive=given["keepalive"],
            tls=given["tls"],
            tls_cert=given["tls_cert"],
            tls_key=given["tls_key"],
            tls_ca=given["tls_ca"],
            report=say,
            **more,
        )


@frozen
class Given:
    """The inputs of a run: where they come from, and how to name one's place."""

    items: Iterable[bytes]
    kind: str
    fields: tuple[str, ...]
    text: inputs.Text | None

    def place(self, index: int) -> str:
        return f"input {index + 1}" if self.text is None else self.text.place(index)


def _inputs(given: dict[str, Any]) -> Given:
    # Ended as lines are, for the workers to cut off: an argument may itself end in a newline.
    arguments = [os.fsencode(argument) + b"\r\n" for argument in given["inputs"]]
    if given["input"] is None:
        for name in ("input_format", "skip_bad"):
            if is_typed(name):
                option = name.replace("_", "-")
                raise UsageError(f"--{option} goes with --input FILE, and INPUTs are given instead")
        return Given(arguments, "raw" if given["raw"] else "lines", (), None)
    if arguments:
        raise UsageError("INPUTs and --input together: give the one or the other")
    text = inputs.open_text(given["input"], given["input_format"], raw=given["raw"])
    return Given(text, text.kind, tuple(text.fields), text)


def _check_files(given: dict[str, Any]) -> None:
    """Refuse to read or write as something else what is the journal's: results would take its
    place at the end of the run, and it would be gone."""
    if given["journal"] is None:
        return
    journal = given["journal"]
    taken = {os.path.realpath(journal) + end for end in ("", "-wal", "-shm")}
    for name in ("input", "output"):
        path = given[name] or "-"
        if path != "-" and os.path.realpath(path) in taken:
            raise UsageError(
                f"--{name} {path} is a file of the journal {journal}: give another --{name}"
            )


def _serve_queues(master: Master) -> None:
    """Serve until stopped; the first signal lets running tasks finish."""
    with Stages() as stages, master:
        say(f"serving on {master.serves_on}")
        while not stages.count:
            stages.wait(1.0)
            master.check_workers()
        master.queues.drain()  # first: whoever reads the line can rely on it
        say_finishing(master.queues.busy)
        while master.queues.busy and stages.count < 2:
            stages.wait(0.1)
        _close_in_order(master, stages)
        if stages.interrupted:
            raise Interrupted("interrupted")


def _serve_job(master: Master, ref: Any, given: dict[str, Any]) -> None:
    """Serve until every input has a result, and print the results."""
    _check_files(given)
    source = _inputs(given)
    with contextlib.ExitStack() as stack:
        if given["retry_failed"] and given["journal"] is None:
            raise UsageError("--retry-failed goes with --journal FILE")
        journal = master.open_journal(
            given["journal"], ref, kind=source.kind, output=given["format"],
            fields=source.fields, raw=given["raw"], retry_failed=given["retry_failed"],
            origin="arguments" if source.text is None else "a file",
        )  # fmt: skip
        if journal is not None:
            stack.callback(journal.close)
        writer = Writer(given["output"])
        stack.callback(writer.discard)
        with Stages() as stages, master:
            if given["port"] is not None:
                say(f"serving on {master.serves_on}")
            job = master.open(
                ref, source.items, output=given["format"], kind=source.kind,
                fields=source.fields, raw=given["raw"], journal=journal,
            )  # fmt: skip
            printer = Printer(job, source, writer, given, Progress(given["quiet"]))
            stages.on_first = printer.drain
            stages.on_second = printer.leave
            try:
                printer.run(stages)
            except Stopped:
                _close_in_order(master, stages)
                raise
        writer.commit()
    if printer.failed:
        raise click.exceptions.Exit(1)


def _close_in_order(master: Master, stages: Stages) -> None:
    """Where the first signal has let running tasks finish: let processes leave as they do after
    the last task, until the second signal."""
    if stages.count == 1:
        stages.on_second = master.end_workers
        slow = threading.Timer(SLOW_END, say, (ENDING,))
        slow.daemon = True
        slow.start()
        if stages.count == 1:
            master.close()
        slow.cancel()


def plain(failure: Failure) -> str:
    """A failure on one line.

    >>> plain(Failure("ValueError", "one\\ntwo"))
    'ValueError: one two'
    """
    return " ".join(str(failure).split())


class Printer:
    """Copies records to the output, and says what failed."""

    def __init__(
        self, job: Job, source: Given, writer: Writer, given: dict[str, Any], progress: Progress
    ) -> None:
        self._job = job
        self._source = source
        self._writer = writer
        self._form = given["format"]
        self._unordered = given["unordered"]
        self._skip_bad = given["skip_bad"]
        self._progress = progress
        self.failed = 0
        self._bad = 0

    def drain(self) -> None:
        self._job.halt("interrupted")  # first: whoever reads the line can rely on it
        say_finishing(self._job.line.job.leases)

    def leave(self) -> None:
        self._job.abort(Interrupted("interrupted; left without waiting for running tasks"))

    def run(self, stages: Stages) -> None:
        records = self._job.unordered() if self._unordered else self._job.ordered()
        try:
            for record in records:
                self._take(record)
        except InputChanged as error:
            raise BadInput(f"{self._source.place(error.index)} {error.reason}") from None
        except Stopped:
            if not stages.count:
                raise
            kind = Interrupted if stages.interrupted else Stopped
            raise kind(f"stopped before the end, with {self._progress.done} results") from None
        finally:
            self._progress.finish(self.failed, self._job.line.job.counts.dropped)
            if self._bad:
                say(f"skipped {self._bad} input(s) that could not be read")

    def _take(self, record: Recorded) -> None:
        outcome = record.outcome
        if isinstance(outcome, Done):
            self._writer.write(outcome.blob)
        elif not outcome.retry and (bad := self._why_bad(record, outcome)):
            self._take_bad(record.batch.start, bad)
        else:
            self._take_failure(record, outcome)
        self._progress.advance(record.batch.count, self._job.line.job)

    def _why_bad(self, record: Recorded, failed: Failed) -> Failure | None:
        """Why an input cannot be read, where that is so: a worker may say it of any, and it ends
        the run."""
        if failed.failure.type != "BadInput":
            return None
        [value] = self._job.line.values(record.batch)
        return value.failure if isinstance(value, inputs.Bad) else None

    def _take_bad(self, index: int, failure: Failure) -> None:
        text = f"{self._source.place(index)} {failure.message}"
        if not self._skip_bad:
            raise BadInput(f"{text}; --skip-bad goes on without such lines")
        self._bad += 1
        if self._bad <= SHOWN:
            self._progress.clear()
            say(f"skipped {text}")

    def _take_failure(self, record: Recorded, failed: Failed) -> None:
        self.failed += 1
        [result] = results_of(self._job.line, record)
        if self._form == "jsonl":
            self._writer.write(jsonl(result).encode())
        if self.failed <= SHOWN:
            again = f" after {record.attempts} attempts" if record.attempts > 1 else ""
            self._progress.clear()
            say(f"{self._source.place(record.batch.start)} failed{again}: {plain(failed.failure)}")
