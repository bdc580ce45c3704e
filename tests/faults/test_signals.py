"""SIGINT and SIGTERM: the first lets running tasks finish, the second leaves now; no orphans."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest

from faults.scene import Hazards, gone
from support import DQ, FaultProxy, Running, environment, serving, stop, task_processes, wait_until
from support.warm import dq

INPUTS = list(range(6))
CODES = {signal.SIGINT: 130, signal.SIGTERM: 4}
FINISHING = "finishing running tasks"


@pytest.fixture(params=list(CODES), ids=lambda number: number.name)
def number(request: pytest.FixtureRequest) -> signal.Signals:
    return request.param


def test_the_first_signal_lets_a_run_finish_its_tasks(
    hazards: Hazards, number: signal.Signals
) -> None:
    with hazards.running("gated", INPUTS, "-w", "2") as run:
        pids = [entry["pid"] for entry in hazards.wait_for_executions(2)]
        run.send_signal(number)
        run.wait_for(FINISHING)
        hazards.open_gate()
        assert run.wait() == CODES[number], run.printed
        gone(*pids)
    history = hazards.history([0, 1], run.stdout_text).check()  # those and no more
    assert history.extra == 0
    assert "; 2 results are on standard output; " in run.stderr_text


def test_the_second_signal_ends_a_run_at_once(hazards: Hazards, number: signal.Signals) -> None:
    with hazards.running("gated", INPUTS, "-w", "2") as run:
        pids = [entry["pid"] for entry in hazards.wait_for_executions(2)]
        run.send_signal(number)
        run.wait_for(FINISHING)
        run.send_signal(number)
        assert run.wait(5) == CODES[number], run.printed
        gone(*pids)
    assert run.stdout_text == ""
    assert "Traceback" not in run.stderr_text


def test_the_first_signal_lets_a_master_finish_what_its_workers_do(
    hazards: Hazards, number: signal.Signals
) -> None:
    with (
        hazards.serving("gated", INPUTS) as (master, port),
        hazards.worker(port, "-p", "2") as worker,
    ):
        hazards.wait_for_executions(2)
        master.send_signal(number)
        master.wait_for(FINISHING)
        hazards.open_gate()
        assert [master.wait(), worker.wait()] == [CODES[number], 0], worker.printed
    assert hazards.history([0, 1], master.stdout_text).check().extra == 0


@pytest.mark.sampled(1)
def test_the_second_signal_ends_a_master_at_once(hazards: Hazards, number: signal.Signals) -> None:
    with (
        hazards.serving("gated", INPUTS) as (master, port),
        hazards.worker(port, "-p", "2", "--reconnect", "1") as worker,
    ):
        hazards.wait_for_executions(2)
        master.send_signal(number)
        master.wait_for(FINISHING)
        master.send_signal(number)
        assert master.wait(5) == CODES[number], master.printed
        hazards.open_gate()
        worker.wait()


def test_the_first_signal_lets_a_worker_finish_and_others_do_the_rest(
    hazards: Hazards, number: signal.Signals
) -> None:
    job = ("hazards:gated", "--input", "-", "--format", "jsonl")
    place = {"cwd": hazards.folder, "env": hazards.env}
    with (
        serving(*job, stdin=subprocess.PIPE, **place) as (master, port),
        hazards.worker(port, "-p", "3") as leaving,
    ):
        master.write("0\n1\n")
        busy = {entry["pid"] for entry in hazards.wait_for_executions(2)}
        wait_until(lambda: len(task_processes(leaving.pid)) == 3)
        leaving.send_signal(number)
        # The idle one leaves at once: then the others have been told as well.
        wait_until(lambda: set(task_processes(leaving.pid)) == busy)
        master.write("2\n3\n4\n5\n")
        master.close_stdin()
        hazards.open_gate()
        assert leaving.wait() == {signal.SIGINT: 130, signal.SIGTERM: 0}[number], leaving.printed
        assert len(hazards.executions) == 2
        with hazards.worker(port, "-p", "1") as other:
            assert [master.wait(), other.wait()] == [0, 0], master.printed
    assert hazards.history(INPUTS, master.stdout_text).check().extra == 0


@pytest.mark.slow
def test_a_worker_that_says_it_finishes_starts_no_other_task(hazards: Hazards) -> None:
    """However late its processes hear of it: here they are stopped, and then have no time."""
    inputs = list(range(5))
    with (
        hazards.serving("gated_in_a_crowd", inputs) as (master, port),
        hazards.worker(port, "-p", "4") as leaving,
    ):
        pids = [entry["pid"] for entry in hazards.wait_for_executions(4)]
        for pid in pids:
            stop(pid)
        leaving.send_signal(signal.SIGTERM)
        leaving.wait_for(FINISHING)
        hazards.open_gate()
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
        assert leaving.wait() == 0, leaving.printed
        assert len(hazards.executions) == 4
        with hazards.worker(port, "-p", "1") as other:
            assert [master.wait(), other.wait()] == [0, 0], master.printed
    assert hazards.history(inputs, master.stdout_text).check().extra == 0


@pytest.mark.slow
def test_a_report_on_its_way_is_not_cut_off_by_a_signal(hazards: Hazards) -> None:
    """A report of megabytes over a link that stands still in the midst of it, and somebody idle
    who would have its task at once."""
    with (
        hazards.serving("gated_and_too_large_for_a_buffer", [0, 1]) as (master, port),
        FaultProxy(("127.0.0.1", port)) as proxy,
        hazards.worker(proxy.port, "-p", "1") as leaving,
    ):
        hazards.wait_for_executions()
        with hazards.worker(port, "-p", "1") as other:
            hazards.wait_for_executions(2)
            before = proxy.passed["up"]
            proxy.limit(1_000_000, "up")
            hazards.open_gate()
            wait_until(lambda: proxy.passed["up"] > before + 10_000)
            proxy.freeze()
            leaving.send_signal(signal.SIGTERM)
            leaving.wait_for(FINISHING)
            proxy.heal()
            assert [run.wait() for run in (leaving, master, other)] == [0, 0, 0], master.printed
    assert hazards.history([0, 1], master.stdout_text).check().extra == 0


SLOW = """\
import os, sys, time
from hazards import short
if "click" not in sys.modules:  # in a task process
    open("loading", "w").close()
    while not os.path.exists("loaded"):
        time.sleep(0.01)
