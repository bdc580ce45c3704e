"""SIGSTOP for longer than any patience, and SIGCONT: what was done elsewhere meanwhile counts, what
comes late does not, and a stop that ends in time costs nothing."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import dq
from faults.scene import Hazards, gone
from support import Running, run, serving, stop, task_processes, wait_until

LIMIT = ("--timeout", "2", "--retries", "1")
#: Seconds beyond the time-out that the master waits for a supervisor that says nothing.
GRACE = 10
#: Seconds that a peer has for the handshake.
HANDSHAKE = 5
FED = ("--input", "-", "--format", "jsonl", "--batch", "1", "--unordered")


@contextmanager
def stopped(*pids: int) -> Iterator[None]:
    """None of them runs within."""
    for pid in pids:
        stop(pid)
    try:
        yield
    finally:
        for pid in pids:
            go_on(pid)


def go_on(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGCONT)
    except ProcessLookupError:
        pass


def whole(worker: Running) -> list[int]:
    """A supervisor and its task processes; it first, so that it misses none."""
    return [worker.pid, *task_processes(worker.pid)]


# A task process


def test_a_task_process_that_is_stopped_is_ended_by_its_timeout(hazards: Hazards) -> None:
    with hazards.running("gated", [1], "-w", "1", *LIMIT) as run:
        [first] = hazards.wait_for_executions()
        with stopped(first["pid"]):
            hazards.wait_for_executions(2)
            gone(first["pid"])
        hazards.open_gate()
        assert run.wait() == 0, run.printed
    history = hazards.history([1], run.stdout_text).check()
    assert history.runs[1] == history.record(1)["attempts"] == 2


def test_without_a_timeout_a_stopped_process_keeps_its_task_however_idle_others_are(
    hazards: Hazards,
) -> None:
    inputs = [0, 1, 2, 3]
    with hazards.running("gated", inputs, "-w", "2", "--batch", "1", "--unordered") as run:
        first, _ = hazards.wait_for_executions(2)
        with stopped(first["pid"]):
            hazards.open_gate()
            wait_until(lambda: run.stdout_text.count("\n") == 3)  # all the other can do
        assert run.wait() == 0, run.printed
    history = hazards.history(inputs, run.stdout_text).check()
    assert history.extra == 0
    assert history.records[-1]["input"] == first["input"]


def test_an_idle_worker_that_is_stopped_holds_nothing_up(hazards: Hazards) -> None:
    inputs = list(range(20))
    place = {"cwd": hazards.folder, "env": hazards.env, "stdin": subprocess.PIPE}
    with (
        serving("hazards:short", *FED, **place) as (master, port),
        hazards.worker(port, "-p", "1") as idle,
    ):
        master.write("0\n")
        master.wait_for('"id": 0,', stream="stdout")
        with stopped(*whole(idle)), hazards.worker(port, "-p", "1") as other:
            # One is sent to the process that is stopped, and is its own until it goes on.
            master.write("".join(f"{x}\n" for x in inputs[1:]))
            wait_until(lambda: master.stdout_text.count("\n") >= len(inputs) - 1)
            other.send_signal(signal.SIGTERM)
            other.wait()
        master.close_stdin()
        assert [master.wait(), idle.wait()] == [0, 0], master.printed
    assert hazards.history(inputs, master.stdout_text).check().extra == 0


# Whole workers


@pytest.mark.slow
def test_what_stopped_workers_report_late_is_dropped(hazards: Hazards) -> None:
    place = {"cwd": hazards.folder, "env": hazards.env, "stdin": subprocess.PIPE}
    with (
        serving("hazards:gated", *FED, *LIMIT, **place) as (master, port),
        hazards.worker(port, "-p", "1") as late,
        hazards.worker(port, "-p", "1") as later,
    ):
        master.write("0\n1\n")
        hazards.wait_for_executions(2)
        [process] = task_processes(late.pid)
        with stopped(*whole(later)), stopped(late.pid), stopped(process):
            hazards.open_gate()
            with hazards.worker(port, "-p", "1") as other:
                hazards.wait_for_executions(4, timeout=GRACE + 30)
                wait_until(lambda: master.stdout_text.count("\n") == 2)
                other.send_signal(signal.SIGTERM)
                other.wait()
            elsewhere = {entry["pid"] for entry in hazards.executions[2:]}
            # It goes on by itself, since its supervisor would end it: what it reports with its
            # next request comes after the other's outcome. It takes that request's task, so it
            # has been heard.
            go_on(process)
            master.write("2\n")
            assert hazards.wait_for_executions(5)[-1]["pid"] == process
            master.wait_for('"id": 2,', stream="stdout")
        # The other stopped one reports late, or is ended first, with whatever it has by then.
        master.write("".join(f"{x}\n" for x in range(3, 40)))
        master.close_stdin()
        assert [master.wait(), late.wait(), later.wait()] == [0, 0, 0], master.printed
    assert re.search(r"^dq: 40 done in .*, [12] late outcomes? dropped$", master.stderr_text, re.M)
    history = hazards.history(list(range(40)), master.stdout_text).check()
    assert history.extra - 2 <= 1
    for x in (0, 1):
        assert history.runs[x] == history.record(x)["attempts"] == 2
        assert int(history.record(x)["worker"].rpartition(":")[2]) in elsewhere


# The master


@pytest.mark.slow
def test_who_comes_while_the_master_is_stopped_is_served_when_it_goes_on(
    hazards: Hazards,
) -> None:
    inputs = list(range(20))
    with (
        hazards.serving("short", inputs) as (master, port),
        stopped(master.pid),
        hazards.worker(port, "-p", "1") as worker,
    ):
        said = worker.wait_for("dq: .*", timeout=HANDSHAKE + 10)
        assert "nothing there answers as a dq master. Trying for 60 s." in said.group()
        go_on(master.pid)
        assert [master.wait(), worker.wait()] == [0, 0], worker.printed
    assert hazards.history(inputs, master.stdout_text).check().extra == 0


@pytest.mark.soak
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("who", ["master", "worker", "process"])
def test_a_stop_for_longer_than_every_patience_of_the_network_loses_nothing(
    hazards: Hazards, who: str
) -> None:
    """Beyond 25 s the kernel ends a connection whose other end takes nothing."""
    seconds = float(os.environ.get("DQ_TEST_SOAK_STOP_SECONDS", "60"))
    inputs, output = list(range(30)), hazards.folder / "output"
    with (
        hazards.serving("bulky", inputs, "--batch", "1", "-o", str(output)) as (master, port),
        hazards.worker(port, "-p", "2") as worker,
    ):
        hazards.wait_for_executions(4)
        pids = {"master": [master.pid], "worker": whole(worker)}
        with stopped(*pids.get(who, task_processes(worker.pid))):
            assert run("sleep", str(seconds), timeout=seconds + 30).returncode == 0
        assert [master.wait(120), worker.wait(120)] == [0, 0], master.stderr_text
    history = hazards.history(inputs, output.read_text()).check()
    print(f"{who} stopped for {seconds:g} s: {history.extra} executed again")
    assert history.extra <= 2 + 2  # what each process had, and had reported


# What is said of it


def hold(path: str) -> int:
    """Say who runs it, and wait for a file."""
    with open(f"{path}.new", "w") as file:
        file.write(str(os.getpid()))
    os.rename(f"{path}.new", path)
    while not os.path.exists(f"{path}.go"):
        time.sleep(0.01)
    return os.getpid()


def test_a_stopped_process_and_what_it_keeps_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As after half a minute. The rest of it, with a clock of its own, is in the unit tests.
    monkeypatch.setattr("dq.dispatch.roster.SILENCE_NOTICE_S", 1.0)
    monkeypatch.setattr("dq.dispatch.roster.HEARTBEAT_INTERVAL_S", 0.2)
    path, said = tmp_path / "task", list[str]()
    with dq.Master(workers=1, report=said.append) as master:
        values = master.map(hold, [str(path)])
        wait_until(path.exists)
        pid = int(path.read_text())
        with stopped(pid):
            wait_until(lambda: any("is stopped" in line for line in said))
        (tmp_path / "task.go").touch()
        assert list(values) == [pid]
    assert [line for line in said if "is stopped" in line] == [
        f"process {socket.gethostname()}:{pid} of worker {socket.gethostname()}:{os.getpid()}"
        " is stopped (SIGSTOP); it keeps task 0 until it goes on or is ended"
        " (timeout would bound that)"
    ]
