"""``dq run`` and ``dq master``: their arguments, and task processes as early as possible.

What they do is in `dq.cli.runs`, which imports nearly everything.
"""

from __future__ import annotations

import signal
from typing import Any, NoReturn

import click

from dq import processes, units
from dq.cli import options
from dq.cli.signals import endings
from dq.errors import Stopped


@click.command()
@click.argument("task")
@click.argument("inputs", nargs=-1, metavar="[INPUT]...")
@click.option(
    "-w", "--workers", "-j", "--jobs", type=options.PROCESSES, metavar="N",
    help="Processes: N, -N (all CPUs but N), +N (N more than CPUs) or N%; by default one for each"
    " CPU. No more are started than there are INPUTs.",
)  # fmt: skip
@options.threads
@options.inputs
@options.outputs
@options.journal
@options.failures
@options.limits
@options.max_message
@options.keepalive
@click.option("--host", default="", help="With --port: the address to listen on.")
@click.option(
    "--port", type=options.PORT, metavar="PORT",
    help="Listen, so that `dq worker` on other machines can join in; 0 for a free port.",
)  # fmt: skip
@options.authkey
@options.tls
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
    if not given["inputs"] and given["input"] is None:
        raise click.UsageError(
            "no input: give INPUTs after TASK, or --input FILE (- is standard input)"
        )
    if given["port"] is None and options.is_typed("host"):
        raise click.UsageError("--host goes with --port PORT (0 for a free one)")
    for number in endings():
        signal.signal(number, _stop_early)  # until there is something to finish
    cpus = units.cpus()
    workers = _needed(given, cpus)
    # While they import what they need, so does this process: that is half of what a short run
    # takes. More than there are CPUs would only be in each other's way.
    ahead = [processes.start(given["threads"]) for _ in range(min(workers, cpus))]
    from dq.cli import runs  # after the above, which it is about

    runs.run(given, workers, ahead)


def _needed(given: dict[str, Any], cpus: int) -> int:
    """As many processes as were asked for, or one for each CPU with work for all of its threads;
    but none that would have nothing to do."""
    workers: int | None = given["workers"]
    if given["input"] is not None:
        return workers or cpus
    inputs, threads = len(given["inputs"]), int(given["threads"])
    return min(workers, inputs) if workers else min(cpus, -(-inputs // threads))


def _stop_early(*_: object) -> NoReturn:
    raise Stopped("stopped before the first task")


@click.command()
@click.argument("task", required=False)
@click.argument("inputs", nargs=-1, metavar="[INPUT]...")
@click.option("--host", default="", help="Address to listen on; by default all of them.")
@click.option(
    "--port", type=options.PORT, default=5000, show_default=True, metavar="PORT",
    help="TCP port to listen on; 0 for a free one.",
)  # fmt: skip
@options.authkey
@options.tls
@click.option(
    "-w", "--workers", type=options.PROCESSES, metavar="N", help="Worker processes to start here."
)
@options.threads
@options.inputs
@options.outputs
@options.journal
@options.failures
@options.limits
@options.max_message
@options.keepalive
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
    from dq.cli import runs  # here, since the help of `dq run` does not need it

    runs.master(given)
