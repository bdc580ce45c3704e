"""Tasks that are cancelled while they run: their processes end, nobody is charged, slots go on."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from pathlib import Path

import pytest

import dq
from faults.scene import KEY, Hazards, gone
from support import DQ, Running, wait_until
from tasks.cancelling import announce, clean_up, hold, hold_on, hold_twice, hold_with_program

PATIENCE = 30.0


@pytest.fixture
def pool() -> Iterator[dq.Executor]:
    with dq.Executor(max_workers=1, max_deaths=1) as pool:
        yield pool


@contextmanager
def served() -> Iterator[tuple[dq.Executor, dq.Master]]:
    """An executor of a master without workers of its own."""
    with (
        dq.Master(port=0, host="127.0.0.1", authkey=KEY) as master,
        dq.Executor(master=master) as pool,
    ):
        yield pool, master


def another(master: dq.Master) -> Running:
    """A `dq worker`."""
    host, port = master.address
    env = {"DQ_AUTHKEY": KEY, "PYTHONPATH": os.pathsep.join(sys.path)}
    return Running(*DQ, "worker", "--server", f"{host}:{port}", "-p", "1", env=env)


def pid_in(path: Path) -> int:
    wait_until(path.exists)
    return int(path.read_text())


def test_a_call_that_runs_is_ended_and_the_next_has_its_slot(
    pool: dq.Executor, tmp_path: Path
) -> None:
    call = pool.submit(hold, tmp_path / "task")
    pid = pid_in(tmp_path / "task")
    assert call.cancel()
    assert pool.submit(abs, -1).result(PATIENCE) == 1
    gone(pid)
    with pytest.raises(CancelledError):
        call.result(PATIENCE)


def test_programs_that_a_cancelled_call_has_started_end_with_it(
    pool: dq.Executor, tmp_path: Path
) -> None:
    call = pool.submit(hold_with_program, tmp_path / "task")
    pid = pid_in(tmp_path / "task")
    assert call.cancel()
    assert pool.submit(abs, -1).result(PATIENCE) == 1
    gone(pid)


def test_a_cancelled_call_may_clean_up(pool: dq.Executor, tmp_path: Path) -> None:
    call = pool.submit(clean_up, tmp_path / "task")
    pid = pid_in(tmp_path / "task")
    assert call.cancel()
    assert pid_in(tmp_path / "cleaned up") == pid
    assert pool.submit(abs, -1).result(PATIENCE) == 1


def test_a_cancelled_call_that_does_not_end_is_killed(
    pool: dq.Executor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dq.worker.cancelling.KILL_AFTER_S", 0.2)
    call = pool.submit(hold_on, tmp_path / "task")
    pid = pid_in(tmp_path / "task")
    assert call.cancel()
    assert pool.submit(abs, -1).result(PATIENCE) == 1
    gone(pid)


def test_what_runs_in_other_threads_of_its_process_runs_again_and_is_not_charged(
    tmp_path: Path,
) -> None:
    with dq.Executor(max_workers=1, threads=2, max_deaths=1) as pool:
        call = pool.submit(hold, tmp_path / "task")
        other = pool.submit(hold_twice, tmp_path / "other")
        pid = pid_in(tmp_path / "task")
        assert pid_in(tmp_path / "other") == pid
        assert call.cancel()
        assert other.result(PATIENCE) not in (0, pid)


def test_a_call_can_be_cancelled_before_its_worker_knows_of_it(pool: dq.Executor) -> None:
    pool.submit(abs, -1).result(PATIENCE)
    for _ in range(20):
        assert pool.submit(time.sleep, 1000).cancel()
    assert pool.submit(abs, -2).result(PATIENCE) == 2


def test_a_call_at_a_worker_elsewhere_is_ended(tmp_path: Path) -> None:
    with served() as (pool, master), another(master) as worker:
        call = pool.submit(hold, tmp_path / "task")
        pid = pid_in(tmp_path / "task")
        assert call.cancel()
        assert pool.submit(abs, -1).result(PATIENCE) == 1
        gone(pid)
        assert "replacing" not in worker.stderr_text


def test_a_cancelled_job_ends_with_what_it_runs(tmp_path: Path) -> None:
    with dq.Master(workers=1) as master:
        values = master.map(hold, [tmp_path / "task"])
        pid = pid_in(tmp_path / "task")
        dispatcher = master.runtime.dispatcher
        [job] = [id for id in dispatcher.served_jobs if id != "plain"]
        assert dispatcher.cancellation.cancel_job(job) == 1
        with pytest.raises(dq.Stopped, match="cancelled"):
            list(values)
        gone(pid)


def test_fail_fast_ends_tasks_that_run(hazards: Hazards) -> None:
    argv = ("-w", "2", "--batch", "1", "--fail-fast")
    with hazards.running("fails_beside_one_that_holds", ["held", "bad"], *argv) as running:
        assert running.wait() == 4
    [held] = [one["pid"] for one in hazards.executions if one["input"] == "held"]
    gone(held)


def drain(master: dq.Master, *, now: bool) -> None:
    """Drain the only worker of a master."""
    presence = master.runtime.dispatcher.presence
    [worker] = presence.workers()
    assert presence.drain_worker(worker.name, now=now)


def until(path: Path) -> int:
    announce(path, os.getpid())
    wait_until(path.with_name("go").exists, PATIENCE)
    return 5


@pytest.mark.parametrize("now", [False, True])
def test_a_worker_that_is_drained_leaves_and_its_tasks_are_not_lost(
    tmp_path: Path, now: bool
) -> None:
    with served() as (pool, master):
        call = pool.submit(until, tmp_path / "task")
        with another(master) as worker:
            pid_in(tmp_path / "task")
            drain(master, now=now)
            worker.wait_for("by the master")
            if now:
                assert worker.wait() == 0
            (tmp_path / "go").touch()
            if not now:
                assert call.result(PATIENCE) == 5
                assert worker.wait() == 0
        if now:
            with another(master):
                assert call.result(PATIENCE) == 5
