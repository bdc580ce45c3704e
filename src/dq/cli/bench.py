"""``dq bench``."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import click

from dq._support import quantities
from dq._support.fields import given_for
from dq.cli import measure, options
from dq.cli.layout import CONNECTION, OUTPUT, WORKERS, Command, option
from dq.cli.measure import Figure
from dq.cli.printer import say
from dq.cli.surroundings import find_key
from dq.security.tls_options import TlsOptions
from dq.transport.server_address import server_address


@click.command(cls=Command)
@option(
    "-f", "--format", type=click.Choice(["text", "jsonl"]), default="text", metavar="FORMAT",
    group=OUTPUT,
    help="text, a table; jsonl, a record a figure.",
)  # fmt: skip
@option(
    "-w", "--workers", "-j", "--jobs", type=options.PROCESSES, metavar="N", group=WORKERS,
    help="Processes: N, or N% of the CPUs; by default all.",
    more="Without --server. -N is all CPUs but N, +N is N more than CPUs.",
)  # fmt: skip
@option(
    "-s", "--server", metavar="HOST[:PORT]", group=CONNECTION,
    help="Measure the way to this master instead.",
)  # fmt: skip
@options.authkey
@options.tls
@options.debug
def bench(**given: Any) -> None:
    """Measure dq on this machine, or the connection to a master that is serving.

    Without --server: the time to the first result, no-op tasks a second, the round trip of one
    task, bytes a second. With --server: a TCP connect, a call of a plain client, an exchange of a
    worker, bytes a second; this neither puts tasks on the master's queues nor takes any. Other
    programs on the machine, and others who use the master, affect the figures.

    \b
      dq bench
      dq bench --server 10.0.0.2
    """
    show = _lines if given["format"] == "jsonl" else _table
    if given["server"] is None:
        workers = given["workers"] if given["workers"] is not None else quantities.cpus()
        show(f"this machine, {workers} worker(s)", measure.here(workers))
        return
    if given["workers"] is not None:
        raise click.UsageError(
            "--workers is for measuring this machine: leave it out with --server"
        )
    _measure_server(given, show)


def _measure_server(given: dict[str, Any], show: Any) -> None:
    tls = TlsOptions(**given_for(given, TlsOptions)).settings()
    server = measure.Server(server_address(given["server"]), find_key(given), tls)
    try:
        use = server.use()
        show(f"{given['server']}: {use}", server.measure())
        if use.busy or use.waiting:
            say("others are using this master, which affects the figures")
    finally:
        server.close()


def _table(title: str, figures: Iterable[Figure]) -> None:
    click.echo(title)
    for figure in figures:
        click.echo(f"  {figure.what:34}{shown(figure):>12}")


def _lines(title: str, figures: Iterable[Figure]) -> None:
    for figure in figures:
        record = {"what": figure.what, "value": figure.value, "unit": figure.unit}
        click.echo(json.dumps(record))


def shown(figure: Figure) -> str:
    """A figure for people.

    >>> shown(Figure("", 1234567.0, "tasks/s")), shown(Figure("", 0.00012, "s"))
    ('1.23 M/s', '120 µs')
    >>> shown(Figure("", 3 * 2.0**30, "bytes/s")), shown(Figure("", 12.0, "tasks/s"))
    ('3 GiB/s', '12/s')
    """
    value, unit = figure.value, figure.unit
    if unit == "s":
        return _scaled(value * 1e6, 1000.0, (" µs", " ms", " s"))
    if unit == "bytes/s":
        return _scaled(value, 1024.0, (" B", " KiB", " MiB", " GiB")) + "/s"
    return _scaled(value, 1000.0, ("", " k", " M")) + "/s"


def _scaled(value: float, step: float, names: tuple[str, ...]) -> str:
    place = 0
    while value >= 0.9995 * step and place < len(names) - 1:
        value /= step
        place += 1
    return f"{value:.3g}{names[place]}"
