"""`dq.Executor` where it is to be what `ProcessPoolExecutor` is."""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future, as_completed, wait
from concurrent.futures import TimeoutError as FutureTimeout  # another one in Python 3.10
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pytest

import dq
from dq.dispatch import death_reports
from support import python, script, wait_until
from tasks.executor_pool import Interrupting, Leaving, fail, fail_twice, hold, inverse, write

PATIENCE = 30.0


@pytest.fixture
def pool() -> Iterator[dq.Executor]:
    with dq.Executor(max_workers=2) as pool:
        yield pool


@pytest.fixture
def held(tmp_path: Path) -> Iterator[tuple[dq.Executor, Future[None], Path]]:
    """An executor whose only process is in a call, until the file ``go`` is there."""
    with dq.Executor(max_workers=1) as pool:
        first = pool.submit(hold, tmp_path)
        wait_until((tmp_path / "held").exists, PATIENCE)
        yield pool, first, tmp_path
        (tmp_path / "go").touch()


# The end of the program

LEFT = """
import atexit, os, sys, time, dq
def work(n):
    time.sleep(0.02)
    os.close(os.open(f"{n}.done", os.O_CREAT))
def late():
    try:
        pool.submit(abs, -1)
    except RuntimeError as error:
        print(error)
    print(len([name for name in os.listdir() if name.endswith(".done")]))
atexit.register(late)
pool = dq.Executor(2)
calls = [pool.submit(work, n) for n in range(10)]
"""


@pytest.mark.parametrize("more", ["", "pool.shutdown(wait=False)\n"], ids=["left", "shut down"])
def test_what_was_submitted_is_run_before_the_program_ends(tmp_path: Path, more: str) -> None:
    (tmp_path / "work.py").write_text(LEFT + more)
    done = script(tmp_path / "work.py", cwd=tmp_path)
    said = "cannot schedule new futures after interpreter shutdown"
    assert (done.stdout, done.returncode) == (f"{said}\n10\n", 0), done.stderr


def test_an_executor_that_nobody_keeps_runs_its_calls_and_leaves_nothing(tmp_path: Path) -> None:
    before = {*threading.enumerate()}
    calls = [dq.Executor(1).submit(Path.touch, tmp_path / str(n)) for n in range(3)]
    gc.collect()
    assert not wait(calls, PATIENCE).not_done
    assert len(list(tmp_path.iterdir())) == 3
    wait_until(lambda: {*threading.enumerate()} <= before, PATIENCE)


def test_an_executor_on_a_given_master_leaves_that_alone() -> None:
    with dq.Master(workers=1) as master:
        calls = [dq.Executor(master=master).submit(abs, -n) for n in range(3)]
        gc.collect()
        assert [call.result(PATIENCE) for call in calls] == [0, 1, 2]
        wait_until(lambda: len(master.runtime.dispatcher.served_jobs) == 1, PATIENCE)  # plain
        assert list(master.map(abs, [-1])) == [1]


# One queue


def test_calls_of_several_functions_are_made_in_the_order_of_submission(
    held: tuple[dq.Executor, Future[None], Path],
) -> None:
    pool, _, folder = held
    log = folder / "log"
    calls = [
        pool.submit(write, log, n) if n % 3 else pool.submit(lambda n=n: write(log, n))
        for n in range(12)
    ]
    (folder / "go").touch()
    assert not wait(calls, PATIENCE).not_done
    assert log.read_text().split() == [str(n) for n in range(12)]


def test_a_large_function_is_fetched_and_kept_only_as_long_as_a_call_needs_it(
    pool: dq.Executor,
) -> None:
    table = bytes(range(256)) * 100
    numbered = [lambda n=n: (n, len(table)) for n in range(20)]
    calls = [pool.submit(function) for function in numbered * 2]
    assert [call.result(PATIENCE) for call in calls] == [(n, 25600) for n in range(20)] * 2
    [job] = [served for served in _served(pool) if served.spec.unpack == "call"]
    wait_until(lambda: not job.called, PATIENCE)
    again = list(pool.map(lambda n: n + len(table), range(100), chunksize=7))
    assert again == list(range(25600, 25700))
    wait_until(lambda: not job.called, PATIENCE)


def _served(pool: dq.Executor) -> list[Any]:
    from dq.master.call_pool import _unfinished

    masters = [one._host._master for one in _unfinished]
    return [s for m in masters if m is not None for s in m.runtime.dispatcher.served_jobs.values()]


