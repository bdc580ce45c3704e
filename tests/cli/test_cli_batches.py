"""Batches: their results do not wait for their end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support import DQ, Running, python

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


# Of a batch this long a worker has a part in memory at a time.
LONG = 50_000
THIRDS = """
def f(n):
    if n in (7, 19_999, 20_000, 25_000, 49_999):
        raise ValueError(n)
    return n + 1
"""


def test_each_task_of_a_long_batch_has_its_own_outcome(folder: Path) -> None:
    (folder / "thirds.py").write_text(THIRDS)
    (folder / "numbers").write_text("".join(f"{n}\n" for n in range(LONG)))
    options = ("-w", "1", "--batch", str(LONG), "-f", "jsonl", "-q")
    with Running(*DQ, "run", "thirds:f", "--input", "numbers", *options, cwd=folder) as run:
        assert run.wait() == 1
    records = [json.loads(line) for line in run.stdout_text.splitlines()]
    assert [record["id"] for record in records] == list(range(LONG))
    failed = [record["id"] for record in records if "error" in record]
    assert failed == [7, 19_999, 20_000, 25_000, 49_999]
    assert all(record["result"] == record["id"] + 1 for record in records if "result" in record)


def test_all_that_waits_behind_a_task_of_a_long_batch_is_handed_back(folder: Path) -> None:
    code = f"""
import os, dq, app
with dq.Master(workers=2, batch={LONG}) as master:
    seen = []
    for result in master.stream("app:held", range({LONG})):
        seen.append(result.id)
        if len(seen) == {LONG} - 1:
            open("go", "w").close()
    assert seen.pop() == 10
    assert sorted(seen) == [n for n in range({LONG}) if n != 10]
"""
    (folder / "app.py").write_text(
        "import os, time\n"
        "def held(n):\n"
        "    while n == 10 and not os.path.exists('go'):\n"
        "        time.sleep(0.01)\n"
    )
    done = python(code, cwd=folder)
    assert done.returncode == 0, done.stderr
