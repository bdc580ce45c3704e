"""`dq.Executor` with a `server`: calls that the workers of a master elsewhere run."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dq
import dq.service.calls
import dq.service.client_calls
from dq.master import call_taker
from support import Running, free_port, python, wait_until
from support.jobs import KEY, KeepingMaster, keeping_jobs
from support.procfs import alive
from tasks.executor_server import Point, double, write_pid_and_sleep

PATIENCE = 30.0


@pytest.fixture
def client() -> Iterator[dq.Client]:
    with keeping_jobs(workers=2) as found:
        yield found


@pytest.fixture
def pool(client: dq.Client) -> Iterator[dq.Executor]:
    with executor(client) as pool:
        yield pool


@contextmanager
def executor(client: dq.Client, **options: Any) -> Iterator[dq.Executor]:
    host, port = client._connection.address
    with dq.Executor(server=f"{host}:{port}", authkey=KEY, **options) as pool:
        yield pool


def pid_in(path: Path) -> int:
    wait_until(path.exists, PATIENCE)
    return int(path.read_text())


def test_calls_have_their_results(pool: dq.Executor) -> None:
    calls = [pool.submit(pow, n, 2) for n in range(300)]
    assert [call.result(PATIENCE) for call in calls] == [n * n for n in range(300)]
    assert pool.submit(int, "ff", base=16).result(PATIENCE) == 255


def test_map_has_the_values_in_order(pool: dq.Executor) -> None:
    assert list(pool.map(double, range(5000), chunksize=100)) == [*range(0, 10_000, 2)]
    assert list(pool.map(pow, range(50), range(50), buffersize=3)) == [n**n for n in range(50)]


def test_functions_and_classes_by_value_go_along(pool: dq.Executor) -> None:
    table = bytes(range(256)) * 100
    functions = [lambda n=n: (n, len(table)) for n in range(10)]
    calls = [pool.submit(function) for function in functions * 2]
    assert [call.result(PATIENCE) for call in calls] == [(n, 25600) for n in range(10)] * 2

    class Here:
        def __init__(self, x: int) -> None:
            self.x = x

    def moved(at: Any) -> Any:
        return type(at)(at.x + 1)

    for kind in (Here, Point):
        found = [pool.submit(moved, kind(n)).result(PATIENCE) for n in range(3)]
        assert [type(at) for at in found] == [kind] * 3
        assert [at.x for at in found] == [1, 2, 3]


def test_a_class_that_has_changed_is_sent_again(client: dq.Client) -> None:
    host, port = client._connection.address
    code = f"""
import dq
class Here:
    factor = 1
def scaled(at):
    return 10 * at.factor
with dq.Executor(server="{host}", port={port}, authkey={KEY!r}) as pool:
    for Here.factor in range(1, 5):
        print(pool.submit(scaled, Here()).result())
