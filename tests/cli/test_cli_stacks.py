"""`dq stacks`: where running tasks are."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import DQ, stop, wait_until
from support.jobs import JobsMaster

STUCK = """
import asyncio, os, re, threading, time

def begun(x):
    open(f"{x}.begun", "x").close()

def wait(x):
    begun(x)
    deeper(x)
    return x

def deeper(x):
    while not os.path.exists(f"{x}.go"):
        time.sleep(0.01)

def backtrack(x):
    begun(x)
    re.match("(a+)+$", "a" * 40 + "b")  # for days, without ever releasing the GIL

def in_thread(x):
    thread = threading.Thread(target=wait, args=(x,))
    thread.start()
    thread.join()

def close_all(x):
    os.closerange(3, 65536)
    wait(x)
    return x

async def sleeping(x):
    begun(x)
    await asyncio.gather(deep(x))
    return x

async def deep(x):
    while not os.path.exists(f"{x}.go"):
        await asyncio.sleep(0.01)

def busy(x):
    threads = [threading.Thread(target=recursing, args=(x,)) for _ in range(4)]
    begun(x)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return x

def recursing(x):
    def down(n):
        return down(n - 1) if n else [one for one in (other for other in range(9))]
    while not os.path.exists(f"{x}.go"):
        down(50)
"""


@pytest.fixture
def stuck(tmp_path: Path) -> Iterator[JobsMaster]:
    """A master with a worker that can be stuck in several ways."""
    (tmp_path / "stuck.py").write_text(STUCK)
    with JobsMaster(tmp_path) as master:
        yield master


def running(master: JobsMaster, task: str) -> str:
    """Have a task with the input `a` run, and return the name of its process."""
    master.submit(f"stuck:{task}", "a")
    wait_until(lambda: (master.folder / "a.begun").exists())
    return process_of(master)


def process_of(master: JobsMaster) -> str:
    """The process that runs a task, as soon as its worker has said so."""

    def named() -> str | None:
        found = json.loads(master.dq("stacks", "--json").stdout)
        return next((str(one["process"]) for one in found if one["running"]), None)

    return wait_until(named)


def result_of(master: JobsMaster) -> str:
    """Let the task end, and get its result."""
    (master.folder / "a.go").touch()
    return str(master.dq("results", "1", "--follow").stdout)


def seen(master: JobsMaster) -> str:
    """What it shows, once the processes of a busy machine have answered in time."""

    def answered() -> str | None:
        shown = master.dq("stacks").stdout
        return None if "answer within" in shown else str(shown)

    return wait_until(answered)


def places(shown: str) -> list[str]:
    """The functions of the tasks' module that are shown."""
    return re.findall(r"stuck\.py\", line \d+, in (\w+)$", shown, re.MULTILINE)


def test_it_shows_the_calls_of_a_task_that_waits_and_leaves_it_alone(stuck: JobsMaster) -> None:
    process = running(stuck, "wait")
    shown = seen(stuck)
    assert re.match(rf"\S+, process {process}: job 1 task 0, \d", shown)
    assert places(shown) == ["wait", "deeper"]
    assert "time.sleep(0.01)" in shown
    assert "dq/worker" not in shown
    assert " \n" not in shown
    assert result_of(stuck) == "a\n"


def test_it_shows_the_coroutines_that_wait(stuck: JobsMaster) -> None:
    running(stuck, "sleeping")
    shown = seen(stuck)
    assert places(shown)[:2] == ["sleeping", "deep"]
    assert "run_forever" not in shown
    assert result_of(stuck) == "a\n"


def test_it_shows_threads_that_a_task_has_started(stuck: JobsMaster) -> None:
    running(stuck, "in_thread")
    shown = seen(stuck)
    assert len(re.findall("^  thread ", shown, re.MULTILINE)) == 2
    assert {"in_thread", "deeper"} <= {*places(shown)}
    (stuck.folder / "a.go").touch()


def test_looking_again_and_again_harms_no_thread_that_runs(stuck: JobsMaster) -> None:
    running(stuck, "busy")
    with stuck.connect() as client:
        for _ in range(20):
            [process] = client.stacks()
            assert process.error or "in recursing" in process.text
    (stuck.folder / "a.go").touch()
    with stuck.connect() as client:
        [result] = client.job(1).results(follow=True)
    assert (result.value, result.attempts) == ("a", 1)


def test_a_task_that_keeps_the_interpreters_lock_is_said_to(stuck: JobsMaster) -> None:
    running(stuck, "backtrack")
    shown = stuck.dq("stacks").stdout
    assert "  no answer within 0.8 s: code in C may keep the interpreter's lock\n" in shown
    stuck.dq("cancel", "1")


def test_a_task_in_c_code_only_and_an_idle_process_are_told_apart(stuck: JobsMaster) -> None:
    wait_until(lambda: stuck.dq("stacks").stdout == "no task runs\n")
    stuck.submit("time:sleep", "600")
    process_of(stuck)
    shown = seen(stuck)
    assert re.fullmatch(
        r"\S+, process \S+: job 1 task 0, .+\n  in no Python code of the task\n", shown
    )


def test_a_task_that_has_closed_all_files_is_shown_too(stuck: JobsMaster) -> None:
    running(stuck, "close_all")
    assert "deeper" in places(seen(stuck))
    assert result_of(stuck) == "a\n"


def test_a_process_without_room_to_answer_works_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "stuck.py").write_text(STUCK)
    limited = ("sh", "-c", 'ulimit -f 8; exec "$@"', "sh", *DQ)
    with JobsMaster(tmp_path, workers=0) as master, master.begin("worker", "-p", "1", dq=limited):
        running(master, "wait")
        assert "  it has no room to answer (ulimit -f)\n" in seen(master)
        assert result_of(master) == "a\n"
        master.dq("stop", "--now")


def test_a_process_or_a_worker_that_is_stopped_is_said_to_be(stuck: JobsMaster) -> None:
    process = running(stuck, "wait")
    stop(int(process.rpartition(":")[2]))
    assert "  it is stopped (SIGSTOP)\n" in seen(stuck)
    with stuck.begin("worker", "-p", "1") as worker:
        names = wait_until(
            lambda: (
                len(found := json.loads(stuck.dq("workers", "--json").stdout)) == 2
                and [one["name"] for one in found]
            )
        )
        stop(worker.pid)
        with stuck.connect() as client:
            [silent] = client.stacks(names[1], timeout=0.5)
        assert silent.error == "the worker did not answer within 0.5 s"
        worker.send_signal(signal.SIGCONT)
        stuck.dq("stop", "--now")


def test_a_worker_that_does_not_exist_is_named(stuck: JobsMaster) -> None:
    done = stuck.dq("stacks", "nobody:1")
    assert (done.returncode, done.stdout) == (2, "")
    assert "there is no worker 'nobody:1': there are " in done.stderr
