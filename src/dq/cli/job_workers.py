"""``dq workers``, ``dq stacks`` and ``dq drain``."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import click

from dq._support.quantities import human_duration
from dq.cli import job_options
from dq.cli.job_lists import show, terminal_width
from dq.cli.layout import OTHER, Command, option
from dq.cli.tables import Column, table
from dq.core.records import printable
from dq.dispatch.wording import no_such_worker
from dq.dispatch.worker_status import ProcessStacks, RunningTask, WorkerStatus
from dq.errors import UsageError
from dq.service.client import Client

SILENT_S = 30.0  # without a beat, after which that is said
MIB = 1024 * 1024


@click.command(cls=Command)
@job_options.as_json
@job_options.watch
@job_options.connection
def workers(**given: Any) -> None:
    """List the workers of a master: their slots, and the task that each has run for
    longest.

    \b
      dq workers
      dq workers --watch
      dq workers --json | jq '.[].running[]'
    """
    with job_options.connected(given) as client:
        show(lambda: _listing(client, given), given)


def _listing(client: Client, given: dict[str, Any]) -> str:
    found = client.workers()
    if given["json"]:
        return json.dumps([dataclasses.asdict(worker) for worker in found])
    if not found:
        return "no workers"
    cpu = ["" if one.cpu is None else f"{one.cpu:.0%}" for one in found]
    since = [human_duration(round(one.connected)) for one in found]
    columns = [
        Column("WORKER", [printable(one.name) for one in found], shrinks=True),
        Column("BUSY", [f"{one.busy}/{one.slots}" for one in found], right=True),
        Column("CPU", cpu, right=True, spare=1),
        Column("MEMORY", [_memory(one.memory) for one in found], right=True, spare=3),
        Column("HERE FOR", since, right=True, spare=2),
        Column("LONGEST TASK", [_longest(one) for one in found], shrinks=True),
        Column("TROUBLE", [_trouble(one) for one in found]),
    ]
    return "\n".join(table(columns, terminal_width()))


def _memory(size: int) -> str:
    return f"{size // MIB}M" if size else ""


def _longest(worker: WorkerStatus) -> str:
    if not worker.running:
        return ""
    return _described(max(worker.running, key=lambda one: one.age))


def _described(task: RunningTask) -> str:
    job = f"job {task.job} " if task.job else ""
    return f"{job}task {task.index}, {human_duration(task.age)}{_progress(task)}"


def _progress(task: RunningTask) -> str:
    if task.done is None:
        return ""
    return f", {task.done}" if task.total is None else f", {task.done}/{task.total}"


def _trouble(worker: WorkerStatus) -> str:
    if worker.stopped:
        return f"{len(worker.stopped)} stopped"
    return f"silent {human_duration(worker.heard)}" if worker.heard > SILENT_S else ""


@click.command(cls=Command)
@click.argument("workers", nargs=-1, metavar="[WORKER]...")
@job_options.as_json
@job_options.connection
def stacks(**given: Any) -> None:
    """Show where running tasks are: the Python calls of each thread, and of each
    coroutine that waits. WORKER is a name that `dq workers` shows; without one,
    of all.

    \b
      dq stacks
      dq stacks host17:4242
    """
    with job_options.connected(given) as client:
        found = client.stacks(*given["workers"])
    if given["json"]:
        click.echo(json.dumps([dataclasses.asdict(one) for one in found]))
        return
    shown = [one for one in found if one.running or one.text or one.error]
    for one in shown:
        click.echo("\n".join(_stacks(one)))
    if not shown:
        click.echo("no task runs" if found else "no workers")


def _stacks(process: ProcessStacks) -> Iterator[str]:
    name = f", process {process.process}" if process.process else ""
    doing = "; ".join(map(_described, process.running)) or "no task"
    yield f"{printable(process.worker + name)}: {doing}"
    if process.error:
        yield f"  {printable(process.error)}"
    elif process.text:
        yield from (f"  {printable(line)}".rstrip() for line in process.text.split("\n"))
    elif process.running:
        yield "  in no Python code of the task"


@click.command(cls=Command)
@click.argument("worker")
@option("--now", is_flag=True, group=OTHER, help="Leave at once; its tasks run elsewhere.")
@job_options.connection
def drain(**given: Any) -> None:
    """Have a worker finish what it runs, and leave. WORKER is a name that `dq workers`
    shows.

    \b
      dq drain host17:4242
      dq drain host17:4242 --now
    """
    with job_options.connected(given) as client:
        # Asked before, since the answer may be lost with the master and the worker have gone.
        known = {worker.name: worker for worker in client.workers()}
        worker = known.get(given["worker"])
        if worker is None:
            raise no_such_worker(given["worker"], known)
        if worker.local:
            raise UsageError(f"{worker.name} is the master's own: `dq stop` ends both")
        client.drain(worker.name, now=given["now"])
    click.echo(f"{printable(worker.name)} leaves")
