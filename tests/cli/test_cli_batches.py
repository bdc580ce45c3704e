"""Batches: their results do not wait for their end."""

from __future__ import annotations

from pathlib import Path

import pytest

from support import DQ, Running

TASK = """
import os, time

def work(n):
    if not os.path.exists("go"):
        time.sleep(0.05)
    return n
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(TASK)
    return tmp_path


def test_results_of_a_batch_that_takes_long_come_before_its_end(folder: Path) -> None:
    inputs = [str(n) for n in range(400)]
    with Running(*DQ, "run", "app:work", *inputs, "-w", "1", "--batch", "400", cwd=folder) as run:
        run.wait_for("^0$", stream="stdout", timeout=15)  # all of it would take 20 s
        (folder / "go").touch()
        assert run.wait() == 0
    assert run.stdout_text.splitlines() == inputs


def test_a_batch_that_was_reported_on_the_way_is_run_once(folder: Path) -> None:
    (folder / "once.py").write_text(
        "import os, time\n"
        "def mark(n):\n"
        "    os.close(os.open(f'{n}.ran', os.O_CREAT | os.O_EXCL))\n"
        "    time.sleep(0.04)\n"
        "    return n\n"
    )
    inputs = [str(n) for n in range(40)]
    argv = (*DQ, "run", "once:mark", *inputs, "-w", "1", "--batch", "40")
    with Running(*argv, cwd=folder) as run:
        assert run.wait() == 0
    assert run.stdout_text.splitlines() == inputs
