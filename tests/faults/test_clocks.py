"""The wall clock jumps by days, both ways, under a running master or worker: it is not asked.

A library of a few lines is loaded before the C library and moves what it says of the time of day.
(libfaketime does that as well; its version 0.9.10, which current systems have, breaks waiting in
CPython 3.11 and newer where only the wall clock is to move.)
"""

from __future__ import annotations

import mmap
import queue
import shutil
import struct
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from faults.scene import Hazards, kill
from interop.plain import ENV, Wire
from support import DQ, FaultProxy, Running, run, serving, wait_until

pytestmark = pytest.mark.slow

DAYS = 86_400
FED = ("--input", "-", "--format", "jsonl", "--batch", "1", "-q")
SOURCE = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile long long nothing, *moved = &nothing;  /* by so many seconds */

__attribute__((constructor)) static void find(void) {
    int fd = open(getenv("DQ_TEST_CLOCK"), O_RDONLY);
    moved = mmap(NULL, sizeof *moved, PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
}

int clock_gettime(clockid_t id, struct timespec *now) {
    int failed = syscall(SYS_clock_gettime, id, now);
    if (!failed && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) now->tv_sec += *moved;
    return failed;
}

int gettimeofday(struct timeval *now, void *zone) {
    struct timespec precise;
    clock_gettime(CLOCK_REALTIME, &precise);
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *now) {
    struct timespec precise;
    clock_gettime(CLOCK_REALTIME, &precise);
    if (now) *now = precise.tv_sec;
    return precise.tv_sec;
}
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that moves the clock of whoever it is loaded into."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if sys.platform != "linux" or compiler is None:
        pytest.skip("no C compiler, or no Linux, to make a library that moves the clock")
    folder = tmp_path_factory.mktemp("clock")
    (folder / "clock.c").write_text(SOURCE)
    made = run(compiler, "-shared", "-fPIC", "-o", "clock.so", "clock.c", cwd=folder)
    if made.returncode != 0:
        pytest.skip(f"the library that moves the clock cannot be made: {made.stderr}")
    return folder / "clock.so"


class Clock:
    """The wall clock of commands that run with `env`; `move` moves it, from now on."""

    def __init__(self, library: Path, file: Path) -> None:
        file.write_bytes(bytes(mmap.PAGESIZE))
        with file.open("r+b") as opened:
            self._shared = mmap.mmap(opened.fileno(), mmap.PAGESIZE)
        self.env = {"LD_PRELOAD": str(library), "DQ_TEST_CLOCK": str(file)}

    def move(self, seconds: int) -> None:
        struct.pack_into("q", self._shared, 0, seconds)

    def moves(self, pid: int) -> bool:
        """Whether it is this clock that a process sees."""
        return self.env["LD_PRELOAD"] in Path("/proc", str(pid), "maps").read_text()


@pytest.fixture
def clock(library: Path, tmp_path: Path) -> Clock:
    return Clock(library, tmp_path / "clock")


JUMPS = [10 * DAYS, -10 * DAYS, -4000 * DAYS, 4000 * DAYS, 0, -DAYS]
ROUND = 5  # inputs between two jumps


def feed(master: Running, upto: int) -> None:
    """Inputs up to this one, five of them; and wait for their records."""
    master.write("".join(f"{x}\n" for x in range(upto - ROUND, upto)))
    wait_for(master, upto)


def wait_for(master: Running, count: int) -> None:
    """Until so many records are there."""
    wait_until(lambda: master.stdout_text.count("\n") == count, message=lambda: master.printed)


@pytest.mark.parametrize("who", [("master",), ("worker",), ("master", "worker")], ids=" and ".join)
def test_jumps_time_nothing_out_and_change_no_order(
    hazards: Hazards, clock: Clock, tmp_path: Path, who: tuple[str, ...]
) -> None:
    limits = ("--timeout", "20", "--retries", "2", "--retry-delay", "1", "--unordered")
    argv = ("hazards:tells_time", *FED, *limits, "--journal", str(tmp_path / "journal"))
    place = {"cwd": hazards.folder, "stdin": subprocess.PIPE}
    envs = {name: {**hazards.env, **clock.env} if name in who else hazards.env for name in ROLES}
    with serving(*argv, **place, env=envs["master"]) as (master, port):
        argv = (*DQ, "worker", "--server", f"127.0.0.1:{port}", "-p", "1")
        with Running(*argv, cwd=hazards.folder, env=envs["worker"]) as worker:
            worker.wait_for("connected")
            running = {"master": master, "worker": worker}
            assert tuple(name for name in ROLES if clock.moves(running[name].pid)) == who
            master.write("0\n1\n2\n3\n4\n")
            wait_for(master, 4)
            clock.move(-100 * DAYS)  # while 3, which has failed, waits for its retry
            wait_for(master, 5)
            for number, jump in enumerate(JUMPS, start=2):
                clock.move(jump)
                feed(master, ROUND * number)
            master.close_stdin()
            assert [master.wait(), worker.wait()] == [0, 0], master.printed
    inputs = list(range(ROUND + ROUND * len(JUMPS)))
    history = hazards.history(inputs, master.stdout_text).check()
    order = [record["input"] for record in history.records]
    assert order == [0, 1, 2, 4, 3, *range(5, len(inputs))]
    assert history.extra == 1
    assert all(0.05 <= record["seconds"] < 10 for record in history.records)
    told = [record["result"]["clock"] for record in history.records]
    assert (max(told) - min(told) > 7000 * DAYS) == ("worker" in who)


ROLES = ("master", "worker")


@pytest.mark.parametrize("jump", [10 * DAYS, -10 * DAYS])
def test_a_task_has_the_time_that_it_has_whatever_the_clock_says(
    hazards: Hazards, clock: Clock, jump: int
) -> None:
    env = {**hazards.env, **clock.env}
    argv = hazards.command("never", ["bad", 1], "-w", "1", "--timeout", "2", "--batch", "1")
    with Running(*DQ, *argv, cwd=hazards.folder, env=env) as run:
        hazards.wait_for_executions()
        began = time.monotonic()
        clock.move(jump)
        run.wait_for("TimeoutError: ran longer than 2 s")
        assert time.monotonic() - began > 1.5
        assert run.wait() == 1, run.printed
    history = hazards.history(["bad", 1], run.stdout_text).check(failed={"bad": "TimeoutError"})
    assert history.extra == 0


@pytest.mark.parametrize("jump", [10 * DAYS, -10 * DAYS])
def test_a_plain_client_waits_as_long_as_it_asked_to(
    hazards: Hazards, clock: Clock, jump: int
) -> None:
    with (
        ThreadPoolExecutor(1) as pool,
        serving(env={**ENV, **clock.env}) as (_, port),
        Wire(port) as wire,
    ):
        began = time.monotonic()
        got = pool.submit(wire.tasks, "get", True, 2.0)
        wait_until(lambda: time.monotonic() > began + 0.3)  # by then it waits
        clock.move(jump)
        with pytest.raises(queue.Empty):
            got.result(timeout=20)
        assert time.monotonic() - began > 1.5


@pytest.mark.parametrize("jump", [10 * DAYS, -10 * DAYS])
def test_a_worker_looks_for_its_master_as_long_as_it_was_told_to(
    hazards: Hazards, clock: Clock, jump: int
) -> None:
    with (
        hazards.serving("short", [1, 2, 3]) as (master, port),
        FaultProxy(("127.0.0.1", port)) as proxy,
    ):
        proxy.refuse()
        argv = (*DQ, "worker", "--server", f"127.0.0.1:{proxy.port}", "-p", "1")
        with Running(*argv, cwd=hazards.folder, env={**hazards.env, **clock.env}) as worker:
            worker.wait_for("Trying for 60 s")
            clock.move(jump)
            proxy.accept()
            assert [master.wait(), worker.wait()] == [0, 0], worker.printed
    assert hazards.history([1, 2, 3], master.stdout_text).check().extra == 0


@pytest.mark.parametrize("jump", [100 * DAYS, -100 * DAYS])
def test_a_journal_is_gone_on_with_at_any_other_time(
    hazards: Hazards, clock: Clock, tmp_path: Path, jump: int
) -> None:
    inputs = list(range(24))
    argv = hazards.command("long", inputs, "-w", "2", "--journal", str(tmp_path / "journal"))
    how = {"cwd": hazards.folder, "env": {**hazards.env, **clock.env}}
    with Running(*DQ, *argv, **how) as run:
        run.wait_for('"id": 10,', stream="stdout")
        kill(run.pid)
        run.wait()
    done = run.stdout_text.count("\n")
    clock.move(jump)
    with Running(*DQ, *argv, **how) as again:
        assert again.wait(60) == 0, again.printed
    history = hazards.history(inputs, again.stdout_text).check()
    assert again.stdout_text.startswith(run.stdout_text[: run.stdout_text.rindex("\n") + 1])
    assert all(history.runs[x] == 1 for x in inputs[:done])