"""
    done = python(code)
    assert done.stdout == "10\n20\n30\n40\n", done.stderr


def test_the_master_keeps_a_function_only_as_long_as_a_call_needs_it(
    client: dq.Client, pool: dq.Executor
) -> None:
    table = bytes(10_000)
    assert pool.submit(lambda: len(table)).result(PATIENCE) == 10_000
    calls = pool._pool._host._calls
    wait_until(lambda: pool.submit(abs, -1).result(PATIENCE) and not calls._sender._sent_functions)


def test_arrays_and_large_values_come_back(pool: dq.Executor) -> None:
    array = np.arange(300_000.0)
    assert np.array_equal(pool.submit(np.negative, array).result(PATIENCE), -array)
    weights = np.ones(300_000)
    assert pool.submit(lambda: float(weights.sum())).result(PATIENCE) == 300_000.0
    assert pool.submit(bytes.upper, bytes(3_000_000)).result(PATIENCE) == bytes(3_000_000)


def test_exceptions_are_raised_as_they_are(pool: dq.Executor) -> None:
    class Own(Exception):
        pass

    def fail(text: str) -> None:
        raise Own(text)

    error = pool.submit(fail, "no such day").exception(PATIENCE)
    assert type(error) is Own
    assert "in fail" in str(error.__cause__)
    with pytest.raises(dq.TaskError, match="SystemExit"):
        pool.submit(exec, "raise SystemExit(3)").result(PATIENCE)
    with pytest.raises(ZeroDivisionError):
        list(pool.map(divmod, [1, 2], [1, 0]))


def test_what_cannot_be_sent_fails_that_call_alone(
    pool: dq.Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(dq.TaskError, match="cannot be pickled"):
        pool.submit(len, threading.Lock()).result(PATIENCE)  # type: ignore[arg-type]
    monkeypatch.setattr(pool._pool._host._calls, "_limit", 1000)
    with pytest.raises(dq.TaskError, match="InputTooLarge"):
        pool.submit(len, bytes(2000)).result(PATIENCE)
    assert pool.submit(abs, -2).result(PATIENCE) == 2


def test_a_callback_may_submit_another_call(pool: dq.Executor) -> None:
    second: Future[Future[int]] = Future()
    first = pool.submit(abs, -1)
    first.add_done_callback(lambda done: second.set_result(pool.submit(abs, -1 - done.result())))
    assert second.result(PATIENCE).result(PATIENCE) == 2


def test_a_call_that_runs_is_seen_to_run_and_can_be_cancelled(
    pool: dq.Executor, tmp_path: Path
) -> None:
    call = pool.submit(write_pid_and_sleep, tmp_path / "pid")
    pid = pid_in(tmp_path / "pid")
    wait_until(call.running, PATIENCE)
    assert call.cancel()
    with pytest.raises(CancelledError):
        call.result(PATIENCE)
    wait_until(lambda: not alive(pid), PATIENCE)
    assert pool.submit(abs, -3).result(PATIENCE) == 3


def test_a_call_that_waits_can_be_cancelled_and_is_not_run(
    pool: dq.Executor, tmp_path: Path
) -> None:
    busy = [pool.submit(write_pid_and_sleep, tmp_path / str(n)) for n in range(2)]
    pids = [pid_in(tmp_path / str(n)) for n in range(2)]
    late = [pool.submit(Path.touch, tmp_path / f"late {n}") for n in range(20)]
    assert all(call.cancel() for call in late)
    assert all(call.cancel() for call in busy)
    wait_until(lambda: not any(map(alive, pids)), PATIENCE)
    assert pool.submit(abs, -3).result(PATIENCE) == 3
    assert not list(tmp_path.glob("late*"))


def test_several_executors_run_beside_jobs(client: dq.Client) -> None:
    found: dict[int, list[int]] = {}

    def run(n: int) -> None:
        with executor(client) as pool:
            found[n] = list(pool.map(pow, range(200), [n] * 200))

    threads = [threading.Thread(target=run, args=(n,)) for n in range(1, 5)]
    for thread in threads:
        thread.start()
    job = client.submit(double, range(500))
    assert list(job.values()) == [*range(0, 1000, 2)]
    for thread in threads:
        thread.join(PATIENCE)
    assert found == {n: [x**n for x in range(200)] for n in range(1, 5)}
    job.forget()


def test_a_master_without_room_gets_the_calls_bit_by_bit(
    client: dq.Client, pool: dq.Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dq.service.client_calls, "MOST_WAITING_BYTES", 20_000)
    calls = [pool.submit(len, bytes(3000)) for _ in range(60)]
    late = calls[30]
    assert [call.result(PATIENCE) for call in calls if call is not late] == [3000] * 59
    assert late.result(PATIENCE) == 3000


def test_options_of_tasks_apply_to_each_call(client: dq.Client, tmp_path: Path) -> None:
    with executor(client, retries=2, timeout=600.0) as pool:
        path = str(tmp_path / "tries")

        def third() -> int:
            with open(path, "a") as file:
                file.write("x")
            if os.path.getsize(path) < 3:
                raise ValueError("not yet")
            return 3

        assert pool.submit(third).result(PATIENCE) == 3


def test_too_many_failures_end_it(client: dq.Client) -> None:
    with executor(client, max_failures=2) as pool:
        calls = [pool.submit(divmod, 1, 0) for _ in range(2)]
        for call in calls:
            assert call.exception(PATIENCE) is not None
        wait_until(lambda: refuses(pool, dq.Stopped), PATIENCE)


def refuses(pool: dq.Executor, kind: type[Exception]) -> bool:
    """Whether it takes no more calls, for such a reason."""
    try:
        pool.submit(abs, -1)
    except kind:
        return True
    return False


def test_the_initializer_is_called_first_and_breaks_the_executor_if_it_fails(
    client: dq.Client,
) -> None:
    def prepare(value: int) -> None:
        os.environ["PREPARED"] = str(value)

    with executor(client, initializer=prepare, initargs=(7,)) as pool:
        assert pool.submit(os.getenv, "PREPARED").result(PATIENCE) == "7"

    def fail() -> None:
        raise ValueError("not here")

    with executor(client, initializer=fail) as pool:
        with pytest.raises(BrokenProcessPool, match="not here"):
            pool.submit(abs, -1).result(PATIENCE)
        with pytest.raises(BrokenProcessPool):
            pool.submit(abs, -1)
    with executor(client) as pool:
        assert pool.submit(abs, -1).result(PATIENCE) == 1


@pytest.mark.parametrize(
    "options",
    [
        {"max_workers": 2},
        {"max_tasks_per_child": 3},
        {"threads": 2},
        {"max_memory": 1 << 30},
        {"preload": ["math"]},
        {"host": "127.0.0.1"},
        {"max_message": 1000},
    ],
    ids=lambda options: next(iter(options)),
)
def test_options_of_processes_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="with a server"):
        dq.Executor(server="127.0.0.1:9", authkey=KEY, **options)


def test_without_a_master_or_its_key_there_is_no_executor(client: dq.Client) -> None:
    with pytest.raises(dq.ConnectError):
        dq.Executor(server="127.0.0.1", port=free_port(), authkey=KEY)
    host, port = client._connection.address
    with pytest.raises(dq.AuthenticationFailed):
        dq.Executor(server=f"{host}:{port}", authkey="another")
    with (
        dq.Master(host="127.0.0.1", port=0, authkey=KEY) as other,
        pytest.raises(dq.ProtocolError, match="keeps no jobs"),
    ):
        dq.Executor(server="127.0.0.1", port=int(other.address[1]), authkey=KEY)


def test_nobody_to_run_the_calls_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call_taker, "NO_WORKER_NOTICE_S", 0.0)
    monkeypatch.setattr(call_taker, "WAIT_S", 0.05)
    lines: list[str] = []
    with keeping_jobs(workers=0) as client, executor(client, report=lines.append) as pool:
        call = pool.submit(abs, -1)
        wait_until(lambda: lines, PATIENCE)
        time.sleep(0.2)
        assert [line for line in lines if "no worker is connected" in line] == lines
        assert len(lines) == 1
        assert call.cancel()


def test_a_client_that_is_gone_has_its_calls_ended(
    client: dq.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, port = client._connection.address
    code = f"""
