"""Where what tasks print is shown."""

from __future__ import annotations

import os
from collections.abc import Callable

from dq._support.frozen import TYPE_CHECKING
from dq._support.screen import Forwarder, screen

if TYPE_CHECKING:
    from dq.core.beats import OutputLine


def output_of_tasks(where: str, forwarder: Forwarder | None) -> Callable[[], int] | None:
    """What makes the standard error of tasks that run here, which `Plan` explains.

    Args:
        where: the option; with "none" it is shown nowhere.
        forwarder: shows it beside a bar; None where there is no bar.
    """
    if where == "none":
        return nowhere
    return None if forwarder is None else forwarder.open


def nowhere() -> int:
    """A descriptor for what is not shown."""
    return os.open(os.devnull, os.O_WRONLY)


def show_lines(job: str, lines: list[OutputLine]) -> None:
    """Show what tasks have printed at workers elsewhere."""
    with screen.room():
        for line in lines:
            screen.say(str(line))
