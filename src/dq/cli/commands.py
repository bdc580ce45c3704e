"""``dq run`` and ``dq master``: their arguments. Task processes are started as early as possible.

The work is done in `dq.cli.runs`, which imports nearly everything.
"""

from __future__ import annotations

import gc
import signal
from typing import Any, NoReturn

import click

from dq._support import quantities
from dq._support.screen import forwarder_beside_bar
from dq.cli import completion, options
from dq.cli.layout import CONNECTION, SECURITY, WORKERS, Command, option
from dq.cli.signals import endings
from dq.cli.surroundings import directory_entered, quietly
from dq.cli.task_output import output_of_tasks
from dq.errors import Stopped
from dq.functions.forked_checks import checks
from dq.functions.task_check import check_ahead
from dq.worker.spawn import Spawner


@click.command(cls=Command)
@click.argument("task", type=completion.TASK)
@click.argument("inputs", type=completion.INPUT, nargs=-1, metavar="[INPUT]...")
@options.inputs
@options.outputs
@options.shown
@options.journal
@options.failures
@option(
    "-w", "--workers", "-j", "--jobs", type=options.PROCESSES, metavar="N", group=WORKERS,
    help="Processes: N, or N% of the CPUs; by default all.",
    more="-N is all CPUs but N, +N is N more than CPUs. No more are started than there are INPUTs.",
)  # fmt: skip
@option(
    "--here", is_flag=True, group=WORKERS,
    help="Call TASK in this process, for a debugger.",
    more="One task after the other, in the main thread, where a profiler or a coverage tool sees it"
    " too. With --debug the first exception is let through, so that `python -m pdb -m dq run --here"
    " --debug` stops at it. Ctrl-C ends the run at once.",
)  # fmt: skip
@options.threads
@options.calls
@options.limits
@option(
    "--port", type=options.PORT, metavar="PORT", group=CONNECTION,
    help="Let workers on other machines join in.",
    more="They connect with `dq worker`. 0 takes a free port.",
)  # fmt: skip
@option(
    "--host", default="", group=CONNECTION, rare=True,
    help="With --port: the address to listen on.",
)  # fmt: skip
@options.max_message
@options.keepalive
@options.authkey
@options.tls
@options.quiet
@options.dry_run
@options.debug
def run(**given: Any) -> None:
    """Call TASK with each INPUT, in worker processes of this machine. TASK is
    package.module:function or path/to/file.py:function. An INPUT is JSON, or
    else a string. Only results go to standard output.

    \b
      dq run math:sqrt 1 2 3
      dq run app.py:resize --input photos.txt -w 50%
      seq 1000000 | dq run app:square --input - -o squares.txt
    """
    if not given["inputs"] and given["input"] is None:
        from dq.cli import no_input  # here, since few commands need it

        raise no_input.error(given["task"])
    if given["port"] is None and options.is_typed("host"):
        raise click.UsageError("--host goes with --port PORT (0 for a free one)")
    for number in endings():
        signal.signal(number, _stop_early)  # until there are tasks to finish
    if given["dry_run"]:
        from dq.cli import dry_run  # here, since few runs need it

        dry_run.check_run(given, _needed(given, quantities.cpus()))
        return
    if given["here"]:
        from dq.cli import here  # here, since few runs need it

        here.run_here(given)
        return
    cpus = quantities.cpus()
    workers = _needed(given, cpus)
    # Start the processes before the imports below: both sides then import at the same time, which
    # is half the time of a short run. More processes than CPUs would only slow each other down.
    given["sharing"] = given["workers"] or workers  # how many processes share the CPUs
    forwarder = forwarder_beside_bar(quiet=given["quiet"])
    stderr = output_of_tasks(given["task_output"], forwarder)
    with directory_entered():  # modules to preload may be there
        spawner = Spawner(given["preload"], given["sharing"])
    ahead = []
    if not given["preload"]:  # to wait for them here would hold up the imports below
        ahead = [
            spawner.start(given["threads"], number, given["sharing"], stderr=stderr)
            for number in range(min(workers, cpus))
        ]
    _check_ahead(given)
    gc.disable()  # imports leave no garbage
    from dq.cli import runs  # here, so that all of the above runs at the same time

    gc.enable()
    runs.run(given, workers, spawner, ahead, forwarder)


def _check_ahead(given: dict[str, Any]) -> None:
    """Begin to check the TASK in a fork, since its module may take long to import."""
    checks.begin(given["timeout"])
    with directory_entered(), quietly():
        check_ahead(given["task"], unpack=given["unpack"])


def _needed(given: dict[str, Any], cpus: int) -> int:
    """How many processes to start: the number in the options, or one for each CPU. Processes that
    would have no input are not started."""
    workers: int | None = given["workers"]
    if given["input"] is not None and not given["only"]:
        return workers or cpus
    inputs, threads = len(given["inputs"]), int(given["threads"])
    if given["only"]:
        inputs = sum(stop - start for start, stop in given["only"])
    return min(workers, inputs) if workers else min(cpus, -(-inputs // threads))


def _stop_early(*_: object) -> NoReturn:
    raise Stopped("stopped before the first task")


@click.command(cls=Command)
@click.argument("task", type=completion.TASK, required=False)
@click.argument("inputs", type=completion.INPUT, nargs=-1, metavar="[INPUT]...")
@options.inputs
@options.outputs
@options.shown
@options.journal
@options.failures
@option(
    "-w", "--workers", "-j", "--jobs", type=options.PROCESSES, metavar="N", group=WORKERS,
    help="Worker processes to start here; by default none.",
    more="N, -N (all CPUs but N), +N (N more than CPUs) or N%.",
)  # fmt: skip
@options.threads
@options.calls
@options.limits
@option(
    "--host", default="", group=CONNECTION,
    help="Address to listen on; by default all, IPv4 and v6.",
)  # fmt: skip
@option(
    "--port", type=options.PORT, default=5000, show_default=True, metavar="PORT", group=CONNECTION,
    help="TCP port to listen on; 0 takes a free one.",
)  # fmt: skip
@options.max_message
@options.keepalive
@option(
    "--maxsize", type=options.COUNT, default=0, metavar="N", group=CONNECTION, rare=True,
    help="How many tasks of plain clients may wait.",
    more="0 is any number; results have no bound. A plain"
    " client is one of the standard library's BaseManager.",
)  # fmt: skip
@option(
    "--redeliver/--no-redeliver", default=True, group=CONNECTION, rare=True,
    help="Requeue what a plain client got if it disconnects.",
)  # fmt: skip
@options.authkey
@options.tls
@option(
    "--pickle", type=click.Choice(["safe", "any"]), default="safe", show_default=True,
    group=SECURITY, rare=True,
    help="What plain clients may put: safe or any.",
    more="safe: standard data types only. any: lets whoever has the key run code in the master.",
)  # fmt: skip
@options.quiet
@options.dry_run
@options.debug
def master(**given: Any) -> None:
    """Serve tasks to workers, here and on other machines. With INPUTs: print the
    results, and exit when every input has one. Without INPUTs: serve until
    stopped; workers call TASK with what clients put on the task queue.

    \b
      dq master app:square 1 2 3 --authkey abc
      dq master --port 5000 --authkey abc
    """
    if given["dry_run"]:
        from dq.cli import dry_run  # here, since few runs need it

        dry_run.check_master(given)
        return
    from dq.cli import runs  # here, since the help of `dq run` does not need it

    runs.master(given)
