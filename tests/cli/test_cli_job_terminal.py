"""What the commands for jobs show on a terminal."""

from __future__ import annotations

import os
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


def test_submitting_shows_how_many_inputs_were_sent(gated: JobsMaster) -> None:
    (gated.folder / "in.txt").write_text("1\n" * 25_000)
    argv = ("submit", "app:square", "-i", "in.txt", "-i", "pipe")
    os.mkfifo(gated.folder / "pipe")
    with Terminal(*DQ, *argv, **gated.where) as terminal:
        with open(gated.folder / "pipe", "w"):
            terminal.wait_for(r"\r\x1b\[K2\d000 done, ")  # whole blocks of what was read
        assert terminal.wait() == (0, "2\n")


def test_watching_draws_the_table_again_until_ctrl_c(gated: JobsMaster) -> None:
    with Terminal(*DQ, "jobs", "--watch", **gated.where, shared=True) as terminal:
        terminal.wait_for(r"1  running +1/3")
        finish(gated)
        terminal.wait_for(r"1  done +3/3")
        terminal.type("\x03")
        assert terminal.wait()[0] == 0
