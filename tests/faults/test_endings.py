"""How a task process ends: as an interpreter does, within a bound, and whatever tasks have left."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from support import DQ, Running, serving, wait_until
from support.warm import dq

KEY = "k" * 16
SOURCE = """
import asyncio, atexit, concurrent.futures, csv, multiprocessing, os, signal, threading, time

def open_log():
    global file, rows
    file = open(f"{os.getpid()}.log", "w")
    rows = csv.writer(file)

def write(x):
    rows.writerow([x])
    return x

def write_and_wait(x):
    rows.writerow([x])
    open("begun", "w").close()
    while not os.path.exists("go"):
        time.sleep(0.01)
    return x

def linger(name):
    time.sleep(0.3)
    with open(name, "w") as file:
        file.write("written")

def leaves_thread(name):
    threading.Thread(target=linger, args=(name,)).start()
    return name

def leaves_endless_thread(x):
    threading.Thread(target=threading.Event().wait, name=f"left by {x}").start()
    return x

def leaves_daemon_thread(x):
    threading.Thread(target=threading.Event().wait, daemon=True).start()
    return x

def leaves_endless_process(x):
    context = multiprocessing.get_context("spawn")
    context.Process(target=time.sleep, args=(600,)).start()
    return x

def hang():
    open("at exit", "w").close()
    while True:
        time.sleep(0.01)

def leaves_endless_atexit(x):
    atexit.register(hang)
    return x

class Endless:
    def __del__(self):
        while True:
            time.sleep(0.01)

def leaves_endless_destructor(x):
    global endless
    endless = Endless()
    return x

def leaves_crash(x):
    atexit.register(os.kill, os.getpid(), signal.SIGSEGV)
    return x

pools = []

def leaves_pools(x):
    context = multiprocessing.get_context("spawn")
    executors = concurrent.futures.ThreadPoolExecutor(2), concurrent.futures.ProcessPoolExecutor(
        2, mp_context=context
    )
    pools.extend(executors)
    return sum(list(pool.map(abs, [-x, x])) == [x, x] for pool in executors)

def leaves_pool(x):
    pool = multiprocessing.get_context("spawn").Pool(1)
    pools.append(pool)
    return pool.map(abs, [-x])

async def cleans_up(name):
    try:
        await asyncio.sleep(600)
    finally:
        with open(name, "w") as file:
            file.write("cleaned up")

async def leaves_task(name):
    global task
    task = asyncio.create_task(cleans_up(name))
    await asyncio.sleep(0)
    return name