def test_processes_forget_the_functions_of_long_ago_and_can_have_them_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    source = """
import dq, dq.worker.call_program as program
def shrink():
    import dq.worker.call_program as program
    program.MAX_FUNCTIONS = 3
with dq.Executor(1, initializer=shrink) as pool:
    functions = [lambda x, n=n, table=bytes(5000): (n, x, len(table)) for n in range(10)]
    for _ in range(2):
        calls = [pool.submit(function, "x") for function in functions]
        print([call.result()[0] for call in calls])
"""
    (tmp_path / "work.py").write_text(source)
    done = script(tmp_path / "work.py")
    assert done.stdout == f"{[*range(10)]}\n" * 2, done.stderr


def test_each_call_has_the_globals_of_its_time_and_those_of_the_initializer(tmp_path: Path) -> None:
    source = """
import dq
FACTOR, MODEL, CACHE = 1, None, {}
class Model:
    pass
def load(name):
    global MODEL
    MODEL = Model()
    CACHE["name"] = name
def use(x):
    return x * FACTOR, isinstance(MODEL, Model), CACHE
def count():
    CACHE["count"] = CACHE.get("count", 0) + 1
    return CACHE["count"]
with dq.Executor(1, None, load, ("big",)) as pool:
    for FACTOR in (1, 10):
        print(pool.submit(use, 3).result())
    print([pool.submit(count).result() for _ in range(3)], MODEL, CACHE)
"""
    (tmp_path / "work.py").write_text(source)
    done = script(tmp_path / "work.py")
    name = {"name": "big"}
    expected = f"{(3, True, name)}\n{(30, True, name)}\n[1, 2, 3] None {{}}\n"
    assert done.stdout == expected, done.stderr


# States


def test_a_call_runs_once_a_worker_has_it(held: tuple[dq.Executor, Future[None], Path]) -> None:
    pool, first, folder = held
    waiting = pool.submit(abs, -1)
    wait_until(first.running, PATIENCE)
    assert not waiting.running()
    (folder / "go").touch()
    assert waiting.result(PATIENCE) == 1
    assert not first.running()
    assert not waiting.running()


def test_shutdown_that_cancels_leaves_no_future_that_never_ends(
    held: tuple[dq.Executor, Future[None], Path],
) -> None:
    pool, first, folder = held
    wait_until(first.running, PATIENCE)
    calls = [pool.submit(abs, -n) for n in range(20)]
    pool.shutdown(wait=False, cancel_futures=True)
    assert [*as_completed(calls, PATIENCE)]
    assert all(call.cancelled() for call in calls)
    (folder / "go").touch()
    assert first.result(PATIENCE) is None


# What ends them all


def test_an_initializer_that_fails_breaks_the_executor() -> None:
    with dq.Executor(1, initializer=fail, initargs=(1,)) as pool:
        calls = [pool.submit(abs, -n) for n in range(3)]
        for call in calls:
            with pytest.raises(BrokenProcessPool, match="ValueError: no"):
                call.result(PATIENCE)
        with pytest.raises(BrokenProcessPool):
            pool.submit(abs, -1)


def test_calls_that_wait_fail_when_too_many_others_have(tmp_path: Path) -> None:
    with dq.Executor(1, max_failures=1, batch=1) as pool:
        first = pool.submit(hold, tmp_path)
        bad, waiting = pool.submit(fail), pool.submit(abs, -1)
        (tmp_path / "go").touch()
        with pytest.raises(dq.Stopped, match=r"1 task\(s\) failed"):
            waiting.result(PATIENCE)
        assert (first.result(0), type(bad.exception(0)).__name__) != (None, "NoneType")
        with pytest.raises(dq.Stopped):
            pool.submit(abs, -1)


# Arguments


@pytest.mark.parametrize("count", [0, -1])
def test_there_has_to_be_a_process(count: int) -> None:
    with pytest.raises(ValueError, match="max_workers must be greater than 0"):
        dq.Executor(count)


def test_there_need_be_none_where_others_can_join() -> None:
    dq.Executor(0, host="127.0.0.1", port=0, authkey=b"of these tests only").shutdown()


