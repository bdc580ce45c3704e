"""`--preload`: a module that is imported once, and whose memory all processes share."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

import dq as dq_
from dq._support import platform
from support import DQ, Running, wait_until
from support.warm import dq

HEAVY = "import os\nPID = os.getpid()\nTABLE = [number * number for number in range(1000)]\n"
WORK = "import heavy, os\ndef f(x):\n    return heavy.PID == os.getpid(), heavy.TABLE[x]\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "heavy.py").write_text(HEAVY)
    (tmp_path / "work.py").write_text(WORK)
    return tmp_path


@pytest.mark.skipif(not platform.can_fork(), reason="no fork server here")
def test_a_preloaded_module_is_imported_by_none_of_the_processes(project: Path) -> None:
    argv = ("run", "work:f", "1", "2", "3", "-w", "2", "--max-tasks", "1")
    assert dq(*argv, cwd=project).stdout == "(True, 1)\n(True, 4)\n(True, 9)\n"
    shared = dq(*argv, "--preload", "heavy", cwd=project)
    assert shared.stdout == "(False, 1)\n(False, 4)\n(False, 9)\n", shared.stderr


@pytest.mark.parametrize(
    ("module", "text", "complaint"),
    [
        ("nosuch", None, "cannot preload nosuch: ModuleNotFoundError: No module named 'nosuch'"),
        ("bad", "1 / 0", "cannot preload bad: ZeroDivisionError: division by zero"),
        ("bad", "import sys; sys.exit(3)", "cannot preload bad: SystemExit: 3"),
        ("bad", "import os; os._exit(3)", "what was to be preloaded has ended the process"),
        (
            "bad",
            "import threading, time\n"
            "threading.Thread(target=time.sleep, args=(99,), daemon=True).start()",
            "it starts a thread, which forks would not have",
        ),
        ("a b", None, "--preload 'a b' is not the name of a module"),
    ],
)
def test_a_module_that_cannot_be_preloaded_ends_the_run_with_one_line(
    project: Path, module: str, text: str | None, complaint: str
) -> None:
    if text is not None:
        (project / "bad.py").write_text(text)
    done = dq("run", "work:f", "1", "-w", "1", "--preload", module, cwd=project)
    assert done.returncode == 2
    assert complaint in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr


def test_an_interrupt_does_not_wait_for_what_is_preloaded(project: Path) -> None:
    (project / "slow.py").write_text("import time\nopen('begun', 'w').close()\ntime.sleep(1000)\n")
    argv = (*DQ, "run", "work:f", "1", "-w", "1", "--preload", "slow")
    with Running(*argv, cwd=project) as run:
        wait_until(lambda: (project / "begun").exists())
        run.send_signal(signal.SIGINT)
        assert run.wait() == 130


def test_without_fork_each_process_imports_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "can_fork", lambda: False)
    with dq_.Master(workers=1, preload=["colorsys"]) as master:
        assert list(master.map(has_it, [1])) == [True]


def has_it(x: int) -> bool:
    import sys

    return "colorsys" in sys.modules


def draws(x: int) -> tuple[int, float]:
    import numpy as np

    return os.getpid(), float(np.random.random())


@pytest.mark.skipif(not platform.can_fork(), reason="no fork server here")
def test_processes_that_share_numpy_draw_different_numbers() -> None:
    with dq_.Master(workers=2, max_tasks=1, preload=["numpy"]) as master:
        drawn = dict(master.map(draws, range(6)))
    assert len(set(drawn.values())) == len(drawn) == 6
