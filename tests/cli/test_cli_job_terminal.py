"""What the commands for jobs show on a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support import DQ, wait_until
from support.jobs import JobsMaster
from support.terminal import Terminal


@pytest.fixture
def gated(gates: Path) -> Iterator[JobsMaster]:
    """A master with a job of three tasks, of which the first is done and the second runs."""
    with JobsMaster(gates) as master:
        (gates / "a.go").touch()
        master.submit("gates:wait", "a", "b", "c", "--batch", "1")
        wait_until(lambda: (gates / "b.started").exists())
        yield master


def finish(master: JobsMaster) -> None:
    (master.folder / "b.go").touch()
    (master.folder / "c.go").touch()


@pytest.mark.parametrize("command", [("wait", "1"), ("results", "1", "--follow")])
def test_waiting_shows_a_bar(gated: JobsMaster, command: tuple[str, ...]) -> None:
    with Terminal(*DQ, *command, **gated.where) as terminal:
        terminal.wait_for(r"\[#+ +\] 1 of 3")
        finish(gated)
        code, out = terminal.wait()
    assert (code, out) == (0, "" if command[0] == "wait" else "a\nb\nc\n")


def test_watching_draws_the_table_again_until_ctrl_c(gated: JobsMaster) -> None:
    with Terminal(*DQ, "jobs", "--watch", **gated.where, shared=True) as terminal:
        terminal.wait_for(r"1  running +1/3")
        finish(gated)
        terminal.wait_for(r"1  done +3/3")
        terminal.type("\x03")
        assert terminal.wait()[0] == 0