def test_the_arguments_of_the_standard_library_s_are_understood() -> None:
    for wrong, message in (
        ({"max_workers": "2"}, "max_workers must be an integer, not str"),
        ({"max_workers": 1.5}, "max_workers must be an integer, not float"),
        ({"initializer": print, "initargs": 5}, "initargs must be a tuple of arguments, not int"),
        ({"timout": 3}, r"Executor\(\) got an unexpected keyword argument 'timout'"),
    ):
        with pytest.raises(TypeError, match=message):
            dq.Executor(**wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="initializer must be a callable"):
        dq.Executor(1, initializer=1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="max_tasks_per_child must be >= 1"):
        dq.Executor(1, max_tasks_per_child=0)
    with dq.Executor(1, max_tasks_per_child=1) as pool:
        assert len({pool.submit(os.getpid).result(PATIENCE) for _ in range(3)}) == 3


def test_options_of_tasks_apply_to_the_calls_on_a_given_master(tmp_path: Path) -> None:
    with dq.Master(workers=1) as master:
        with dq.Executor(master=master, retries=2) as pool:
            assert pool.submit(fail_twice, tmp_path).result(PATIENCE) == 3
        with pytest.raises(TypeError, match="keepalive is for the master"):
            dq.Executor(master=master, keepalive=30)


# map


def test_map_reads_only_as_far_ahead_as_its_buffer(pool: dq.Executor) -> None:
    read: list[int] = []

    def numbers() -> Iterator[int]:
        for n in itertools.count():
            read.append(n)
            yield -n

    values = pool.map(abs, numbers(), buffersize=3)
    assert len(read) == 3
    assert [next(values) for _ in range(5)] == [0, 1, 2, 3, 4]
    assert len(read) == 8
    chunks = pool.map(pow, itertools.count(), itertools.repeat(2), chunksize=4, buffersize=2)
    assert list(itertools.islice(chunks, 10)) == [n * n for n in range(10)]


def test_map_raises_where_its_time_is_up(held: tuple[dq.Executor, Future[None], Path]) -> None:
    pool, _, folder = held
    values = pool.map(Path.touch, [folder / "never"], timeout=0.05)
    with pytest.raises(FutureTimeout):
        next(values)
    (folder / "go").touch()
    pool.submit(abs, -1).result(PATIENCE)
    assert not (folder / "never").exists()


@pytest.mark.parametrize("wrong", [{"chunksize": 0}, {"buffersize": 0}, {"buffersize": "x"}])
def test_map_refuses_sizes_that_are_none(pool: dq.Executor, wrong: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError)):
        pool.map(abs, [1], **wrong)


def test_map_gives_the_values_before_the_one_that_failed(pool: dq.Executor) -> None:
    values = pool.map(inverse, [4, 2, 0, 1])
    assert [next(values), next(values)] == [0.25, 0.5]
    with pytest.raises(ZeroDivisionError):
        next(values)


# What belongs to whom

SEEN: list[int] = []


def see(n: int) -> list[int]:
    SEEN.append(n)
    return SEEN


def test_a_result_is_what_it_was_when_its_call_ended(tmp_path: Path) -> None:
    with dq.Executor(1, batch=5) as pool:
        first = pool.submit(hold, tmp_path)
        wait_until((tmp_path / "held").exists, PATIENCE)
        calls = [pool.submit(see, n) for n in range(5)]
        (tmp_path / "go").touch()
        assert first.result(PATIENCE) is None
        assert [call.result(PATIENCE) for call in calls] == [[*range(n + 1)] for n in range(5)]


def test_an_array_may_be_changed_once_it_was_submitted(pool: dq.Executor) -> None:
    for _ in range(5):
        data = bytearray(5_000_000)
        call = pool.submit(any, [data, None])
        total = pool.submit(sum, data)
        data[:] = b"\1" * len(data)
        assert total.result(PATIENCE) in (0, len(data))  # handed over at once, or not, but whole
        assert call.result(PATIENCE)


def test_a_result_of_any_size_comes_back(pool: dq.Executor) -> None:
    assert len(pool.submit(bytes, 100_000_000).result(PATIENCE)) == 100_000_000


def test_an_event_loop_can_run_calls_and_cancel_them(
    held: tuple[dq.Executor, Future[None], Path],
) -> None:
    pool, _, folder = held

    async def main() -> int:
        loop = asyncio.get_running_loop()
        late = loop.run_in_executor(pool, Path.touch, folder / "late")
        other = loop.run_in_executor(pool, abs, -1)
        late.cancel()
        with pytest.raises(asyncio.CancelledError):
            await late
        (folder / "go").touch()
        return await other

    assert asyncio.run(main()) == 1
    assert not (folder / "late").exists()


