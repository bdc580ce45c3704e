"""`dq bench`: what it measures, and that it disturbs nobody."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from dq import QueueManager
from support import DQ, ROOT, Running, serving
from support.warm import dq

pytestmark = pytest.mark.slow

KEY = "a key for the bench alone"
ENV = {"DQ_AUTHKEY": KEY}


def figures(text: str) -> dict[str, float]:
    return {line["what"]: line["value"] for line in map(json.loads, text.splitlines())}


def connected(port: int) -> QueueManager:
    manager = QueueManager(("127.0.0.1", port), authkey=KEY.encode())
    manager.connect()
    return manager


def test_it_measures_this_machine() -> None:
    done = dq("bench", "-w", "1", "--format", "jsonl", timeout=60)
    assert done.returncode == 0, done.stderr
    found = figures(done.stdout)
    assert found["no-op tasks"] > 1
    assert found["one task, there and back, p50"] <= found["one task, there and back, p99"]
    assert {"start, to the first result", "bytes to workers", "bytes from workers"} <= set(found)


def test_its_table_is_as_in_the_how_to() -> None:
    page = (ROOT / "docs" / "how-to.md").read_text(encoding="utf-8")
    shown = page.partition("$ dq bench -w 1\n")[2].partition("```")[0]
    pattern = re.escape(shown).replace(r"\.\.\.", ".+")
    assert re.fullmatch(pattern, dq("bench", "-w", "1").stdout)


def test_it_measures_the_way_to_a_master() -> None:
    with serving(env=ENV) as (_, port):
        done = dq("bench", "--server", f"127.0.0.1:{port}", "-f", "jsonl", env=ENV)
    assert done.returncode == 0, done.stderr
    found = figures(done.stdout)
    assert {"worker, an exchange, p50", "plain client, a call (qsize), p50"} <= set(found)
    assert found["bytes to the master"] > 0 < found["bytes from the master"]


def test_a_masters_queues_are_as_they_were_before() -> None:
    with serving(env=ENV) as (_, port):
        manager = connected(port)
        tasks, results = manager.get_task_queue(), manager.get_result_queue()
        for n in range(3):
            tasks.put(n)
        results.put("a result")
        done = dq("bench", "--server", f"127.0.0.1:{port}", env=ENV)
        assert "0 task slot(s) connected, 0 batch(es) out, 3 item(s) wait" in done.stdout
        assert [tasks.get() for _ in range(3)] == [0, 1, 2]
        assert results.get() == "a result"


def test_it_says_that_others_use_the_master() -> None:
    with serving(env=ENV) as (_, port):
        connected(port).get_task_queue().put(1)
        done = dq("bench", "--server", f"127.0.0.1:{port}", env=ENV)
    assert "dq: others are using this master" in done.stderr


def test_a_plain_manager_is_measured_as_far_as_it_goes(tmp_path: Path) -> None:
    (tmp_path / "plain.py").write_text(
        "import queue\n"
        "from multiprocessing.managers import BaseManager\n"
        "tasks, results = queue.Queue(), queue.Queue()\n"
        "class Manager(BaseManager): pass\n"
        "Manager.register('get_task_queue', callable=lambda: tasks)\n"
        "Manager.register('get_result_queue', callable=lambda: results)\n"
        f"server = Manager(('127.0.0.1', 0), {KEY.encode()!r}).get_server()\n"
        "print(server.address[1], flush=True)\n"
        "server.serve_forever()\n"
    )
    with Running(DQ[0], "plain.py", cwd=tmp_path) as master:
        port = master.wait_for(r"^(\d+)$", stream="stdout")[1]
        done = dq("bench", "--server", f"127.0.0.1:{port}", "-f", "jsonl", env=ENV)
    assert done.returncode == 0, done.stderr
    assert "plain client, a call (qsize), p50" in figures(done.stdout)


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        (["--server", "127.0.0.1:1"], 3, "nobody listens at 127.0.0.1:1"),
        (["--server", "127.0.0.1:1", "-w", "2"], 2, "leave it out with --server"),
        (["--server", "host:no"], 2, "is not HOST or HOST:PORT"),
    ],
)
def test_what_it_cannot_measure_is_one_line(argv: list[str], code: int, words: str) -> None:
    done = dq("bench", *argv, env=ENV)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith("dq: ")
    assert words in done.stderr
