"""A machine vanishes: its packets go nowhere, and nobody says so. Each of the two ends notices
within what `--keepalive` says; the work is done elsewhere, once."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest

from support import DQ, can_make_hosts, two_hosts, wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(can_make_hosts() is not None, reason=str(can_make_hosts())),
]


KEY = {"DQ_AUTHKEY": "a key of 16 bytes"}
# On the machine that vanishes a task says that it has begun, and takes as long as it is let.
TASK = """
import os, time

def work(x):
    if os.environ["HERE"] == "far":
        open("begun", "w").close()
        while not os.path.exists("over"):
            time.sleep(0.01)
    return x
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "away.py").write_text(TASK)
    return tmp_path


@pytest.mark.parametrize("direction", ["both", "a to b", "b to a"])
def test_the_work_of_a_machine_that_vanished_is_done_elsewhere(
    folder: Path, direction: Literal["both", "a to b", "b to a"]
) -> None:
    job = ("away:work", *"1234", "--batch", "1", "--port", "5000", "--keepalive", "5")
    with two_hosts() as hosts:
        worker = ("worker", "-p", "1", "-q", "--reconnect", "1", "-s", f"{hosts.a.address}:5000")
        far, near = ({**KEY, "HERE": where} for where in ("far", "near"))
        with hosts.a.running(*DQ, "master", *job, cwd=folder, env=KEY) as master:
            master.wait_for("serving on")
            with hosts.b.running(*DQ, *worker, cwd=folder, env=far) as lost:
                wait_until((folder / "begun").exists, 30)
                with hosts.a.running(*DQ, *worker, cwd=folder, env=near):
                    hosts.partition(direction)
                    # 5 s until the master gives it up; the machines here are slow.
                    assert master.wait(25) == 0, master.stderr_text
                    assert master.stdout_text == "1\n2\n3\n4\n"
                    # And the worker that was cut off does not run for longer than its task.
                    (folder / "over").touch()
                    assert lost.wait(25) == 4, lost.stderr_text
