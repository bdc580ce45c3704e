"""``dq worker`` and ``dq keygen``."""

from __future__ import annotations

from typing import Any

import click

from dq import keys, units
from dq.api import address
from dq.cli import options
from dq.cli.runs import _enter, _quietly, find_key, say
from dq.cli.signals import Stages
from dq.errors import ConnectError, Interrupted
from dq.master import checked
from dq.supervisor import Plan, Supervisor


@click.command()
@click.option(
    "-s", "--server", default="127.0.0.1:5000", show_default=True, metavar="HOST[:PORT]",
    help="Where the master is.",
)  # fmt: skip
@click.option(
    "-p", "--processes", "-j", "--jobs", type=options.PROCESSES, metavar="N",
    help="Processes: N, -N (all CPUs but N) or N%; by default one for each CPU.",
)  # fmt: skip
@options.threads
@options.authkey
@click.option(
    "--task", metavar="TASK",
    help="What to call with the items of plain clients, or of a plain BaseManager.",
)  # fmt: skip
@click.option(
    "--reconnect", type=options.SECONDS, default="60", show_default=True, metavar="SECONDS",
    help="How long to look for a master that is not there, or has gone.",
)  # fmt: skip
@options.limits
@options.quiet
@options.debug
def worker(**given: Any) -> None:
    """Take tasks from a master, call its function, send results back; until it has finished.

    \b
      dq worker --server 10.0.0.2
      dq worker --server 10.0.0.2:5000 -p 8 --authkey abc
    """
    _enter()
    where = address(given["server"])
    with _quietly():
        task = checked(given["task"]) if given["task"] else None
    plan = Plan(
        where,
        find_key(given),
        given["processes"] if given["processes"] is not None else units.cpus(),
        given["threads"],
        task,
        given["reconnect"],
        given["max_tasks"],
        given["max_memory"],
    )
    supervisor = Supervisor(plan, say)
    with Stages() as stages:
        stages.on_first = lambda: _drain(supervisor)
        stages.on_second = supervisor.quit
        _work(supervisor, stages, given)
        if stages.interrupted:
            raise Interrupted("interrupted")


def _work(supervisor: Supervisor, stages: Stages, given: dict[str, Any]) -> None:
    plan = supervisor.plan
    try:
        supervisor.connect(plan.reconnect, until=lambda: stages.count > 0)
    except ConnectError:
        if stages.count:
            return  # told to leave before there was a master
        raise
    if not given["quiet"]:
        slots = plan.processes * plan.threads
        say(f"connected to {given['server']}, working on {slots} task(s) at a time")
    supervisor.run()


def _drain(supervisor: Supervisor) -> None:
    say("finishing running tasks; once more to leave now")
    supervisor.drain()


@click.command()
@click.argument("file", required=False)
@click.option("--force", is_flag=True, help="Replace a key file that is there.")
@options.debug
def keygen(file: str | None, force: bool, debug: bool) -> None:
    """Write a fresh random key to FILE, readable by you alone.

    Without FILE it goes where every dq command looks for it. Copy the file to each machine.
    """
    path = file or keys.user_file()
    keys.write(path, force=force)
    click.echo(path)