"""


def test_a_worker_that_is_loading_the_task_when_it_is_told_to_leave_starts_none(
    hazards: Hazards,
) -> None:
    (hazards.folder / "slow.py").write_text(SLOW)
    inputs = [str(x) for x in range(8)]
    argv = ("slow:short", *inputs, "--batch", "8", "--format", "jsonl")
    with (
        serving(*argv, cwd=hazards.folder, env=hazards.env) as (master, port),
        hazards.worker(port, "-p", "1") as leaving,
    ):
        wait_until((hazards.folder / "loading").exists)
        leaving.send_signal(signal.SIGTERM)
        leaving.wait_for(FINISHING)
        (hazards.folder / "loaded").touch()
        assert leaving.wait() == 0, leaving.printed
        assert hazards.executions == []
        with hazards.worker(port, "-p", "1") as other:
            assert [master.wait(), other.wait()] == [0, 0], master.printed
    assert len(hazards.executions) == 8


NOT_YET = """\
import os, time
def task(x):
    with open("began", "a") as file:
        file.write("x")
    time.sleep(0.2)
    if not os.path.exists("ok"):
        raise ValueError("not yet")
    return x
"""


@pytest.mark.sampled(1)
def test_attempts_that_are_left_at_an_interrupt_are_made_by_the_next_run(
    hazards: Hazards, number: signal.Signals
) -> None:
    (hazards.folder / "notyet.py").write_text(NOT_YET)
    began, place = hazards.folder / "began", {"cwd": hazards.folder, "env": hazards.env}
    argv = ("run", "notyet:task", "5", "-w", "1", "--retries", "1000", "--journal", "j")
    with Running(*DQ, *argv, **place) as run:
        wait_until(lambda: began.exists() and began.stat().st_size >= 2)
        run.send_signal(number)
        assert run.wait() == CODES[number], run.printed
    (hazards.folder / "ok").touch()
    again = dq(*argv, **place)
    assert (again.returncode, again.stdout) == (0, "5\n"), again.stderr


def test_the_second_signal_ends_a_worker_at_once_and_its_tasks_go_to_others(
    hazards: Hazards, number: signal.Signals
) -> None:
    with (
        hazards.serving("gated", INPUTS) as (master, port),
        hazards.worker(port, "-p", "2") as leaving,
    ):
        pids = [entry["pid"] for entry in hazards.wait_for_executions(2)]
        leaving.send_signal(number)
        leaving.wait_for(FINISHING)
        leaving.send_signal(number)
        leaving.wait(5)
        gone(*pids)
        hazards.open_gate()
        with hazards.worker(port, "-p", "1") as other:
            assert [master.wait(), other.wait()] == [0, 0], master.printed
    history = hazards.history(INPUTS, master.stdout_text).check()
    assert {record["attempts"] for record in history.records} == {1}


def test_an_idle_worker_leaves_at_the_first_signal(
    hazards: Hazards, number: signal.Signals
) -> None:
    with (
        Running(*DQ, "master", "--port", "0", cwd=hazards.folder, env=hazards.env) as master,
        hazards.worker(int(master.wait_for(r"serving on \S+:(\d+)")[1]), "-p", "2") as worker,
    ):
        worker.wait_for("working on")
        wait_until(lambda: len(task_processes(worker.pid)) == 2)
        worker.send_signal(number)
        assert worker.wait() == {signal.SIGINT: 130, signal.SIGTERM: 0}[number]


def test_a_serving_master_without_inputs_ends_well_on_sigterm(hazards: Hazards) -> None:
    argv = [*DQ, "master", "hazards:same", "--port", "0"]
    with Running(*argv, cwd=hazards.folder, env=hazards.env) as master:
        port = int(master.wait_for(r"serving on \S+:(\d+)")[1])
        with hazards.worker(port, "-p", "1") as worker:
            worker.wait_for("working on")
            master.send_signal(signal.SIGTERM)
            assert [master.wait(), worker.wait()] == [0, 0], master.printed


def test_a_worker_that_looks_for_its_master_leaves_at_the_first_signal(
    hazards: Hazards, number: signal.Signals
) -> None:
    with hazards.worker(1) as worker:
        worker.wait_for("Trying for")
        worker.send_signal(number)
        assert worker.wait() == {signal.SIGINT: 130, signal.SIGTERM: 0}[number], worker.printed


@pytest.mark.parametrize("moment", ["start", "work"])
def test_a_signal_in_any_phase_leaves_no_process_and_no_traceback(
    hazards: Hazards, number: signal.Signals, moment: str
) -> None:
    when: dict[str, Callable[[Running], object]] = {
        "start": lambda run: wait_until(lambda: task_processes(run.pid)),
        "work": lambda run: hazards.wait_for_executions(),
    }
    with hazards.running("short", list(range(20_000)), "-w", "2") as run:
        when[moment](run)
        run.send_signal(number)
        assert run.wait() == CODES[number], run.printed
        assert "Traceback" not in run.stderr_text


#: A session's leader gets the first terminal that it opens as its own.
IN_TERMINAL = (
    "import os, sys; os.open(os.ttyname(0), os.O_RDWR); os.execv(sys.argv[1], sys.argv[1:])"
)


def test_an_interrupt_from_the_terminal_finishes_running_tasks(hazards: Hazards) -> None:
    """Ctrl-C goes to all in the foreground; tasks must not see it."""
    argv = [sys.executable, "-c", IN_TERMINAL, *DQ, *hazards.command("gated", INPUTS, "-w", "2")]
    env = environment(hazards.env)
    terminal, end = pty.openpty()
    with subprocess.Popen(
        argv, stdin=end, stdout=end, stderr=end, cwd=hazards.folder, env=env, start_new_session=True
    ) as run:
        os.close(end)
        pids = [entry["pid"] for entry in hazards.wait_for_executions(2, timeout=30)]
        os.write(terminal, b"\x03")
        text = read_until(terminal, FINISHING)
        hazards.open_gate()
        text += read_until(terminal, "")
        assert run.wait(30) == 130, text
    os.close(terminal)
    assert text.count('"result"') == 2, text
    gone(*pids)


def read_until(terminal: int, words: str) -> str:
    """What a terminal shows until these words, or the end."""
    text = ""
    while not words or words not in text:
        try:
            data = os.read(terminal, 4096)
        except OSError:  # EIO: nobody has it open any more
            break
        text += data.decode()
    return text


def test_an_interrupt_to_the_whole_group_is_understood_once(hazards: Hazards) -> None:
    with hazards.running("gated", INPUTS, "-w", "2") as run:
        hazards.wait_for_executions(2)
        run.signal_group(signal.SIGINT)
        run.wait_for(FINISHING)
        hazards.open_gate()
        assert run.wait() == 130, run.printed
    hazards.history([0, 1], run.stdout_text).check()


def test_a_terminal_that_is_closed_leaves_no_process(hazards: Hazards) -> None:
    with hazards.running("gated", INPUTS, "-w", "2") as run:
        pids = [entry["pid"] for entry in hazards.wait_for_executions(2)]
        run.signal_group(signal.SIGHUP)
        run.signal_group(signal.SIGHUP)
        assert run.wait() == 4
        gone(*pids)
