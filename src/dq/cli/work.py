"""``dq worker`` and ``dq keygen``."""

from __future__ import annotations

import shlex
from typing import Any

import click

from dq._support import quantities
from dq._support.fields import given_for
from dq.cli import completion, options
from dq.cli.layout import CONNECTION, OUTPUT, SECURITY, WORKERS, Command, option
from dq.cli.printer import say
from dq.cli.signals import FINISHING, Stages
from dq.cli.surroundings import enter_directory, find_key, quietly
from dq.cli.task_output import output_of_tasks
from dq.errors import ConnectError, Interrupted
from dq.functions.forked_checks import checks
from dq.functions.task_check import checked
from dq.security import keys
from dq.security.tls_options import TlsOptions
from dq.transport.server_address import server_address
from dq.worker import allow
from dq.worker.plan import Plan
from dq.worker.process_options import ProcessOptions
from dq.worker.supervisor import Supervisor


@click.command(cls=Command)
@option(
    "-p", "--processes", "-j", "--jobs", type=options.PROCESSES, metavar="N", group=WORKERS,
    help="Processes: N, or N% of the CPUs; by default all.",
    more="-N is all CPUs but N, +N is N more than CPUs.",
)  # fmt: skip
@options.threads
@option(
    "--task", type=completion.TASK, metavar="TASK", group=WORKERS,
    help="What to call where the master names no TASK.",
    more="That is for the items of plain clients, or of a plain BaseManager.",
)  # fmt: skip
@options.limits
@options.server
@option(
    "--reconnect", type=options.SECONDS, default="60", show_default=True, metavar="SECONDS",
    group=CONNECTION,
    help="How long to look for a master.",
    more="It may not be there yet, or have gone: a worker that comes after the end looks as long.",
)  # fmt: skip
@options.authkey
@options.tls
@option(
    "--allow", multiple=True, metavar="PATTERN", group=SECURITY, rare=True,
    help="Do only what is named like this (app:*, jobs.*:run).",
    more="Only standard data types are taken as inputs then. May be given several times.",
)  # fmt: skip
@option(
    "--task-output",
    type=click.Choice(["both", "master", "own", "none"]),
    default="both",
    show_default=True,
    metavar="WHERE",
    group=OUTPUT,
    help="Where tasks print: master, own or none.",
    more="own is this command's standard error. master is the one that waits for the results, a"
    " moment later, with the process and the task's number before each line.",
)
@options.quiet
@options.debug
def worker(**given: Any) -> None:
    """Take tasks from a master, call its function and send results back, until it has finished.

    \b
      dq worker --server 10.0.0.2
      dq worker --server 10.0.0.2:5000 -p 8 --authkey abc
    """
    enter_directory()
    where = server_address(given["server"])
    checks.begin(None)
    with quietly():
        task = checked(given["task"]) if given["task"] else None
    checks.close()
    patterns = tuple(map(allow.check, given["allow"]))
    count = given["processes"] if given["processes"] is not None else quantities.cpus()
    plan = Plan(
        address=where,
        authkey=find_key(given),
        processes=ProcessOptions(count=count, **given_for(given, ProcessOptions)),
        task=task,
        reconnect=given["reconnect"],
        tls=TlsOptions(**given_for(given, TlsOptions)).settings(),
        allow=patterns,
        stderr=output_of_tasks(given["task_output"], None),
        output="own" if given["task_output"] == "none" else given["task_output"],
    )
    supervisor = Supervisor(plan, say)
    with Stages() as stages:
        stages.on_first = lambda: supervisor.drain(notify=lambda: say(FINISHING))
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
            return  # a signal came before a master was found
        raise
    if not given["quiet"]:
        slots = plan.processes.slots
        say(f"connected to {given['server']}, working on {slots} task(s) at a time")
    supervisor.run()


@click.command(cls=Command)
@click.argument("file", type=completion.FILE, required=False)
@option("--force", is_flag=True, group=OUTPUT, help="Replace files that are there.")
@option(
    "--tls", type=completion.FOLDER, metavar="DIR", group=OUTPUT,
    help="Write certificates for TLS to DIR instead.",
    more="A small CA, one certificate for the master and one for the workers, good for a year. The"
    " two commands that use them are shown.",
)  # fmt: skip
@option(
    "--host", multiple=True, metavar="NAME", group=OUTPUT,
    help="With --tls: a name or address of the master.",
    more="It is the one that workers are given; by default this machine's name. May be given"
    " several times.",
)  # fmt: skip
@options.debug
def keygen(
    file: str | None, force: bool, tls: str | None, host: tuple[str, ...], debug: bool
) -> None:
    """Write a new random key to FILE, which only you can read.

    Without FILE, write it to where every dq command looks for it. Copy that file to each machine.
    """
    if tls is not None:
        if file is not None:
            raise click.UsageError("FILE and --tls together: give the one or the other")
        _make_certificates(tls, host, force)
        return
    if host:
        raise click.UsageError("--host goes with --tls DIR")
    path = file or keys.user_file()
    keys.write(path, force=force)
    click.echo(path)


def _make_certificates(folder: str, hosts: tuple[str, ...], force: bool) -> None:
    from dq.security import certs  # here, since only this needs it

    names = certs.make(folder, hosts, force=force)
    quoted = shlex.quote(folder)
    say(f"the master's certificate is for {', '.join(names)}")
    say(f"copy worker.pem, worker.key and ca.pem to each worker; {quoted}/ca.key stays here")
    for role, command in (("master", "dq master"), ("worker", f"dq worker --server {names[0]}")):
        pair = f"--tls-cert {quoted}/{role}.pem --tls-key {quoted}/{role}.key"
        click.echo(f"{command} {pair} --tls-ca {quoted}/ca.pem")
