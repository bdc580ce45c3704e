"""The connections between an executor and its server, cut at any moment."""

from __future__ import annotations

import os
import random
import threading
from pathlib import Path

import dq
from support.jobs import KEY, keeping_jobs
from support.proxy import FaultProxy

PATIENCE = 60.0


def log(path: str, x: int) -> int:
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(fd, b"%d\n" % x)
    os.close(fd)
    return x * x


def test_links_that_break_cost_no_call_and_repeat_none(tmp_path: Path) -> None:
    rng = random.Random(1)
    path = str(tmp_path / "log")
    is_over = threading.Event()
    with keeping_jobs(workers=2) as client, FaultProxy(client._connection.address) as proxy:

        def break_links() -> None:
            for _ in range(40):
                if is_over.wait(0.02):
                    return
                if rng.random() < 0.3:
                    proxy.reset()
                else:
                    proxy.cut_after(rng.randint(0, 3000), rng.choice(["up", "down"]))
            proxy.heal()

        breaking = threading.Thread(target=break_links)
        with dq.Executor(server="127.0.0.1", port=proxy.port, authkey=KEY) as pool:
            breaking.start()
            try:
                offsets = bytes(6000)
                calls = [pool.submit(log, path, n) for n in range(300)]
                by_value = [pool.submit(lambda n=n: n + len(offsets)) for n in range(30)]
                found = [call.result(PATIENCE) for call in calls]
                found_by_value = [call.result(PATIENCE) for call in by_value]
            finally:
                is_over.set()
                breaking.join()
    assert found == [n * n for n in range(300)]
    assert found_by_value == [n + 6000 for n in range(30)]
    assert sorted(map(int, Path(path).read_text().split())) == [*range(300)]
