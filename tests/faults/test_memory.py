"""Memory runs out for a task, which is told so or killed by the kernel: it alone is charged, and
whoever it shared a process or a machine with goes on."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from faults.history import History
from faults.scene import Hazards
from support import DQ, Running, run, wait_until

INPUTS = [*range(10), "bad", *range(11, 30)]
ONE_BATCH = ("-w", "1", "--batch", "30")
BYTES = 150 * 2**20  # a supervisor and two task processes have 80 MB together
#: In a control group of version 1, of version 2: without a way out by swapping.
LIMITS = {
    "memory.limit_in_bytes": BYTES,
    "memory.memsw.limit_in_bytes": BYTES,
    "memory.max": BYTES,
    "memory.swap.max": 0,
}

_numbers = itertools.count(1)


@pytest.mark.sampled(1)
@pytest.mark.parametrize("task", ["takes_too_much", "takes_all_memory", "hog", "gives_too_much"])
def test_a_task_that_is_refused_memory_is_one_failed_record(hazards: Hazards, task: str) -> None:
    limit = ("--init", "hazards:limit_memory")
    history = hazards.run(task, INPUTS, *ONE_BATCH, *limit, code=1)
    history.check(failed={"bad": "MemoryError"})
    assert history.extra == 0
    assert len(history.pids) == 1  # the process lives


def own_group() -> Path:
    """This process's control group: the one for memory, or the one for everything."""
    found = {}
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        found[controllers] = path.lstrip("/")
    if "memory" in found:
        return Path("/sys/fs/cgroup/memory", found["memory"])
    return Path("/sys/fs/cgroup", found.get("", ""))


def make_group() -> Path | None:
    """A group with limited memory, in this process's own or beside it: in version 2, a group that
    has processes can share out nothing."""
    for parent in (own_group(), own_group().parent):
        group = parent / f"dq-test-{os.getpid()}-{next(_numbers)}"
        try:
            group.mkdir()
        except OSError:
            continue
        if set_limits(group):
            return group
        group.rmdir()
    return None


def set_limits(group: Path) -> bool:
    there = {name: limit for name, limit in LIMITS.items() if (group / name).exists()}
    for name, limit in there.items():
        (group / name).write_text(str(limit))
    return bool(there)


@pytest.fixture
def group() -> Iterator[Path]:
    """A control group whose processes may have `BYTES` together; the kernel kills the largest."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("only root, on Linux, can make a control group")
    made = make_group()
    if made is None:
        pytest.skip("no control group for memory can be made here")
    try:
        yield made
    finally:
        wait_until(lambda: not (made / "cgroup.procs").read_text(), 10, message="it is not empty")
        made.rmdir()


def kills(group: Path) -> int:
    """How many processes of a group the kernel has killed for want of memory."""
    for name in ("memory.oom_control", "memory.events"):
        if (group / name).exists():
            counts = dict(line.split() for line in (group / name).read_text().splitlines())
            return int(counts["oom_kill"])
    raise AssertionError(f"{group} counts no kills")


def within(group: Path, *argv: str) -> list[str]:
    """The argument list of a command that runs in a group."""
    return ["sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$0" "$@"', *argv]


def check(history: History, group: Path) -> None:
    """Two processes were killed, and nobody but the one task was charged."""
    history.check(failed={"bad": "WorkerDied"})
    assert "SIGKILL" in history.record("bad")["error"]["message"]
    assert history.runs["bad"] == history.record("bad")["attempts"] == kills(group) == 2
    assert {record["attempts"] for record in history.records if "result" in record} == {1}


def test_the_kernel_kills_a_hog_in_a_run_and_the_rest_of_it_goes_on(
    hazards: Hazards, group: Path
) -> None:
    argv = hazards.command("hog", INPUTS, "-w", "2", "--max-deaths", "2")
    done = run(*within(group, *DQ, *argv), cwd=hazards.folder, env=hazards.env)
    assert done.returncode == 1, done.stderr
    assert done.stderr.count("was killed by SIGKILL; replacing it") == 2
    check(hazards.history(INPUTS, done.stdout), group)


def test_the_kernel_kills_a_hog_in_a_worker_and_the_rest_of_it_goes_on(
    hazards: Hazards, group: Path
) -> None:
    with hazards.serving("hog", INPUTS, "--max-deaths", "2") as (master, port):
        argv = within(group, *DQ, "worker", "--server", f"127.0.0.1:{port}", "-p", "2")
        with Running(*argv, cwd=hazards.folder, env=hazards.env) as worker:
            assert [master.wait(), worker.wait()] == [1, 0], worker.printed
    assert worker.stderr_text.count("was killed by SIGKILL; replacing it") == 2
    check(hazards.history(INPUTS, master.stdout_text), group)


def test_the_kernel_kills_a_hog_where_only_task_processes_are_limited(
    hazards: Hazards, group: Path
) -> None:
    argv = hazards.command("hog", INPUTS, "-w", "2", "--max-deaths", "2")
    env = {**hazards.env, "DQ_TEST_GROUP": str(group)}
    done = run(*DQ, *argv, "--init", "hazards:enter_group", cwd=hazards.folder, env=env)
    assert done.returncode == 1, done.stderr
    check(hazards.history(INPUTS, done.stdout), group)
