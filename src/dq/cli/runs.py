"""``dq run`` and ``dq master``."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from dq import inputs, keys, transport, units
from dq.cli import options
from dq.cli.progress import Progress
from dq.cli.signals import Stages
from dq.errors import BadInput, BadKey, InputChanged, Interrupted, Stopped, UsageError
from dq.master import Job, Master, checked
from dq.outputs import Writer, jsonl
from dq.queues import result_of
from dq.records import Done, Failed, Recorded

if TYPE_CHECKING:
    from dq.journal import Journal
    from dq.tasks import TaskRef

SHOWN = 10  # failures that are shown one by one


@click.command()
@click.argument("task")
@click.argument("inputs", nargs=-1, metavar="[INPUT]...")
@click.option(
    "-w", "--workers", "-j", "--jobs", type=options.PROCESSES, metavar="N",
    help="Processes: N, -N (all CPUs but N) or N%; by default one for each CPU.",
)  # fmt: skip
@options.threads
@options.inputs
@options.outputs
@options.journal
@options.failures
@options.limits
@click.option("--host", default="", help="With --port: the address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), metavar="PORT",
    help="Listen, so that `dq worker` on other machines can join in; 0 for a free port.",
)  # fmt: skip
@options.authkey
@options.quiet
@options.debug
def run(**given: Any) -> None:
    """Call TASK with each INPUT, in worker processes of this machine.

    TASK is package.module:function or path/to/file.py:function. An INPUT is JSON where it parses
    as JSON, and a plain string where it does not. Results go to standard output, one line each;
    everything else, what tasks print included, goes to standard error.

    \b
      dq run math:sqrt 1 2 3
      dq run app.py:resize --input photos.txt -w 50%
      seq 1000000 | dq run app:square --input - -o squares.txt
    """
    _enter()
    if not given["inputs"] and given["input"] is None:
        raise click.UsageError(
            "no input: give INPUTs after TASK, or --input FILE (- is standard input)"
        )
    workers = given["workers"] if given["workers"] is not None else units.cpus()
    with _quietly():
        ref = checked(given["task"], unpack=given["unpack"])
    authkey = None
    if given["port"] is not None:
        authkey = _key_to_serve(given, given["host"])
    master = _master(None, given, given["port"], authkey, workers=workers)
    _serve_job(master, ref, given)


@click.command()
@click.argument("task", required=False)
@click.argument("inputs", nargs=-1, metavar="[INPUT]...")
@click.option("--host", default="", help="Address to listen on; by default all of them.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=5000, show_default=True, metavar="PORT",
    help="TCP port to listen on; 0 for a free one.",
)  # fmt: skip
@options.authkey
@click.option(
    "-w", "--workers", type=options.PROCESSES, metavar="N", help="Worker processes to start here."
)
@options.threads
@options.inputs
@options.outputs
@options.journal
@options.failures
@options.limits
@click.option(
    "--maxsize", type=options.COUNT, default=0, metavar="N",
    help="How many items plain clients may have waiting; 0 for any number.",
)  # fmt: skip
@click.option(
    "--redeliver/--no-redeliver", default=True,
    help="Give out again what a plain client got when its connection ends.",
)  # fmt: skip
@click.option(
    "--pickle", type=click.Choice(["safe", "any"]), default="safe", show_default=True,
    help="What plain clients may put: standard data types, or anything (which lets whoever has"
    " the key run code in the master).",
)  # fmt: skip
@click.option(
    "--max-message", type=options.SIZE, default="64M", show_default=True, metavar="SIZE",
    help="The largest message that is taken.",
)  # fmt: skip
@options.quiet
@options.debug
def master(**given: Any) -> None:
    """Serve tasks to workers, here and on other machines.

    With TASK and INPUTs: serve until every input has a result, print the results, exit. Without
    inputs: serve the two queues until stopped; TASK is then what workers call with whatever
    clients put on the task queue.

    \b
      dq master app:square 1 2 3 --authkey abc
      dq master --port 5000 --authkey abc
    """
    _enter()
    has_inputs = bool(given["inputs"]) or given["input"] is not None
    if has_inputs and not given["task"]:
        raise click.UsageError("--input without TASK: name the function to call with each input")
    with _quietly():
        ref = checked(given["task"], unpack=given["unpack"]) if given["task"] else None
    authkey = _key_to_serve(given, given["host"])
    master = _master(
        given["task"],
        given,
        given["port"],
        authkey,
        workers=given["workers"] or 0,
        maxsize=given["maxsize"],
        redeliver=given["redeliver"],
        pickle=given["pickle"],
        max_message=given["max_message"],
    )
    if has_inputs and ref is not None:
        _serve_job(master, ref, given)
    else:
        _serve_queues(master)


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
        print(f"dq: {line}", file=sys.stderr, flush=True)


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
            initializer=given["init"],
            unpack=given["unpack"],
            batch=given["batch"],
            report=say,
            **more,
        )


@dataclass(frozen=True, slots=True)
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
        return Given(arguments, "raw" if given["raw"] else "lines", (), None)
    if arguments:
        raise UsageError("INPUTs and --input together: give the one or the other")
    text = inputs.open_text(given["input"], given["input_format"], raw=given["raw"])
    return Given(text, text.kind, tuple(text.fields), text)


def _serve_queues(master: Master) -> None:
    """Serve until stopped; the first signal lets running tasks finish."""
    with Stages() as stages, master:
        say(f"serving on {transport.show(master.address)}")
        stages.on_first = lambda: say("finishing running tasks; once more to leave now")
        while not stages.count:
            stages.wait(1.0)
            master.check_workers()
        master.queues.drain()
        while master.queues.busy and stages.count < 2:
            stages.wait(0.1)
        if stages.interrupted:
            raise Interrupted("interrupted")


def _serve_job(master: Master, ref: Any, given: dict[str, Any]) -> None:
    """Serve until every input has a result, and print the results."""
    source = _inputs(given)
    with contextlib.ExitStack() as stack:
        journal = _open_journal(ref, source, given)
        if journal is not None:
            stack.callback(journal.close)
        writer = Writer(given["output"])
        stack.callback(writer.discard)
        with Stages() as stages, master:
            if given["port"] is not None:
                say(f"serving on {transport.show(master.address)}")
            job = master.open(
                ref, source.items, output=given["format"], kind=source.kind,
                fields=source.fields, raw=given["raw"], journal=journal,
            )  # fmt: skip
            printer = Printer(job, source, writer, given, Progress(given["quiet"]))
            stages.on_first = printer.drain
            stages.on_second = printer.leave
            printer.run(stages)
        writer.commit()
    if printer.failed:
        raise click.exceptions.Exit(1)


def _open_journal(ref: TaskRef, source: Given, given: dict[str, Any]) -> Journal | None:
    if given["journal"] is None:
        if given["retry_failed"]:
            raise UsageError("--retry-failed goes with --journal FILE")
        return None
    from dq.journal import Journal  # SQLite, which few runs need

    about = {
        "task": str(ref),
        "inputs": source.kind,
        "output": given["format"],
        "unpack": str(given["unpack"]),
    }
    return Journal(given["journal"], about, retry_failed=given["retry_failed"], log=say)


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
        say("finishing running tasks; once more to leave now")
        self._job.halt("interrupted")

    def leave(self) -> None:
        raise Interrupted("interrupted; left without waiting for running tasks")

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
            self._progress.finish(self.failed)
            if self._bad:
                say(f"skipped {self._bad} input(s) that could not be read")

    def _take(self, record: Recorded) -> None:
        outcome = record.outcome
        if isinstance(outcome, Done):
            self._writer.write(outcome.blob)
        elif outcome.failure.type == "BadInput" and not outcome.retry:
            self._take_bad(record.batch.start, outcome)
        else:
            self._take_failure(record, outcome)
        self._progress.advance(record.batch.count, self._job.line.job)

    def _take_bad(self, index: int, failed: Failed) -> None:
        text = f"{self._source.place(index)} {failed.failure.message}"
        if not self._skip_bad:
            raise BadInput(f"{text}; --skip-bad goes on without such lines")
        self._bad += 1
        if self._bad <= SHOWN:
            self._progress.clear()
            say(f"skipped {text}")

    def _take_failure(self, record: Recorded, failed: Failed) -> None:
        self.failed += 1
        [result] = result_of(self._job.line, record)
        if self._form == "jsonl":
            self._writer.write(jsonl(result).encode())
        if self.failed <= SHOWN:
            again = f" after {record.attempts} attempts" if record.attempts > 1 else ""
            self._progress.clear()
            say(f"{self._source.place(record.batch.start)} failed{again}: {failed.failure}")
