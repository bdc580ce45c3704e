"""Whole machines that go: those of workers, and the master's, which comes back."""

from __future__ import annotations

import signal
import sys

import pytest

from faults.scene import Hazards, gone, kill
from support import DQ, Running, alive, python, task_processes, wait_until


def test_the_tasks_of_a_machine_that_went_are_done_by_others(hazards: Hazards) -> None:
    inputs = list(range(8))
    with hazards.serving("gated", inputs) as (master, port):
        with hazards.worker(port, "-p", "2") as lost:
            pids = [entry["pid"] for entry in hazards.wait_for_executions(2)]
            lost.kill_group()
            gone(*pids)
        hazards.open_gate()
        with hazards.worker(port, "-p", "2") as other:
            assert [master.wait(), other.wait()] == [0, 0], master.printed
    history = hazards.history(inputs, master.stdout_text).check()
    assert history.extra == 2  # what the lost machine was doing
    assert {record["attempts"] for record in history.records} == {1}  # and nobody's fault


def test_work_goes_on_elsewhere_while_the_lost_machine_is_still_dying(hazards: Hazards) -> None:
    inputs = list(range(200))
    with (
        hazards.serving("short", inputs) as (master, port),
        hazards.worker(port, "-p", "2") as one,
        hazards.worker(port, "-p", "2") as other,
    ):
        hazards.wait_for_executions(20)
        one.kill_group()
        assert [master.wait(), other.wait()] == [0, 0], master.printed
    hazards.history(inputs, master.stdout_text).check()


@pytest.mark.parametrize("task", ["gated", "never_in_c"])
def test_task_processes_end_by_themselves_when_their_supervisor_is_killed(
    hazards: Hazards, task: str
) -> None:
    with (
        hazards.serving(task, ["bad"]) as (_, port),
        hazards.worker(port, "-p", "3") as worker,
    ):
        hazards.wait_for_executions()
        pids = wait_until(lambda: len(found := task_processes(worker.pid)) == 3 and found)
        kill(worker.pid)
        gone(*pids)


def test_task_processes_of_a_script_end_with_it(hazards: Hazards) -> None:
    code = "import dq; dq.run('hazards:gated', [1, 2], workers=2)"
    with Running(sys.executable, "-c", code, cwd=hazards.folder, env=hazards.env) as script:
        pids = [entry["pid"] for entry in hazards.wait_for_executions(2)]
        kill(script.pid)
        gone(*pids)


def restart(hazards: Hazards, port: int, *job: str) -> Running:
    argv = [*DQ, "master", *job, "--port", str(port)]
    return Running(*argv, cwd=hazards.folder, env=hazards.env)


def test_workers_find_a_master_that_was_started_again(hazards: Hazards) -> None:
    with (
        hazards.serving("gated", ["old"]) as (first, port),
        hazards.worker(port, "-p", "1") as worker,
    ):
        hazards.wait_for_executions()
        kill(first.pid)
        first.wait()
        hazards.open_gate()
        with restart(hazards, port, *hazards.job("short", [1, 2, 3])) as second:
            assert [second.wait(), worker.wait()] == [0, 0], worker.printed
    hazards.log.write_text("".join(hazards.log.read_text().splitlines(keepends=True)[1:]))
    assert hazards.history([1, 2, 3], second.stdout_text).check().extra == 0


def test_outcomes_of_an_old_run_are_not_taken_for_the_new_ones(hazards: Hazards) -> None:
    with (
        hazards.serving("gated", ["gated"]) as (first, port),
        hazards.worker(port, "-p", "1", "-t", "2") as worker,
    ):
        [old] = hazards.wait_for_executions()
        kill(first.pid)
        first.wait()
        with restart(hazards, port, *hazards.job("gated", ["gated"])) as second:
            second.wait_for("serving on")
            hazards.open_gate()
            assert [second.wait(), worker.wait()] == [0, 0], worker.printed
    history = hazards.history(["gated"], second.stdout_text).check()
    assert history.record("gated")["result"]["token"] != old["token"]


def test_a_worker_does_the_new_masters_task_with_plain_items(hazards: Hazards) -> None:
    def serve(task: str, port: int) -> Running:
        return restart(hazards, port, f"hazards:{task}")

    with serve("short", 0) as first:
        port = int(first.wait_for(r"serving on \S+:(\d+)")[1])
        with hazards.worker(port, "-p", "1"):
            assert "token" in answer(hazards, port, 1)
            kill(first.pid)
            first.wait()
            with serve("raises_no_reduce", port) as second:
                second.wait_for("serving on")
                assert "NoReduce" in answer(hazards, port, "bad")


def answer(hazards: Hazards, port: int, item: object) -> str:
    """What a plain client gets for an item that it puts."""
    code = f"""
import dq
manager = dq.QueueManager(("127.0.0.1", {port}), {hazards.env["DQ_AUTHKEY"]!r}.encode())
manager.connect()
manager.get_task_queue().put({item!r})
print(repr(manager.get_result_queue().get(timeout=30)))
"""
    done = python(code, env=hazards.env)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_worker_gives_up_a_master_that_does_not_come_back(hazards: Hazards) -> None:
    with (
        hazards.serving("gated", [1]) as (master, port),
        hazards.worker(port, "-p", "1", "--reconnect", "1") as worker,
    ):
        [entry] = hazards.wait_for_executions()
        kill(master.pid)
        hazards.open_gate()
        assert worker.wait() == 4
        assert "lost the master" in worker.stderr_text
        assert not alive(entry["pid"])


def test_a_master_stopped_in_an_orderly_way_sends_its_workers_home(hazards: Hazards) -> None:
    with (
        hazards.serving("gated", [1, 2]) as (master, port),
        hazards.worker(port, "-p", "1") as worker,
    ):
        hazards.wait_for_executions()
        master.send_signal(signal.SIGTERM)
        master.wait_for("finishing running tasks")
        hazards.open_gate()
        assert [master.wait(), worker.wait()] == [4, 0], worker.printed
