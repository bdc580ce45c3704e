"""The work of ``dq run`` and ``dq master``."""

from __future__ import annotations

import contextlib
import os
import threading
from typing import TYPE_CHECKING, Any, TypedDict

import click

from dq._support import screen
from dq._support.fields import given_for
from dq._support.screen import Forwarder
from dq.cli.printer import Printer, say, say_finishing
from dq.cli.run_files import check_files, output_format
from dq.cli.run_inputs import RunInputs, run_inputs
from dq.cli.signals import Interrupting, Stages
from dq.cli.surroundings import enter_directory, key_to_serve, quietly
from dq.cli.task_output import output_of_tasks, show_lines
from dq.core.records import Reading
from dq.data.output_file import Writer
from dq.errors import Interrupted, MissingModule, Stopped, UsageError
from dq.functions.forked_checks import checks
from dq.functions.reference import TaskRef, refer
from dq.functions.task_check import checked
from dq.functions.task_options import TaskOptions
from dq.manager.server_options import ServerOptions
from dq.master.runtime import Runtime
from dq.security import keys
from dq.security.tls_options import TlsOptions
from dq.worker.child import Child, dismiss
from dq.worker.process_options import ProcessOptions
from dq.worker.spawn import Spawner

if TYPE_CHECKING:
    from typing import BinaryIO

    from dq.journal.writer import Journal  # not at run time: few runs need SQLite

STOP_CHECK_S = 0.2  # between two checks whether a client wants the master to end
SLOW_END = 0.5  # seconds before a line says that processes are slow to end
ENDING = "waiting for task processes to end; once more to leave now"


def run(
    given: dict[str, Any],
    workers: int,
    spawner: Spawner,
    ahead: list[Child],
    forwarder: Forwarder | None,
) -> None:
    """``dq run``, with task processes that were started ahead, and a TASK whose check has begun."""
    enter_directory()
    try:
        with quietly():
            ref = checked(given["task"], unpack=given["unpack"])
        authkey = None
        if given["port"] is not None:
            authkey = key_to_serve(given, given["host"])
        runtime = make_runtime(None, given, authkey, workers)
        checks.close()
        runtime.workers.started_ahead, runtime.workers.spawner = ahead, spawner
        runtime.workers.sharing = given["sharing"]
        serve_job(runtime, ref, prepared(given), given, forwarder)
    finally:
        checks.close()
        spawner.close()
        dismiss(ahead)  # those that got no configuration
        if forwarder is not None:
            forwarder.close()


def master(given: dict[str, Any]) -> None:
    """``dq master``."""
    has_inputs = check_master_options(given)
    enter_directory()
    checks.begin(given["timeout"])
    with quietly():
        ref = _ref(given) if given["task"] else None
    authkey = key_to_serve(given, given["host"])
    runtime = make_runtime(given["task"], given, authkey, given["workers"] or 0)
    checks.close()
    if has_inputs and ref is not None:
        forwarder = screen.forwarder_beside_bar(quiet=given["quiet"]) if given["workers"] else None
        serve_job(runtime, ref, prepared(given), given, forwarder)
    else:
        _serve_queues(runtime, given)


def check_master_options(given: dict[str, Any]) -> bool:
    """Refuse options of ``dq master`` that do not go together. Returns whether there are inputs.

    Raises:
        UsageError: two of them do not.
    """
    has_inputs = bool(given["inputs"]) or given["input"] is not None
    if has_inputs and not given["task"]:
        raise click.UsageError("--input without TASK: name the function to call with each input")
    if given["retry_failed"] and not has_inputs:
        raise click.UsageError("--retry-failed goes with inputs; `dq retry JOB` does it for a job")
    if given["only"] and not has_inputs:
        raise click.UsageError("--only without inputs: it selects some of them by their numbers")
    return has_inputs


def _ref(given: dict[str, Any]) -> TaskRef:
    """Check the TASK, and return where workers find it. Its libraries may be missing here if all
    workers are on other machines."""
    try:
        return checked(given["task"], unpack=given["unpack"])
    except MissingModule:
        if given["workers"]:
            raise
        return refer(given["task"])  # the master will report the missing library


def make_runtime(
    task: str | None,
    given: dict[str, Any],
    authkey: bytes | None,
    workers: int,
    *,
    in_process: bool = False,
) -> Runtime:
    """Make the runtime. Each option goes to the record that has a field of the same name."""
    if given["fail_fast"]:
        given["max_failures"] = 1
    with quietly():
        runtime = Runtime(
            task,
            authkey=authkey,
            tasks=TaskOptions(**given_for(given, TaskOptions)),
            processes=ProcessOptions(count=workers, **given_for(given, ProcessOptions)),
            server=ServerOptions(**given_for(given, ServerOptions)),
            tls=TlsOptions(**given_for(given, TlsOptions)),
            report=say,
            in_process=in_process,
        )
    runtime.announcer.key_hint = keys.hint(given["authkey"], given["authkey_file"])
    if given["quiet"]:
        runtime.announcer.note = _nothing
    return runtime


def _nothing(line: str) -> None:
    pass