import time, dq
def sleep():
    import os, time
    open({str(tmp_path / "new")!r}, "w").write(str(os.getpid()))
    os.rename({str(tmp_path / "new")!r}, {str(tmp_path / "pid")!r})
    time.sleep(1000)
with dq.Executor(server="{host}", port={port}, authkey={KEY!r}) as pool:
    calls = [pool.submit(sleep) for _ in range(10)]
    time.sleep(1000)
"""
    with Running(*python_argv(code)) as running:
        pid = pid_in(tmp_path / "pid")
        monkeypatch.setattr(dq.service.calls, "CLIENT_TIMEOUT_S", 0.5)
        assert alive(pid)
        os.kill(running.process.pid, signal.SIGKILL)
        wait_until(lambda: not alive(pid), PATIENCE)
    job = client.submit(double, [1])
    assert list(job.values()) == [2]


def python_argv(code: str) -> list[str]:
    import sys

    return [sys.executable, "-c", code]


def test_a_program_that_ends_has_its_calls_run_first(client: dq.Client, tmp_path: Path) -> None:
    host, port = client._connection.address
    code = f"""
import dq, pathlib
pool = dq.Executor(server="{host}", port={port}, authkey={KEY!r})
for n in range(20):
    pool.submit(pathlib.Path.touch, pathlib.Path({str(tmp_path)!r}, str(n)))
