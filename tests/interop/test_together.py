"""Several plain and dq workers at once on one master: everything is done, nothing twice."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from interop.plain import ENV, plain, plain_running
from support import DQ, Running, serving

COUNT = 400
PLAIN_WORKER = """
    import os
    say("ready")
    while True:
        try:
            n = tasks.get()
            while not os.path.exists({begun!r}):  # held, until dq's workers do something too
                time.sleep(0.002)
            time.sleep(0.002)
            results.put("plain %d" % n)
        except (EOFError, OSError):  # how the master's end looks to a plain client
            break
"""
TASK = """
import time
def work(n):
    open(f"{__file__}.begun", "w").close()
    time.sleep(0.002)
    return f"dq {n}"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "jobs.py").write_text(TASK)
    return tmp_path


@contextmanager
def four_workers(port: int, folder: Path) -> Iterator[list[Running]]:
    """Two plain ones and two of dq's with two processes each, all connected."""
    argv = (*DQ, "worker", "--server", f"127.0.0.1:{port}", "-p", "2")
    with ExitStack() as stack:
        ours = [stack.enter_context(Running(*argv, cwd=folder, env=ENV)) for _ in range(2)]
        code = PLAIN_WORKER.format(begun=f"{folder / 'jobs.py'}.begun")
        theirs = [stack.enter_context(plain_running(port, code)) for _ in range(2)]
        for worker in ours:
            worker.wait_for("connected")
        for worker in theirs:
            worker.wait_for("ready", stream="stdout")
        yield ours + theirs


def test_a_masters_own_inputs_are_each_done_once_and_in_order(folder: Path) -> None:
    pipe = subprocess.PIPE
    argv = ("jobs:work", "--input", "-")
    with (
        serving(*argv, cwd=folder, env=ENV, stdin=pipe) as (master, port),
        four_workers(port, folder) as workers,
    ):
        master.write("".join(f"{n}\n" for n in range(COUNT)))
        master.close_stdin()
        assert master.wait(60) == 0, master.printed
        assert [worker.wait() for worker in workers] == [0] * 4
    lines = [line.split() for line in master.stdout_text.splitlines()]
    assert [int(number) for _, number in lines] == list(range(COUNT))
    assert {who for who, _ in lines} == {"plain", "dq"}


def test_items_put_by_several_plain_clients_are_each_done_once(folder: Path) -> None:
    putter = "for n in range({}, {}): tasks.put(n)"
    collect = f"""
        for _ in range({COUNT}): print(results.get(timeout=30))
        print(raised(results.get, timeout=0.3), tasks.qsize())
    """
    with serving("jobs:work", cwd=folder, env=ENV) as (_, port), four_workers(port, folder):
        half = COUNT // 2
        with plain_running(port, putter.format(0, half)) as first:
            plain(port, putter.format(half, COUNT))
            assert first.wait() == 0, first.printed
        *lines, rest = plain(port, collect).splitlines()
    assert rest == "Empty 0"
    assert sorted(int(line.split()[1]) for line in lines) == list(range(COUNT))
    assert {line.split()[0] for line in lines} == {"plain", "dq"}


def test_own_inputs_and_plain_items_at_once_do_not_mix(folder: Path) -> None:
    inputs = [str(n) for n in range(50)]
    put_and_collect = """
        for n in range(1000, 1050): tasks.put(n)
        for _ in range(50): print(results.get(timeout=30))
    """
    pipe = subprocess.PIPE
    argv = ("jobs:work", "--input", "-")
    with serving(*argv, cwd=folder, env=ENV, stdin=pipe) as (master, port):
        worker = (*DQ, "worker", "--server", f"127.0.0.1:{port}", "-p", "2", "-q")
        with Running(*worker, "--task", "jobs:work", cwd=folder, env=ENV):
            master.write("".join(f"{n}\n" for n in inputs))
            lines = plain(port, put_and_collect).splitlines()
            master.close_stdin()
            assert master.wait() == 0, master.printed
    assert sorted(lines) == sorted(f"dq {n}" for n in range(1000, 1050))
    assert master.stdout_text.splitlines() == [f"dq {n}" for n in inputs]
