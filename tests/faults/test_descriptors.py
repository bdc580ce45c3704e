"""Descriptors run out: those who are connected are served, others when there is room, nobody spins,
and one line says so."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing.connection import Client

import pytest

from faults.scene import KEY, Hazards, cpu_seconds, kill
from support import DQ, Running, fds, serving, task_processes, wait_until

pytestmark = pytest.mark.slow

resource = pytest.importorskip("resource")
if not hasattr(resource, "prlimit"):
    pytest.skip("no process's limits but one's own can be changed here", allow_module_level=True)

FED = ("--input", "-", "--format", "jsonl", "--batch", "1", "-q")
FULL = "dq: cannot take a connection: Too many open files; those connected are served"
#: Of one CPU. Looking twenty times a second whether there is room takes a hundredth; a loop that
#: spins takes all that it can get, which is a half and more on a machine that is shared.
IDLE = 0.2


@contextmanager
def scarce(pid: int, most: int = 0) -> Iterator[None]:
    """A process may open no more descriptors, or so many in all."""
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (most or fds(pid), before[1]))
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


@contextmanager
def idle(pid: int) -> Iterator[None]:
    """What goes on within takes a process next to no CPU time."""
    started, used = time.monotonic(), cpu_seconds(pid)
    yield
    elapsed, used = time.monotonic() - started, cpu_seconds(pid) - used
    assert used <= IDLE * elapsed + 0.05, f"{used:.2f} s of CPU time in {elapsed:.2f} s"


@contextmanager
def fed(hazards: Hazards, task: str) -> Iterator[tuple[Running, int]]:
    """A master that is given inputs by `write`."""
    place = {"cwd": hazards.folder, "env": hazards.env, "stdin": subprocess.PIPE}
    with serving(f"hazards:{task}", *FED, **place) as found:
        yield found


def feed(master: Running, *inputs: int) -> None:
    """And wait for the last one's record."""
    master.write("".join(f"{x}\n" for x in inputs))
    master.wait_for(f'"input": {inputs[-1]},', stream="stdout", timeout=60)


# The master


def test_a_master_without_descriptors_serves_those_connected_and_others_when_there_is_room(
    hazards: Hazards,
) -> None:
    with fed(hazards, "long") as (master, port), hazards.worker(port, "-p", "1") as one:
        feed(master, 0)
        with ExitStack() as room:
            with scarce(master.pid):
                other = room.enter_context(hazards.worker(port, "-p", "1"))
                master.wait_for(FULL)
                with idle(master.pid):
                    feed(master, *range(1, 16))
                assert len({entry["pid"] for entry in hazards.executions}) == 1
                assert "connected" not in other.stderr_text
            other.wait_for("connected to", timeout=10)
            wait_until(lambda: len(task_processes(other.pid)) == 1)
            feed(master, *range(16, 40))
            master.close_stdin()
            assert [master.wait(), one.wait(), other.wait()] == [0, 0, 0], master.printed
    assert master.stderr_text.count("cannot take") <= 2  # again after ten seconds
    history = hazards.history(list(range(40)), master.stdout_text).check()
    assert history.extra == 0
    assert len(history.pids) == 2


def test_there_is_room_when_somebody_leaves(hazards: Hazards) -> None:
    with (
        fed(hazards, "short") as (master, port),
        scarce(master.pid, most=fds(master.pid) + 30),
        ExitStack() as guests,
    ):
        for _ in range(30):
            guests.enter_context(Client(("127.0.0.1", port), authkey=KEY.encode()))
        with hazards.worker(port, "-p", "1") as worker:
            master.wait_for(FULL)
            guests.close()
            feed(master, *range(20))
            master.close_stdin()
            assert [master.wait(), worker.wait()] == [0, 0], worker.printed
    assert hazards.history(list(range(20)), master.stdout_text).check().extra == 0


def test_a_master_may_open_what_its_hard_limit_allows(hazards: Hazards) -> None:
    argv = ("sh", "-c", 'ulimit -S -n 40 && ulimit -H -n 400 && exec "$0" "$@"', *DQ, "master")
    with (
        Running(*argv, "--port", "0", cwd=hazards.folder, env=hazards.env) as master,
        ExitStack() as guests,
    ):
        port = int(master.wait_for(r"serving on \S+:(\d+)")[1])
        for _ in range(300):
            guests.enter_context(Client(("127.0.0.1", port), authkey=KEY.encode()))
        assert "cannot take" not in master.stderr_text


# Workers


def test_a_worker_that_cannot_replace_a_process_goes_on_with_the_others_and_tries_again(
    hazards: Hazards,
) -> None:
    with fed(hazards, "long") as (master, port), hazards.worker(port, "-p", "2") as worker:
        wait_until(lambda: len(task_processes(worker.pid)) == 2)
        feed(master, 0)
        with scarce(worker.pid, most=5):
            kill(task_processes(worker.pid)[0])
            said = "dq: cannot start a task process: Too many open files; going on with 1 of 2"
            worker.wait_for(said)
            with idle(worker.pid):
                feed(master, *range(1, 16))
            assert len(task_processes(worker.pid)) == 1
        wait_until(lambda: len(task_processes(worker.pid)) == 2)
        feed(master, *range(16, 30))
        master.close_stdin()
        assert [master.wait(), worker.wait()] == [0, 0], worker.printed
    assert worker.stderr_text.count("cannot start") == 1
    hazards.history(list(range(30)), master.stdout_text).check()


def test_a_worker_starts_with_as_many_processes_as_it_has_descriptors_for(
    hazards: Hazards,
) -> None:
    inputs = list(range(30))
    with hazards.serving("short", inputs) as (master, port):
        argv = ("sh", "-c", 'ulimit -n 16 && exec "$0" "$@"', *DQ, "worker", "-p", "30")
        server = ("--server", f"127.0.0.1:{port}")
        with Running(*argv, *server, cwd=hazards.folder, env=hazards.env) as worker:
            worker.wait_for(r"Too many open files; going on with \d of 30, and trying again")
            assert [master.wait(), worker.wait()] == [0, 0], worker.printed
    assert hazards.history(inputs, master.stdout_text).check().extra == 0


def test_a_run_that_cannot_replace_a_process_goes_on_with_the_others(hazards: Hazards) -> None:
    inputs = list(range(40))
    with hazards.running("long", inputs, "-w", "2", "--batch", "1") as run:
        hazards.wait_for_executions(4)
        with scarce(run.pid, most=5):
            kill(task_processes(run.pid)[0])
            run.wait_for("cannot start a task process: Too many open files; going on with 1 of 2")
            assert run.wait(60) == 0, run.printed
    hazards.history(inputs, run.stdout_text).check()


def test_a_task_process_without_descriptors_fails_what_needs_one_and_reports_it(
    hazards: Hazards,
) -> None:
    with fed(hazards, "short") as (master, port), hazards.worker(port, "-p", "1") as worker:
        feed(master, 0)
        [process] = task_processes(worker.pid)
        with scarce(process, most=3):
            feed(master, 1, 2, 3)
        feed(master, 4, 5)
        master.close_stdin()
        assert [master.wait(), worker.wait()] == [1, 0], master.printed
    history = hazards.history(list(range(6)), master.stdout_text)
    history.check(failed=dict.fromkeys([1, 2, 3], "OSError"))
    assert len(history.pids) == 1
    assert "Too many open files" in history.record(2)["error"]["message"]
