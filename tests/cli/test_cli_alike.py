"""All task processes of a run are alike, wherever they are, and each has a number of its own."""

from __future__ import annotations

import ast
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from dq._support import quantities
from dq.worker.child import dismiss
from dq.worker.spawn import OMP_THREADS, THREAD_COUNTS, Spawner
from support import DQ, Running, serving, wait_until
from support.warm import dq

KEY = "k" * 16
SOURCE = """
import os, time

def environment(name):
    return os.environ.get(name)

def hashed(meeting):
    # Returns once as many processes are here as the input says.
    open(f"{os.getpid()}.here", "w").close()
    deadline = time.monotonic() + 30
    while sum(name.endswith(".here") for name in os.listdir()) < meeting:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return hash("ada"), os.environ["PYTHONHASHSEED"], int(os.environ["DQ_SLOT"]), os.getpid()

def descriptors(x):
    return sorted(int(number) for number in os.listdir("/proc/self/fd"))

async def descriptors_of_async(x):
    return descriptors(x)

def read(name):
    with open(name) as file:
        return file.read()
"""


@pytest.fixture
def alike(project: Path) -> Path:
    (project / "alike.py").write_text(SOURCE)
    return project


def test_strings_have_the_same_hash_in_all_processes_of_a_run(alike: Path) -> None:
    done = dq("run", "alike:hashed", "3", "3", "3", "-w", "3", "--batch", "1", cwd=alike)
    found = [ast.literal_eval(line) for line in done.stdout.splitlines()]
    assert len({pid for *_, pid in found}) == 3, done.stderr
    assert len({value for value, *_ in found}) == 1


def test_strings_have_the_same_hash_on_all_machines(alike: Path) -> None:
    argv = ("alike:hashed", "4", "4", "4", "4", "-w", "2", "--batch", "1")
    with serving(*argv, cwd=alike, env={"DQ_AUTHKEY": KEY}) as (master, port):
        worker = (*DQ, "worker", "-s", f"127.0.0.1:{port}", "-p", "2")
        env = {"DQ_AUTHKEY": KEY, "PYTHONHASHSEED": "7"}  # the master's says it, not the worker's
        with Running(*worker, cwd=alike, env=env) as remote:
            assert [master.wait(), remote.wait()] == [0, 0], master.printed
    found = [ast.literal_eval(line) for line in master.stdout_text.splitlines()]
    assert len({pid for *_, pid in found}) == 4
    assert len({(value, seed) for value, seed, *_ in found}) == 1
    assert found[0][1] != "7"


def test_two_runs_have_two_seeds(alike: Path) -> None:
    argv = ("run", "alike:environment", "PYTHONHASHSEED", "-w", "1")
    assert dq(*argv, cwd=alike).stdout != dq(*argv, cwd=alike).stdout


def test_a_seed_of_the_users_is_kept(alike: Path) -> None:
    argv = ("run", "alike:environment", "PYTHONHASHSEED", "-w", "1")
    assert dq(*argv, cwd=alike, env={"PYTHONHASHSEED": "42"}).stdout == "42\n"


def test_processes_are_numbered_from_0_and_those_that_replace_them_alike(alike: Path) -> None:
    argv = ("run", "alike:hashed", *"222222", "-w", "2", "--batch", "1", "--max-tasks", "1")
    done = dq(*argv, cwd=alike)
    found = [ast.literal_eval(line) for line in done.stdout.splitlines()]
    assert len({pid for *_, pid in found}) == 6, done.stderr
    assert {number for *_, number, _ in found} == {0, 1}


@pytest.mark.parametrize("name", [OMP_THREADS, *THREAD_COUNTS])
def test_processes_share_the_cpus_for_the_threads_of_libraries(alike: Path, name: str) -> None:
    unset = dict.fromkeys([OMP_THREADS, *THREAD_COUNTS])
    done = dq("run", "alike:environment", name, "-w", "2", cwd=alike, env=unset)
    assert done.stdout == f"{max(1, quantities.cpus() // 2)}\n", done.stderr


def test_how_many_threads_libraries_start_may_be_set(alike: Path) -> None:
    names = [OMP_THREADS, "OPENBLAS_NUM_THREADS"]
    unset = dict.fromkeys(THREAD_COUNTS)
    env = {**unset, OMP_THREADS: "5"}
    done = dq("run", "alike:environment", *names, "-w", "1", cwd=alike, env=env)
    assert done.stdout == "5\nNone\n", done.stderr


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc")
@pytest.mark.parametrize("task", ["descriptors", "descriptors_of_async"])
def test_small_descriptors_are_left_to_tasks(alike: Path, task: str) -> None:
    done = dq("run", f"alike:{task}", "1", "-w", "1", cwd=alike)
    found = ast.literal_eval(done.stdout)
    assert [number for number in found if number < 100] == [0, 1, 2, 3]  # 3 is what lists them


def test_a_number_that_is_taken_for_a_files_name_reads_nothing_of_dqs(alike: Path) -> None:
    numbers = [str(number) for number in range(3, 30)]
    done = dq("run", "alike:read", *numbers, "-w", "1", cwd=alike)
    assert (done.returncode, done.stdout) == (1, "")
    assert "task 0 (3) failed: OSError: [Errno 9] Bad file descriptor" in done.stderr


def test_what_processes_are_told_may_be_longer_than_a_pipe_takes(project: Path) -> None:
    numbers = [str(number) for number in range(30_000)]
    done = dq("run", "app:echo", *numbers, "-w", "2", "-q", cwd=project)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == numbers


def test_a_long_import_path_reaches_workers(project: Path) -> None:
    code = (
        "import sys, dq\n"
        "sys.path += ['/nonexistent/' + 'x' * 200 + str(n) for n in range(1000)]\n"
        "print(dq.run('app:square', [3], workers=1))\n"
    )
    (project / "long.py").write_text(code)
    with Running(DQ[0], "long.py", cwd=project) as run:
        run.wait_for(r"\[9\]", stream="stdout")
        assert run.wait() == 0


@pytest.fixture
def spawner() -> Iterator[Spawner]:
    spawner = Spawner()
    yield spawner
    spawner.close()


def test_a_process_that_dies_before_it_has_its_configuration_holds_nobody_up(
    spawner: Spawner,
) -> None:
    child = spawner.start(1)
    os.kill(child.pid, signal.SIGKILL)
    child.send_config(bytes(1 << 20))
    child.popen.wait()
    child.close()


def test_a_process_that_is_to_leave_hears_of_it_after_all_else(spawner: Spawner) -> None:
    child = spawner.start(1)
    try:
        child.drain()  # nothing has been written that it could be mistaken for
        assert child.popen.returncode is None
    finally:
        dismiss([child])
    wait_until(lambda: child.popen.returncode is not None)
