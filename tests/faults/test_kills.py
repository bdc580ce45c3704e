"""SIGKILL of task processes, at every kind of moment: nothing is lost, nothing recorded twice."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from faults.ledger import TASKS, Ledger
from faults.scene import Hazards, Killer, gone, kill
from support import DQ, FaultProxy, Running, alive, stop, task_processes, wait_until

#: No task is to be failed for the deaths that the tests cause.
PATIENT = ("--max-deaths", "1000")


def kill_during(run: Running, roots: list[int], hazards: Hazards, seed: random.Random, most: int):
    killer = Killer(seed, hazards, roots)
    killer.until(lambda: run.process.poll() is not None, most, 0.3, timeout=280)
    return killer.kills


@pytest.mark.slow
@pytest.mark.parametrize(("task", "count", "batch"), [("short", 1500, 20), ("long", 40, 1)])
def test_random_kills_in_an_embedded_run_lose_and_double_nothing(
    hazards: Hazards, seeded: random.Random, task: str, count: int, batch: int
) -> None:
    inputs = list(range(count))
    with hazards.running(task, inputs, "-w", "2", "--batch", str(batch), *PATIENT) as run:
        kills = kill_during(run, [run.pid], hazards, seeded, most=8)
        assert run.wait() == 0, run.printed
    history = hazards.history(inputs, run.stdout_text).check()
    assert kills
    assert history.extra <= kills * batch


@pytest.mark.slow
@pytest.mark.parametrize(("task", "count", "batch"), [("short", 1500, 20), ("long", 40, 1)])
def test_random_kills_in_separate_workers_lose_and_double_nothing(
    hazards: Hazards, seeded: random.Random, task: str, count: int, batch: int
) -> None:
    inputs = list(range(count))
    batches = ("--batch", str(batch))
    with (
        hazards.serving(task, inputs, *batches, *PATIENT) as (master, port),
        hazards.worker(port, "-p", "1") as one,
        hazards.worker(port, "-p", "1") as other,
    ):
        kills = kill_during(master, [one.pid, other.pid], hazards, seeded, most=8)
        assert [master.wait(), one.wait(), other.wait()] == [0, 0, 0], master.printed
    history = hazards.history(inputs, master.stdout_text).check()
    assert kills
    assert history.extra <= kills * batch


@pytest.mark.slow
def test_random_kills_under_adaptive_batches_and_threads_lose_and_double_nothing(
    hazards: Hazards, seeded: random.Random
) -> None:
    inputs = list(range(4000))
    with hazards.running("short", inputs, "-w", "2", "-t", "3", *PATIENT) as run:
        kills = kill_during(run, [run.pid], hazards, seeded, most=6)
        assert run.wait() == 0, run.printed
    assert kills
    hazards.history(inputs, run.stdout_text).check()


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_a_thousand_random_kills_in_a_million_tasks_lose_and_double_nothing(
    tmp_path: Path, seeded: random.Random
) -> None:
    count = int(os.environ.get("DQ_TEST_SOAK_TASKS", "1000000"))
    most = int(os.environ.get("DQ_TEST_SOAK_KILLS", "1000"))
    (tmp_path / "work.py").write_text(TASKS)
    (tmp_path / "inputs").write_text("".join(f"{number}\n" for number in range(count)))
    ledger = Ledger(count, set(), tmp_path / "log")
    ledger.next_master(tmp_path / "output")
    argv = [*DQ, "run", "work:work", "--input", "inputs", "--format", "jsonl", "--unordered", "-q"]
    argv += ["-w", "2", "--batch", "20", *PATIENT]
    into = ("sh", "-c", 'exec "$@" > output', "sh")  # too much to keep in memory
    env = {"DQ_TEST_LOG": str(ledger.log), "DQ_TEST_NAP": "0.0005"}
    with Running(*into, *argv, cwd=tmp_path, env=env) as run:
        kills = kill_on_the_way(run, ledger, sorted(seeded.sample(range(count * 9 // 10), most)))
        assert run.wait(7200) == 0, run.printed
    ledger.check(ordered=False)
    print(f"{count} tasks, {kills} kills; executed again: {ledger.extra}")
    assert kills == most
    assert ledger.extra <= kills * 20


def kill_on_the_way(run: Running, ledger: Ledger, places: list[int]) -> int:
    """Kill a task process at work whenever so many tasks have begun; how often that was."""
    kills = 0
    while kills < len(places) and run.process.poll() is None:
        ledger.look()
        # Those who have worked: five in a row that die while they start are a fault of their own.
        victims = sorted(ledger.pids.intersection(task_processes(run.pid)))
        if ledger.begun >= places[kills] and victims:
            kills += kill(random.Random(places[kills]).choice(victims))
        time.sleep(0.005)
    return kills


def test_a_process_killed_in_a_task_is_replaced_and_the_task_runs_again(hazards: Hazards) -> None:
    with hazards.running("gated", [1], "-w", "1") as run:
        [first] = hazards.wait_for_executions()
        kill(first["pid"])
        [_, second] = hazards.wait_for_executions(2)
        hazards.open_gate()
        assert run.wait() == 0, run.printed
    history = hazards.history([1], run.stdout_text).check()
    assert second["pid"] != first["pid"]
    assert history.record(1)["attempts"] == 2
    assert "killed by SIGKILL; replacing it" in run.stderr_text


def test_a_process_killed_while_it_waits_for_work_costs_nothing(hazards: Hazards) -> None:
    argv = ["run", "hazards:short", "--input", "-", "--format", "jsonl", "-w", "1"]
    with Running(*DQ, *argv, cwd=hazards.folder, env=hazards.env, stdin=subprocess.PIPE) as run:
        run.write("1\n")
        run.wait_for('"id": 0', stream="stdout")
        [waiting] = task_processes(run.pid)
        kill(waiting)
        gone(waiting)
        run.write("2\n")
        run.close_stdin()
        assert run.wait() == 0, run.printed
    history = hazards.history([1, 2], run.stdout_text).check()
    assert history.extra == 0
    assert {record["attempts"] for record in history.records} == {1}


def test_a_process_killed_in_an_exchange_charges_nothing(hazards: Hazards) -> None:
    with (
        hazards.serving("gated", [1]) as (master, port),
        FaultProxy(("127.0.0.1", port)) as proxy,
        hazards.worker(proxy.port, "-p", "1") as worker,
    ):
        [first] = hazards.wait_for_executions()
        proxy.freeze()
        hazards.open_gate()
        wait_until(lambda: _blocked(first["pid"]), message="the report is on its way")
        kill(first["pid"])
        gone(first["pid"])
        proxy.thaw()
        assert [master.wait(), worker.wait()] == [0, 0], master.printed
    history = hazards.history([1], master.stdout_text).check()
    assert history.record(1)["attempts"] == 1


def _blocked(pid: int) -> bool:
    """Whether the other end of one of its connections has bytes that nobody has taken yet."""
    done = subprocess.run(["ss", "-tnp"], capture_output=True, text=True, check=True).stdout
    lines = [line.split() for line in done.splitlines()[1:]]  # state, received, sent, local, peer
    ours = {line[3] for line in lines if f"pid={pid}," in line[-1]}
    return any(line[4] in ours and line[1] != "0" for line in lines)


def test_a_stopped_process_keeps_its_task(hazards: Hazards) -> None:
    with hazards.running("gated", [1], "-w", "2") as run:
        [first] = hazards.wait_for_executions()
        stop(first["pid"])
        hazards.open_gate()
        os.kill(first["pid"], signal.SIGCONT)
        assert run.wait() == 0, run.printed
    assert hazards.history([1], run.stdout_text).check().extra == 0


def test_a_killed_run_leaves_no_task_process(hazards: Hazards) -> None:
    with hazards.running("gated", [1, 2], "-w", "2") as run:
        pids = [entry["pid"] for entry in hazards.wait_for_executions(2)]
        kill(run.pid)
        gone(*pids)
        assert not any(alive(pid) for pid in pids)
