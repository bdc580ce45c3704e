"""``dq logs``: what the tasks of a job have printed."""

from __future__ import annotations

from typing import Any

import click

from dq.cli import job_options
from dq.cli.job_progress import Watch, leaving
from dq.cli.layout import Command
from dq.core.records import printable
from dq.data.output_file import Writer


@click.command(cls=Command)
@job_options.one
@job_options.follow
@job_options.connection
def logs(**given: Any) -> None:
    """Print what the tasks of a job have printed, as far as the master has kept it:
    the last 10,000 lines.

    \b
      dq logs 7
      dq logs last --follow
    """
    writer = Writer(None)
    with job_options.connected(given) as client:
        job = client.job(given["job"])
        with leaving([job.number]), Watch(job, follow=given["follow"], quiet=True):
            for line in job.lines(follow=given["follow"]):
                shown = printable(line.expandtabs()) if writer.is_terminal else line
                writer.write(f"{shown}\n".encode(errors="backslashreplace"))
