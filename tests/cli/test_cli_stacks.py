"""`dq stacks`: where running tasks are."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import wait_until
from support.jobs import JobsMaster

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="there only")

STUCK = """
import os, re, signal, threading, time

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
    files = [open(f"{x}.{n}.file", "w") for n in range(3)]
    for fd in range(100, 65000):
        try:
            os.dup2(files[0].fileno(), fd)
        except OSError:
            break
    wait(x)
    return [os.path.getsize(f"{x}.{n}.file") for n in range(3)]

def another_program(x):
    begun(x)
    os.execv("/bin/sleep", ["sleep", "600"])

def ignore(x):
    signal.signal(signal.SIGRTMAX - 1, signal.SIG_IGN)
    wait(x)
"""


@pytest.fixture
def stuck(tmp_path: Path) -> Iterator[JobsMaster]:
    """A master with a worker that can be stuck in several ways."""
    (tmp_path / "stuck.py").write_text(STUCK)
    with JobsMaster(tmp_path) as master:
        yield master


def running(master: JobsMaster, task: str, x: str) -> str:
    """Have a task run, and return the name of its process."""
    master.submit(f"stuck:{task}", x)
    wait_until(lambda: (master.folder / f"{x}.begun").exists())
    return process_of(master)


def process_of(master: JobsMaster) -> str:
    """The process that runs a task, as soon as its worker has said so."""

    def named() -> str | None:
        found = json.loads(master.dq("stacks", "--json").stdout)
        return next((str(one["process"]) for one in found if one["running"]), None)

    return wait_until(named)


def test_it_shows_the_calls_of_a_task_that_waits_and_leaves_it_alone(stuck: JobsMaster) -> None:
    process = running(stuck, "wait", "a")
    shown = stuck.dq("stacks").stdout
    assert re.match(rf"{process}: job 1 task 0, \d", shown)
    inner, outer = re.findall(r"stuck\.py\", line \d+ in (\w+)$", shown, re.MULTILINE)
    assert (inner, outer) == ("deeper", "wait")
    assert "dq/worker" not in shown
    assert " \n" not in shown
    (stuck.folder / "a.go").touch()
    assert stuck.dq("results", "1", "--follow").stdout == "a\n"


def test_it_shows_the_calls_of_a_task_that_never_releases_the_interpreter(
    stuck: JobsMaster,
) -> None:
    running(stuck, "backtrack", "a")
    shown = stuck.dq("stacks").stdout
    assert re.findall(r"stuck\.py\", line \d+ in (\w+)$", shown, re.MULTILINE) == ["backtrack"]
    stuck.dq("cancel", "1")


def test_it_shows_threads_that_a_task_has_started(stuck: JobsMaster) -> None:
    running(stuck, "in_thread", "a")
    shown = stuck.dq("stacks").stdout
    assert len(re.findall("hread 0x", shown)) == 2
    assert "in deeper\n" in shown
    assert "in in_thread\n" in shown
    (stuck.folder / "a.go").touch()


def test_a_task_in_c_code_only_and_an_idle_process_are_told_apart(stuck: JobsMaster) -> None:
    wait_until(lambda: re.fullmatch(r"\S+: no task\n", stuck.dq("stacks").stdout))
    stuck.submit("time:sleep", "600")
    process_of(stuck)
    shown = stuck.dq("stacks").stdout
    assert re.fullmatch(r"\S+: job 1 task 0, .+\n  in no Python code of the task\n", shown)


def test_a_file_of_the_task_that_has_dqs_descriptor_gets_nothing(stuck: JobsMaster) -> None:
    running(stuck, "close_all", "a")
    assert "closed a descriptor of dq" in stuck.dq("stacks").stdout
    (stuck.folder / "a.go").touch()
    assert stuck.dq("results", "1", "--follow").stdout == "[0, 0, 0]\n"


@pytest.mark.parametrize("task", ["another_program", "ignore"])
def test_a_process_that_does_not_handle_the_signal_gets_none(stuck: JobsMaster, task: str) -> None:
    process = running(stuck, task, "a")
    wait_until(lambda: "runs another program" in stuck.dq("stacks").stdout)
    assert Path(f"/proc/{process.rpartition(':')[2]}").exists()
    stuck.dq("cancel", "1")


def test_a_process_or_a_worker_that_is_stopped_is_said_to_be(stuck: JobsMaster) -> None:
    process = running(stuck, "wait", "a")
    os.kill(int(process.rpartition(":")[2]), signal.SIGSTOP)
    assert "  it is stopped (SIGSTOP)\n" in stuck.dq("stacks").stdout
    with stuck.begin("worker", "-p", "1") as worker:
        names = wait_until(
            lambda: (
                len(found := json.loads(stuck.dq("workers", "--json").stdout)) == 2
                and [one["name"] for one in found]
            )
        )
        worker.send_signal(signal.SIGSTOP)
        with stuck.connect() as client:
            [silent] = client.stacks(names[1], timeout=0.5)
        assert silent.error == "the worker did not answer within 0.5 s"
        worker.send_signal(signal.SIGCONT)
        stuck.dq("stop", "--now")


def test_a_worker_that_does_not_exist_is_named(stuck: JobsMaster) -> None:
    done = stuck.dq("stacks", "nobody:1")
    assert (done.returncode, done.stdout) == (2, "")
    assert "there is no dq worker 'nobody:1': there are " in done.stderr
