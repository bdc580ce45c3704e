"""How many work, and for how long: processes, threads, async tasks, recycling, limits."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from dq._support import quantities
from dq.cli import commands
from support import DQ, Running, task_processes, wait_until
from support.warm import dq

# Tasks that return only once as many of them run as their input says.
MEETING = """
import asyncio, os, threading, time

here = []
barrier = threading.Barrier(4)
everybody = asyncio.Event()

def threads(x):
    barrier.wait(30)
    return os.getpid()

async def awaited(x):
    here.append(x)
    if len(here) == 4:
        everybody.set()
    await asyncio.wait_for(everybody.wait(), 30)
    return os.getpid()

def processes(count):
    open(f"{os.getpid()}.here", "w").close()
    deadline = time.monotonic() + 30
    while sum(name.endswith(".here") for name in os.listdir()) < count:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return os.getpid()

def stay(x):
    while not os.path.exists("go"):
        time.sleep(0.01)
"""


@pytest.fixture
def meeting(project: Path) -> Path:
    (project / "meeting.py").write_text(MEETING)
    return project


def test_so_many_processes_work_at_once(meeting: Path) -> None:
    done = dq("run", "meeting:processes", "3", "3", "3", "-w", "3", cwd=meeting)
    assert done.returncode == 0, done.stderr
    assert len(set(done.stdout.split())) == 3


def test_so_many_threads_of_a_process_work_at_once(meeting: Path) -> None:
    done = dq("run", "meeting:threads", *"1234", "-w", "1", "-t", "4", cwd=meeting)
    assert done.returncode == 0, done.stderr
    assert len(set(done.stdout.split())) == 1


def test_so_many_async_tasks_are_awaited_at_once(meeting: Path) -> None:
    done = dq("run", "meeting:awaited", *"1234", "-w", "1", "-t", "4", cwd=meeting)
    assert done.returncode == 0, done.stderr
    assert len(set(done.stdout.split())) == 1


def test_an_async_task_is_awaited_with_one_slot_too(project: Path) -> None:
    done = dq("run", "app:async_double", "1", "2", "-w", "1", cwd=project)
    assert (done.returncode, done.stdout) == (0, "2\n4\n")


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("option", "count"),
    [("-w", "2"), ("--workers", "50%"), ("-j", "-1"), ("--jobs", "+1")],
)
def test_the_number_of_processes_is_as_gnu_parallel_has_it(
    meeting: Path, option: str, count: str
) -> None:
    expected = quantities.processes(count, quantities.cpus())
    argv = (*DQ, "run", "meeting:stay", *map(str, range(expected)), option, count)
    with Running(*argv, cwd=meeting) as running:
        wait_until(lambda: len(task_processes(running.pid)) == expected)
        (meeting / "go").touch()
        assert running.wait() == 0


def test_no_more_processes_are_started_than_there_are_inputs(meeting: Path) -> None:
    given: dict[str, object] = {
        "inputs": ("1", "2"), "input": None, "threads": 1, "workers": 9, "only": None
    }  # fmt: skip
    assert commands._needed(given, cpus=4) == 2
    selected = {**given, "inputs": (), "input": ("in.txt",), "only": ((3, 4), (7, 9))}
    assert commands._needed(selected, cpus=4) == 3


def test_processes_that_are_still_to_start_hold_up_no_end(project: Path) -> None:
    """Ten thousand take most of a minute to start."""
    (project / "in.txt").write_text("3\n")
    done = dq("run", "app:square", "-i", "in.txt", "-w", "10000", cwd=project, timeout=30)
    assert (done.returncode, done.stdout) == (0, "9\n"), done.stderr


@pytest.mark.sampled(2)
@pytest.mark.parametrize("option", ["-p", "--processes", "-j", "--jobs"])
def test_a_worker_has_so_many_processes(meeting: Path, option: str) -> None:
    """While nobody listens there are none; they are there once the master is."""
    argv = (*DQ, "master", "meeting:stay", "1", "--port", "0", "--host", "127.0.0.1")
    with Running(*argv, "--authkey", "k" * 16, cwd=meeting) as master:
        port = master.wait_for(r"^dq: serving on 127\.0\.0\.1:(\d+)$")[1]
        worker_argv = (*DQ, "worker", "-s", f"127.0.0.1:{port}", option, "2")
        with Running(*worker_argv, cwd=meeting, env={"DQ_AUTHKEY": "k" * 16}) as worker:
            worker.wait_for("working on 2 task")
            wait_until(lambda: len(task_processes(worker.pid)) == 2)
            (meeting / "go").touch()
            assert master.wait() == 0
            assert worker.wait() == 0


@pytest.mark.parametrize("batch", [(), ("--batch", "1"), ("--batch", "5")])
def test_max_tasks_replaces_a_process_after_so_many(project: Path, batch: tuple[str, ...]) -> None:
    argv = ("run", "app:pid", *map(str, range(7)), "-w", "1", "--max-tasks", "2", *batch)
    done = dq(*argv, cwd=project)
    assert done.returncode == 0, done.stderr
    assert sorted(Counter(done.stdout.split()).values()) == [1, 2, 2, 2]


def test_max_memory_ends_a_process_that_grows_past_it(project: Path) -> None:
    source = (
        "import time\n"
        "def f(x):\n"
        "    if x == 'hog':\n"
        "        hoard = bytearray(400 << 20)\n"
        "        time.sleep(60)\n"
        "    return x\n"
    )
    (project / "hog.py").write_text(source)
    argv = ("run", "hog:f", "1", "hog", "2", "-w", "1", "--max-memory", "200M")
    done = dq(*argv, "--max-deaths", "1", "-f", "jsonl", cwd=project)
    assert done.returncode == 1
    one, hog, two = map(json.loads, done.stdout.splitlines())
    assert hog["error"]["type"] == "WorkerDied"
    assert f"grew past {200 << 20} bytes of memory" in hog["error"]["message"]
    assert (one["result"], two["result"]) == (1, 2)


def test_init_is_called_once_in_each_process(project: Path) -> None:
    source = (
        "import os, time\n"
        "def start():\n"
        "    open(f'{os.getpid()}.init', 'x').close()\n"
        "def f(x):\n"
        "    time.sleep(0.01)\n"
        "    return os.path.exists(f'{os.getpid()}.init')\n"
    )
    (project / "work.py").write_text(source)
    argv = ("run", "work:f", *map(str, range(20)), "-w", "2", "--init", "work:start")
    done = dq(*argv, cwd=project)
    assert (done.returncode, set(done.stdout.split())) == (0, {"True"}), done.stderr


def test_batch_fixes_how_many_tasks_go_out_together(project: Path) -> None:
    """Two processes, two batches: whoever has the first task has all of its batch."""
    argv = ("run", "app:pid", *map(str, range(8)), "-w", "2", "--batch", "4")
    pids = dq(*argv, cwd=project).stdout.split()
    assert len(set(pids[:4])) == 1
    assert len(set(pids[4:])) == 1


def test_what_a_task_prints_is_there_at_once_where_results_go_to_a_file(project: Path) -> None:
    (project / "talk.py").write_text(
        "import os, time\n"
        "def f(x):\n"
        "    print('begun', x)\n"
        "    while not os.path.exists('go'):\n        time.sleep(0.01)\n"
        "    return x\n"
    )
    command = (*DQ, "run", "talk:f", "1", "-w", "1", "-q", "-o", "out.txt")
    with Running(*command, cwd=project, env={"PYTHONUNBUFFERED": None}) as running:
        running.wait_for("begun 1")
        (project / "go").touch()
        assert running.wait() == 0
