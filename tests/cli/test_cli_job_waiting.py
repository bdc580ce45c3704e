"""What those who wait for a job are told, and what a signal does then."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from support.jobs import JobsMaster
from support.process import dq_with

# `dq`, which says when it begins to send a job.
READING = """
import dq.cli.submit as it
send = it.Client.send
def sending(*args):
    print("reading", flush=True)
    return send(*args)
it.Client.send = sending
from dq.__main__ import main
main()
"""


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    "command",
    [
        ("wait", "1"),
        ("results", "1", "--follow"),
        ("logs", "1", "--follow"),
        ("submit", "app:square", "1", "--needs", "gpu", "--wait"),
    ],
)
def test_those_who_wait_are_told_why_a_job_does_not_run(
    master: JobsMaster, command: tuple[str, ...]
) -> None:
    master.submit("app:square", "1", "--needs", "gpu")
    with master.begin(*command, dq=dq_with("dq.cli.job_stalls.STALL_NOTICE_S", 0.2)) as waiting:
        waiting.wait_for(r"^dq: job \d waits: no worker that is connected has gpu$")
        master.dq("cancel", "all")
        assert waiting.wait() == (0 if command[0] == "logs" else 4)
    assert waiting.stderr_text.count("waits:") == 1


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    ("command", "hint"),
    [
        (("wait", "1"), ""),
        (("results", "1", "--follow"), "; dq results 1 --follow"),
        (("logs", "1", "--follow"), ""),
    ],
)
def test_a_signal_ends_the_waiting_and_says_that_the_job_goes_on(
    master: JobsMaster, command: tuple[str, ...], hint: str
) -> None:
    master.submit("app:square", "1", "--needs", "gpu")
    with master.begin(*command, dq=dq_with("dq.cli.job_stalls.STALL_NOTICE_S", 0.0)) as waiting:
        waiting.wait_for("waits:")
        waiting.send_signal(signal.SIGTERM)
        assert waiting.wait() == 4
        waiting.wait_for(f"^dq: job 1 goes on{hint}$")


def test_a_signal_while_inputs_are_read_leaves_no_job(master: JobsMaster) -> None:
    code = (sys.executable, "-c", READING)
    with master.begin(
        "submit", "app:square", "-i", "-", dq=code, stdin=subprocess.PIPE
    ) as submitting:
        submitting.wait_for("reading", stream="stdout")
        submitting.send_signal(signal.SIGTERM)
        assert submitting.wait() == 4
        submitting.wait_for("^dq: interrupted; no job was submitted$")
    assert master.dq("jobs").stdout == "no jobs\n"
