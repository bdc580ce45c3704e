"""What a Master in one process leaves there: nothing."""

from __future__ import annotations

import sys

import pytest

from faults.scene import Hazards
from support import run

pytestmark = pytest.mark.slow

COUNT = """
import gc, glob, os, pathlib, tempfile, threading, time
import dq

def seen():
    gc.collect()
    children = pathlib.Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    folders = glob.glob(os.path.join(tempfile.gettempdir(), "dq-*"))
    threads = sorted(thread.name for thread in threading.enumerate())
    return len(os.listdir("/proc/self/fd")), threads, children, folders

def settled(before):
    until = time.monotonic() + 10
    while (after := seen()) != before and time.monotonic() < until:
        time.sleep(0.02)
    assert after == before, f"before {before}, after {after}"

def baseline():
    until = time.monotonic() + 10
    while (threading.active_count() > 1) and time.monotonic() < until:
        time.sleep(0.02)
    assert threading.active_count() == 1, threading.enumerate()
    return seen()
"""

USES = {
    "map": "assert dq.run('math:sqrt', [1, 4], workers=2) == [1, 2]",
    "port": """
with dq.Master(host="127.0.0.1", port=0, authkey=b"k" * 16, workers=1) as master:
    assert list(master.map("math:sqrt", iter([1, 4]))) == [1, 2]
""",
    "abandoned": """
with dq.Master(workers=1) as master:
    values = master.map("math:sqrt", iter(range(100_000)))
    next(values)
    del values
""",
    "raised": """
try:
    with dq.Master(workers=1) as master:
        next(master.map("math:sqrt", iter(range(100_000))))
        raise LookupError
except LookupError:
    pass
""",
    "failed": """
try:
    dq.run("math:sqrt", [1, -1, 4], workers=1)
except ValueError:
    pass
""",
    "deaths": """
assert isinstance(dq.run("hazards:by_sigkill", ["bad"], workers=2, return_exceptions=True)[0],
                  dq.TaskError)
""",
    "infinite": """
import itertools
with dq.Master(workers=1) as master:
    next(master.map("math:sqrt", itertools.count()))
""",
    "unused": """
with dq.Master(workers=1) as master:
    pass
""",
}


def strict(hazards: Hazards, code: str) -> str:
    """Run with every warning an error, and return what that printed."""
    env = {**hazards.env, "TMPDIR": str(hazards.folder)}
    argv = [sys.executable, "-X", "dev", "-W", "error", "-c", f"{COUNT}\n{code}"]
    done = run(*argv, env=env, cwd=hazards.folder)
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.mark.parametrize("use", USES)
def test_descriptors_threads_processes_and_files_are_the_same_after_a_master(
    hazards: Hazards, use: str
) -> None:
    said = strict(hazards, f"{USES[use]}\nbefore = baseline()\n{USES[use]}\nsettled(before)\n")
    for line in said.splitlines():  # what destructors warn of is no error, but printed
        assert use == "deaths", said
        assert "SIGKILL; replacing it" in line


@pytest.mark.parametrize("use", ["map", "port", "raised"])
def test_many_masters_one_after_the_other_leave_no_more_than_one(
    hazards: Hazards, use: str
) -> None:
    indented = USES[use].strip().replace("\n", "\n    ")
    loop = f"for _ in range(5):\n    {indented}\n"
    assert strict(hazards, f"{USES[use]}\nbefore = baseline()\n{loop}settled(before)\n") == ""


def test_a_command_with_every_warning_an_error_prints_results_only(hazards: Hazards) -> None:
    argv = [sys.executable, "-X", "dev", "-W", "error", "-m", "dq"]
    command = hazards.command("short", [1, 2, 3], "-w", "2")
    done = run(*argv, *command, env=hazards.env, cwd=hazards.folder)
    assert (done.returncode, done.stderr) == (0, "")
    hazards.history([1, 2, 3], done.stdout).check()


def test_a_worker_with_every_warning_an_error_says_nothing_more(hazards: Hazards) -> None:
    argv = [sys.executable, "-X", "dev", "-W", "error", "-m", "dq", "worker", "-p", "2", "-q"]
    with hazards.serving("short", list(range(50))) as (master, port):
        done = run(*argv, "--server", f"127.0.0.1:{port}", env=hazards.env, cwd=hazards.folder)
        assert (done.returncode, done.stderr) == (0, "")
        assert master.wait() == 0