def _serve_queues(runtime: Runtime, given: dict[str, Any]) -> None:
    """Serve plain clients, and those that submit jobs, until stopped. The first signal lets running
    tasks finish."""
    runtime.keep_jobs(given["journal"])
    with Stages() as stages, runtime:
        say(f"serving on {runtime.serving.shown}")
        while not (stages.count or runtime.lifetime.is_asked_to_end):
            stages.wait(STOP_CHECK_S)
            runtime.check()
        runtime.dispatcher.drain()  # first, so that the line is true when it appears
        say_finishing(runtime.dispatcher.busy)
        while runtime.dispatcher.busy and stages.count < 2 and not runtime.lifetime.is_urgent:
            stages.wait(0.1)
        if runtime.lifetime.is_urgent:
            runtime.close(now=True)
        _close_in_order(runtime, stages)
        if stages.interrupted:
            raise Interrupted("interrupted")


def prepared(given: dict[str, Any]) -> RunInputs:
    """Check the files of a run, and open its inputs."""
    given["format"] = output_format(given)
    check_files(given)
    return run_inputs(given)


def serve_job(
    runtime: Runtime,
    ref: TaskRef,
    source: RunInputs,
    given: dict[str, Any],
    forwarder: Forwarder | None,
    stdout: BinaryIO | None = None,
    init: TaskRef | None = None,
) -> None:
    """Serve until every input has a result, and print the results.

    Args:
        runtime: has workers, or runs the tasks in this process.
        ref: the TASK.
        source: its inputs.
        given: the command's options.
        forwarder: for what local tasks print beside a bar; None where there is none.
        stdout: where results go in place of `sys.stdout`.
        init: the initializer, if the TASK's options do not name it.
    """
    with contextlib.ExitStack() as stack:
        journal = _open_journal(runtime, ref, source, given)
        if journal is not None:
            stack.callback(journal.close)
        writer = Writer(given["output"], stdout=stdout)
        stack.callback(writer.close)
        failures = None
        if given["failures"] is not None:
            failures = Writer(given["failures"], "--failures", stdout=stdout)
            stack.callback(failures.close)
        if not given["quiet"]:
            source.start_counting()
            stack.callback(source.stop_counting)
        runtime.workers.stderr = output_of_tasks(given["task_output"], forwarder)
        if given["task_output"] == "master":
            runtime.dispatcher.output.on_lines = show_lines
        printer = None
        try:
            with _stages(runtime) as stages, runtime:
                if given["port"] is not None:
                    say(f"serving on {runtime.serving.shown}")
                job = runtime.jobs.open(
                    ref, source.items, init=init, output=given["format"], reading=source.reading,
                    journal=journal,
                    skips=source.selection.gaps if source.selection is not None else (),
                )  # fmt: skip
                printer = Printer(job, source, writer, failures, given)
                if runtime.in_process is None:
                    stages.act(printer.drain, printer.leave)
                else:
                    stages.act(printer.stop, printer.stop)
                try:
                    printer.run(stages)
                except Stopped:
                    _close_in_order(runtime, stages)
                    raise
                _close_in_order(runtime, stages)  # a signal may have come during the last tasks
            printer.commit()
        finally:
            if forwarder is not None:
                forwarder.close()  # first, so that all output of tasks comes before the summary
            if printer is not None:
                printer.summarize()
    if printer.failed:
        _suggest_input(given)
        raise click.exceptions.Exit(1)


def _stages(runtime: Runtime) -> Stages:
    here = runtime.in_process
    return Stages() if here is None else Interrupting(here.interrupt)


def _suggest_input(given: dict[str, Any]) -> None:
    """Suggest `--input` if the task failed and the only INPUT is a file's name: the user may have
    meant the lines of the file."""
    if len(given["inputs"]) != 1:
        return
    [name] = given["inputs"]
    if name == "-" or os.path.isfile(name):
        what = "standard input" if name == "-" else name
        say(f"the input was the string {name!r}; --input {name} reads the lines of {what}")


def _close_in_order(runtime: Runtime, stages: Stages) -> None:
    """After a first signal, let the processes exit as they do after the last task. A second signal
    ends them."""
    if stages.count == 1:
        stages.on_second = runtime.workers.quit
        slow = threading.Timer(SLOW_END, say, (ENDING,))
        slow.daemon = True
        slow.start()
        if stages.count == 1:
            runtime.close()
        slow.cancel()


def _open_journal(
    runtime: Runtime, ref: Any, source: RunInputs, given: dict[str, Any]
) -> Journal | None:
    check_retry_failed(given)
    return runtime.jobs.open_journal(
        given["journal"], ref, retry_failed=given["retry_failed"],
        **journal_options(source, given),
    )  # fmt: skip


def check_retry_failed(given: dict[str, Any]) -> None:
    """Refuse `--retry-failed` where no journal says which tasks failed.

    Raises:
        UsageError: there is none.
    """
    if given["retry_failed"] and given["journal"] is None:
        raise UsageError("--retry-failed goes with --journal FILE")


class JournalOptions(TypedDict):
    """What a command's journal is recognized by, besides the task."""

    reading: Reading
    output: str
    origin: str


def journal_options(source: RunInputs, given: dict[str, Any]) -> JournalOptions:
    """The arguments of `Jobs.open_journal` and `Jobs.facts`."""
    return JournalOptions(
        reading=source.reading,
        output=given["format"],
        origin="arguments" if source.text is None else "a file",
    )