def test_a_call_submitted_after_a_broken_one_is_not_held_up(pool: dq.Executor) -> None:
    died = pool.submit(os._exit, 1)
    assert pool.submit(abs, -1).result(PATIENCE) == 1
    with pytest.raises(dq.TaskError, match="WorkerDied"):
        died.result(PATIENCE)


def test_a_cancelled_call_raises_for_whoever_waits(
    held: tuple[dq.Executor, Future[None], Path],
) -> None:
    pool, _, _ = held
    call = pool.submit(abs, -1)
    seen: list[BaseException] = []

    def look() -> None:
        try:
            call.result(PATIENCE)
        except CancelledError as error:
            seen.append(error)

    thread = threading.Thread(target=look)
    thread.start()
    time.sleep(0.01)
    assert call.cancel()
    assert call.cancel()
    thread.join(PATIENCE)
    assert len(seen) == 1


def test_a_given_function_that_is_not_allowed_fails_its_call_alone() -> None:
    code = """
import dq, math, subprocess, sys
with dq.Executor(0, host="127.0.0.1", port=0, authkey=b"of these tests only") as pool:
    port = pool._pool._host._master.address[1]
    command = [sys.executable, "-m", "dq", "worker", "--server", f"127.0.0.1:{port}", "-p", "1"]
    worker = subprocess.Popen(
        [*command, "--allow", "math:sqrt"],
        env={"DQ_AUTHKEY": "of these tests only", "PATH": ""}, stderr=subprocess.DEVNULL,
    )
    print(pool.submit(math.sqrt, 4).result())
    for function in (math.floor, lambda x: x):
        try:
            print(pool.submit(function, 4).result())
        except dq.DqError as error:
            print(type(error).__name__)
    print(pool.submit(math.sqrt, 9).result())
worker.wait()
"""
    done = python(code)
    assert done.stdout == "2.0\nBadTask\nTaskError\n3.0\n", done.stderr


def test_a_running_call_that_is_cancelled_is_ended_and_its_slot_goes_on(
    held: tuple[dq.Executor, Future[None], Path],
) -> None:
    pool, first, _ = held
    wait_until(first.running, PATIENCE)
    waiting = pool.submit(abs, -1)
    assert first.cancel()
    assert first.cancelled()
    assert first in wait([first], 0).done
    assert waiting.result(PATIENCE) == 1


@pytest.mark.parametrize("when", ["pickled", "unpickled"])
def test_a_value_that_ends_the_program_fails_its_call_alone(pool: dq.Executor, when: str) -> None:
    for call in pool.submit(id, Leaving(when)), pool.submit(Leaving, when):
        with pytest.raises(dq.TaskError, match="SystemExit"):
            call.result(PATIENCE)
    assert pool.submit(abs, -1).result(PATIENCE) == 1


def test_a_call_whose_pickling_was_interrupted_has_failed(pool: dq.Executor) -> None:
    pool.submit(abs, -1).result(PATIENCE)  # whoever waits is there by now
    with pytest.raises(KeyboardInterrupt):
        pool.submit(id, Interrupting())
    pool.shutdown()  # does not wait for it


def test_each_call_has_the_classes_of_its_arguments_as_they_are_then(tmp_path: Path) -> None:
    source = """
import dq
class Point:
    scale = 1
    def __init__(self, x):
        self.x = x
    def value(self):
        return self.x * self.scale
seen = []
def see(point):
    seen.append(type(point))
    return len(set(seen)), isinstance(point, seen[0])
with dq.Executor(1, threads=2) as pool:
    for Point.scale in (1, 5, 7):
        print(*(pool.submit(Point.value, Point(4)).result() for _ in range(3)))
    print(*pool.map(see, [Point(n) for n in range(3)]))
"""
    (tmp_path / "work.py").write_text(source)
    done = script(tmp_path / "work.py")
    expected = "4 4 4\n20 20 20\n28 28 28\n(1, True) (1, True) (1, True)\n"
    assert done.stdout == expected, done.stderr


def test_a_call_after_a_kill_does_not_wait_for_what_the_process_was_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(death_reports, "DEATH_REPORT_TIMEOUT_S", 3600.0)
    with dq.Executor(1) as pool:
        for _ in range(5):
            os.kill(pool.submit(os.getpid).result(30), signal.SIGKILL)
            assert pool.submit(abs, -1).result(30) == 1
