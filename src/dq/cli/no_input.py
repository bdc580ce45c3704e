"""What is wrong with a command that has no inputs."""

from __future__ import annotations

import click

from dq.functions import reference


def error(task: str) -> click.UsageError:
    """The error for a command without inputs.

    Raises:
        BadTask: the TASK is none; perhaps an input was given in its place.
    """
    reference.parse(task)
    return click.UsageError(
        "no input: give INPUTs after TASK, or --input FILE, where - is standard input"
    )
