"""Commands from a process that has imported dq already are as those from one of their own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from support import dq as from_the_start
from support import wait_until
from support.procfs import HAS_PROC, alive
from support.warm import dq

WORK = """
import os, sys, time

def show(x):
    print(sys.argv[1:], os.getcwd(), os.environ.get("DQ_SEEN"), sys.path[0], file=sys.stderr)
    return x

def read(x):
    return [x, sys.stdin.read(), os.isatty(0)]

def hang(folder):
    with open(folder + "/pid", "w") as file:
        file.write(str(os.getpid()))
    time.sleep(600)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "work.py").write_text(WORK)
    return tmp_path


@pytest.mark.parametrize(
    "args",
    [
        ("run", "work:show", "1", "2", "--here"),
        ("run", "work:read", "1", "--here"),
        ("run", "work:nothing", "1"),
        ("run", "work:show", "a", "-w", "1", "-q"),
        ("--version",),
        ("rum",),
    ],
)
def test_it_prints_and_ends_as_from_the_start(folder: Path, args: tuple[str, ...]) -> None:
    options = {"cwd": folder, "env": {"DQ_SEEN": "yes"}}
    warm, cold = dq(*args, **options), from_the_start(*args, **options)
    assert (warm.returncode, warm.stdout) == (cold.returncode, cold.stdout)
    assert warm.stderr == cold.stderr


def test_it_reads_what_it_is_given(folder: Path) -> None:
    lines = "".join(f"{n}\n" for n in range(15_000))  # more than a pipe holds
    done = dq("run", "builtins:str", "-i", "-", "--here", input=lines)
    assert (done.returncode, done.stdout) == (0, lines)


def test_one_that_an_interpreter_would_start_otherwise_has_an_interpreter(folder: Path) -> None:
    (folder / "own").mkdir()
    (folder / "own" / "mine.py").write_text("def f(x):\n    return x\n")
    done = dq("run", "mine:f", "1", "-w", "1", env={"PYTHONPATH": str(folder / "own")})
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr


@pytest.mark.skipif(not HAS_PROC, reason="there is no /proc here")
def test_one_that_takes_too_long_is_ended_with_all_that_it_started(folder: Path) -> None:
    with pytest.raises(AssertionError, match="still running after 3 s"):
        dq("run", "work:hang", os.fspath(folder), "-w", "1", cwd=folder, timeout=3)
    if (folder / "pid").exists():
        task = int((folder / "pid").read_text())
        wait_until(lambda: not alive(task))