"""
    done = python(code)
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.iterdir())) == 20


def test_an_executor_that_is_dropped_has_its_calls_run(client: dq.Client) -> None:
    host, port = client._connection.address
    pool = dq.Executor(server=f"{host}:{port}", authkey=KEY)
    calls = [pool.submit(abs, -n) for n in range(20)]
    threads = pool._pool._host._calls._threads
    del pool
    assert [call.result(PATIENCE) for call in calls] == [*range(20)]
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_has_calls_of_its_own(client: dq.Client, tmp_path: Path) -> None:
    host, port = client._connection.address
    code = f"""
import os, dq
with dq.Executor(server="{host}", port={port}, authkey={KEY!r}) as pool:
    first = pool.submit(abs, -1)
    assert first.result() == 1
    child = os.fork()
    assert pool.submit(abs, -2).result() == 2
    if not child:
        pool.shutdown()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert pool.submit(abs, -3).result() == 3
    print("well")
"""
    done = python(code)
    assert done.stdout == "well\n", done.stderr


SQUARE = """
import os, time
def square(x):
    fd = os.open("log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(fd, b"%d\\n" % x)
    os.close(fd)
    time.sleep(0.002)
    return x * x
"""


def test_calls_outlive_a_master_that_is_killed_and_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "logged_squares.py").write_text(SQUARE)
    monkeypatch.syspath_prepend(tmp_path)
    square: Callable[[int], int] = __import__("logged_squares").square
    lines: list[str] = []
    port = free_port()
    with (
        KeepingMaster(tmp_path, port, workers=2) as master,
        dq.Executor(server="127.0.0.1", port=port, authkey=KEY, report=lines.append) as pool,
    ):
        offset = bytes(10_000)
        calls = [pool.submit(square, n) for n in range(400)]
        by_value = [pool.submit(lambda n=n: n + len(offset)) for n in range(20)]
        calls[40].result(PATIENCE)
        master.kill()
        late = [pool.submit(square, n) for n in range(400, 420)]
        cancelled = calls[399].cancel()
        master.start()
        wanted = calls[:399] if cancelled else calls
        assert [c.result(PATIENCE) for c in wanted + late] == [
            n * n for n in [*range(len(wanted)), *range(400, 420)]
        ]
        assert [c.result(PATIENCE) for c in by_value] == [n + 10_000 for n in range(20)]
        assert any("made again" in line for line in lines)


def test_a_master_that_does_not_come_back_fails_the_calls(tmp_path: Path) -> None:
    port = free_port()
    with (
        KeepingMaster(tmp_path, port, workers=1) as master,
        dq.Executor(server="127.0.0.1", port=port, authkey=KEY, patience=0.2) as pool,
    ):
        assert pool.submit(abs, -1).result(PATIENCE) == 1
        call = pool.submit(time.sleep, 1000)
        wait_until(call.running, PATIENCE)
        master.kill()
        with pytest.raises(dq.MasterLost):
            call.result(PATIENCE)
        with pytest.raises(dq.MasterLost):
            pool.submit(abs, -1)