"""


@pytest.fixture
def endings(project: Path) -> Path:
    (project / "endings.py").write_text(SOURCE)
    return project


def rows(folder: Path) -> list[str]:
    return sorted(row for log in folder.glob("*.log") for row in log.read_text().split())


# Files, threads and what else is waited for


@pytest.mark.parametrize("options", [(), ("--max-tasks", "1"), ("-t", "3"), ("--batch", "10")])
def test_rows_that_tasks_have_buffered_are_in_their_files(
    endings: Path, options: tuple[str, ...]
) -> None:
    argv = ("run", "endings:write", *"1234", "--init", "endings:open_log", "-w", "2", *options)
    done = dq(*argv, cwd=endings)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert rows(endings) == [*"1234"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_rows_are_in_their_files_after_the_first_signal_too(
    endings: Path, number: signal.Signals
) -> None:
    argv = ("run", "endings:write_and_wait", *"1234", "--init", "endings:open_log", "-w", "1")
    with Running(*DQ, *argv, "--batch", "1", cwd=endings) as run:
        wait_until((endings / "begun").exists)
        run.send_signal(number)
        run.wait_for("finishing running tasks")
        (endings / "go").touch()
        assert run.wait() == (130 if number == signal.SIGINT else 4), run.printed
    assert rows(endings) == ["1"]


def test_rows_of_a_worker_that_leaves_are_in_their_files(endings: Path) -> None:
    argv = ("endings:write_and_wait", *"12", "--init", "endings:open_log", "--batch", "1")
    with serving(*argv, cwd=endings, env={"DQ_AUTHKEY": KEY}) as (master, port):
        worker_argv = (*DQ, "worker", "-s", f"127.0.0.1:{port}", "-p", "1")
        with Running(*worker_argv, cwd=endings, env={"DQ_AUTHKEY": KEY}) as worker:
            wait_until((endings / "begun").exists)
            worker.send_signal(signal.SIGTERM)
            worker.wait_for("finishing running tasks")
            (endings / "go").touch()
            assert worker.wait() == 0, worker.printed
        assert rows(endings) == ["1"]
        master.send_signal(signal.SIGTERM)
        master.wait()


def test_a_thread_that_a_task_leaves_is_waited_for(endings: Path) -> None:
    done = dq("run", "endings:leaves_thread", "one", "two", "-w", "1", cwd=endings)
    assert (done.returncode, done.stderr) == (0, "")
    assert [(endings / name).read_text() for name in ("one", "two")] == ["written"] * 2


def test_a_daemon_thread_is_not(endings: Path) -> None:
    done = dq("run", "endings:leaves_daemon_thread", "1", "-w", "1", "--grace", "50", cwd=endings)
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")


def test_what_async_tasks_leave_running_is_cancelled(endings: Path) -> None:
    done = dq("run", "endings:leaves_task", "one", "-w", "1", cwd=endings)
    assert (done.returncode, done.stderr) == (0, "")
    assert (endings / "one").read_text() == "cleaned up"


@pytest.mark.parametrize("task", ["leaves_pools", "leaves_pool"])
def test_pools_within_tasks_end_without_a_word(endings: Path, task: str) -> None:
    argv = ("run", f"endings:{task}", "1", "2", "-w", "1", "--max-tasks", "1", "--grace", "50")
    done = dq(*argv, cwd=endings)
    assert (done.returncode, done.stderr) == (0, "")


# Within a bound


WAITED_FOR = {
    "leaves_endless_thread": "the thread 'left by 1'",
    "leaves_endless_process": r"the process \d+",
    "leaves_endless_atexit": "what is registered with atexit",
}


@pytest.mark.sampled(1)
@pytest.mark.parametrize("task", WAITED_FOR)
def test_what_does_not_end_is_waited_for_so_long_and_said(endings: Path, task: str) -> None:
    argv = (*DQ, "run", f"endings:{task}", "1", "-w", "1", "--grace", "0.5")
    with Running(*argv, cwd=endings) as run:
        run.wait_for(
            rf"^dq: task process \d+ has waited 0.5 s at its end for {WAITED_FOR[task]};"
            r" it ends without that \(--grace\)$"
        )
        assert run.wait() == 0
        assert run.stdout_text == "1\n"


def test_a_process_that_cannot_end_itself_is_ended_from_outside(endings: Path) -> None:
    argv = ("run", "endings:leaves_endless_destructor", "1", "-w", "1", "--grace", "0.2")
    done = dq(*argv, cwd=endings)
    assert (done.returncode, done.stdout) == (0, "1\n")
    assert "did not exit within 0.2 s, and is ended" in done.stderr


def test_without_grace_a_process_ends_at_once(endings: Path) -> None:
    argv = ("run", "endings:leaves_endless_atexit", "1", "-w", "1", "--grace", "0")
    done = dq(*argv, cwd=endings)
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")
    assert not (endings / "at exit").exists()


def test_the_second_signal_waits_for_nothing(endings: Path) -> None:
    argv = ("run", "endings:leaves_endless_atexit", "1", "2", "-w", "1", "--batch", "1")
    with Running(*DQ, *argv, "--grace", "600", "--max-tasks", "1", cwd=endings) as run:
        wait_until((endings / "at exit").exists)
        started = time.monotonic()
        run.send_signal(signal.SIGINT)
        run.wait_for("waiting for task processes to end; once more to leave now")
        run.send_signal(signal.SIGINT)
        assert run.wait() == 130
        assert time.monotonic() - started < 30


def test_a_crash_at_the_end_is_said_and_nobodys_fault(endings: Path) -> None:
    argv = ("run", "endings:leaves_crash", "1", "2", "-w", "1", "--max-tasks", "1")
    done = dq(*argv, "--max-deaths", "1", cwd=endings)
    assert (done.returncode, done.stdout) == (0, "1\n2\n")
    assert "was killed by SIGSEGV while it exited, after its tasks" in done.stderr
