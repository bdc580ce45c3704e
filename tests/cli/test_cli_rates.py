"""`--rate`, `--needs` and `--speculate`."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.warm import dq

APP = """
import os, time

def when(number):
    return time.monotonic()

def once_slow(number):
    time.sleep(0.02)
    if number == 7:
        try:
            os.close(os.open("begun", os.O_CREAT | os.O_EXCL))
            time.sleep(60)
        except FileExistsError:
            pass
    return number
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APP)
    return tmp_path


def test_a_rate_holds_for_all_workers_together(project: Path) -> None:
    numbers = [str(number) for number in range(21)]
    done = dq("run", "app:when", *numbers, "-w", "3", "--rate", "25/s", "-q", cwd=project)
    assert done.returncode == 0
    times = sorted(map(float, done.stdout.split()))
    assert times[-1] - times[0] > 0.75


def test_a_slow_last_task_is_run_a_second_time(project: Path) -> None:
    numbers = [str(number) for number in range(12)]
    done = dq("run", "app:once_slow", *numbers, "-w", "2", "--speculate", cwd=project)
    assert (done.returncode, done.stdout.split()) == (0, numbers)


def test_local_workers_have_the_tags_that_are_given(project: Path) -> None:
    argv = ("run", "app:once_slow", "1", "--needs", "gpu", "--tags", "gpu,eu")
    done = dq(*argv, cwd=project)
    assert (done.returncode, done.stdout) == (0, "1\n")


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("--rate", "fast"), "'fast' is not a rate: give a number above 0 with a unit, as 10/s"),
        (("--needs", "g u"), "--needs 'g u' is not a tag: give letters, digits"),
        (("--tags", "a,,b"), "--tags '' is not a tag"),
        (("--needs", ""), "--needs '' is not a tag"),
        (("--tags", ""), "--tags '' is not a tag"),
        (("--needs", "gpu,eu", "--tags", "eu"), "no worker here has gpu, which --needs asks for"),
        (("--needs", "gpu", "--dry-run"), "give --tags gpu, or --port so that workers elsewhere"),
    ],
)
def test_what_cannot_be_read_is_refused(project: Path, argv: tuple[str, ...], said: str) -> None:
    done = dq("run", "app:when", "1", *argv, cwd=project)
    assert done.returncode == 2
    assert said in done.stderr
