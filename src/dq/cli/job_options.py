"""What the commands for jobs on a serving master share: options, and the way to the master."""

from __future__ import annotations

from typing import Any

import click

from dq._support.fields import given_for
from dq.cli import options
from dq.cli.layout import CONNECTION, OTHER, OUTPUT, option
from dq.cli.printer import say
from dq.cli.surroundings import find_key
from dq.security.tls_options import TlsOptions
from dq.service.client import Client
from dq.service.connection import JobsConnection
from dq.transport.server_address import server_address

#: Of every command that talks to a master.
connection = options.stacked(
    options.server,
    option(
        "--reconnect", type=options.SECONDS, default="60", show_default=True, metavar="SECONDS",
        group=CONNECTION, rare=True,
        help="How long to look for a master that was lost.",
    ),
    options.authkey,
    options.tls,
    options.debug,
)  # fmt: skip

as_json = option("--json", is_flag=True, group=OUTPUT, help="As JSON, with all there is to know.")
follow = option("--follow", is_flag=True, group=OUTPUT, help="Wait for more, until the job ends.")
watch = option(
    "--watch", is_flag=True, group=OTHER, help="Show it again each second, until Ctrl-C."
)

one = click.argument("job")
some = click.argument("jobs", nargs=-1, required=True, metavar="JOB...")
any_number = click.argument("jobs", nargs=-1, metavar="[JOB]...")


def connected(given: dict[str, Any]) -> Client:
    """Connect to the master that the options name.

    Raises:
        ConnectError: none is there, or with another key, or it keeps no jobs.
    """
    connection = JobsConnection(
        server_address(given["server"]),
        find_key(given),
        TlsOptions(**given_for(given, TlsOptions)).settings(),
        given["reconnect"],
        say,
    )
    return Client(connection.open())
