"""Arrays and other large values there and back: right, writable, and the receiver's own."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

import dq
from support import FaultProxy, Running, fds, rss, wait_until
from tasks.arrays import Array, N, doubled_in_place, frame, killed_once, look_up, one

KEY = "a key of the test's own"


def arrays(count: int, size: int = N) -> Iterator[Array]:
    for number in range(count):
        yield np.full(size, float(number))


def check(found: list[Array], count: int) -> None:
    assert len(found) == count
    for number, array in enumerate(found):
        assert array.flags.writeable
        assert np.array_equal(array, np.full(N, 2.0 * number))


@contextmanager
def remote_worker(address: str) -> Iterator[Running]:
    argv = (sys.executable, "-m", "dq", "worker", "--server", address, "-p", "2")
    env = {"DQ_AUTHKEY": KEY, "PYTHONPATH": os.pathsep.join(sys.path)}
    with Running(*argv, env=env) as worker:
        yield worker


def test_tasks_may_change_their_arrays_and_the_callers_stay() -> None:
    inputs = list(arrays(20))
    with dq.Master(workers=2) as master:
        check(list(master.map(doubled_in_place, inputs)), 20)
    for number, array in enumerate(inputs):
        assert np.array_equal(array, np.full(N, float(number)))


def test_a_value_with_several_large_parts_comes_back_whole() -> None:
    for number, found in enumerate(dq.run(frame, arrays(4), workers=2)):
        assert np.array_equal(found["array"], np.full(N, float(number)))
        assert found["bytes"] == found["array"].tobytes()
        assert found["sum"] == number * N


def test_large_and_small_values_of_one_batch_stay_apart() -> None:
    inputs = [None, b"x" * 100_000, *arrays(2), "text", {"a": np.arange(50_000)}, 3]
    for found, given in zip(dq.run(one, inputs, workers=1, batch=7), inputs, strict=True):
        assert type(found) is type(given)
        assert repr(found) == repr(given)


def test_the_input_of_a_result_is_a_copy() -> None:
    [given] = arrays(1)
    with dq.Master(workers=1) as master:
        [result] = master.stream(doubled_in_place, [given])
    assert np.array_equal(result.input, given)
    assert not np.shares_memory(result.input, given)
    check([result.value], 1)


def test_an_array_that_is_kept_keeps_no_others_in_memory() -> None:
    with dq.Master(workers=1) as master:
        for value in list(master.map(doubled_in_place, [np.ones(2000) for _ in range(200)])):
            owner = value
            while isinstance(owner, np.ndarray):
                owner = owner.base
            assert memoryview(owner.obj).nbytes == value.nbytes


def test_arrays_go_to_another_machine_and_back() -> None:
    with (
        dq.Master(host="127.0.0.1", port=0, authkey=KEY) as master,
        remote_worker(f"127.0.0.1:{master.address[1]}"),
    ):
        check(list(master.map(doubled_in_place, arrays(20))), 20)


@pytest.mark.sampled(1)
@pytest.mark.parametrize("nbytes", [100, 4 * N])
def test_a_connection_cut_in_the_midst_of_an_array_loses_nothing(nbytes: int) -> None:
    with (
        dq.Master(host="127.0.0.1", port=0, authkey=KEY) as master,
        FaultProxy(master.address) as proxy,
        remote_worker(f"127.0.0.1:{proxy.port}"),
    ):
        found = []
        for direction in ("down", "up", "down"):
            values = master.map(doubled_in_place, arrays(6))
            found.append([next(values)])
            proxy.cut_after(nbytes, direction)
            found[-1] += values
    for values in found:
        check(values, 6)


def test_a_task_that_is_tried_again_gets_its_array_as_it_was(tmp_path: Path) -> None:
    inputs = [(str(tmp_path / str(n)), array) for n, array in enumerate(arrays(3))]
    found = dq.run(killed_once, inputs, workers=2)
    for number, array in enumerate(found):
        assert np.array_equal(array, np.full(N, number + 1.0))


def test_nothing_is_left_of_arrays_whose_processes_were_killed(tmp_path: Path) -> None:
    shared = set(os.listdir("/dev/shm"))
    with dq.Master(workers=2) as master:
        list(master.map(one, arrays(2)))
        dispatcher = master.runtime.dispatcher
        assert dispatcher.connections.wait_for_workers(3, 30)  # with their supervisor
        wait_until(lambda: dispatcher.presence.workers()[0].memory)  # it has sent a beat
        before = fds(os.getpid())
        inputs = [(str(tmp_path / str(n)), array) for n, array in enumerate(arrays(4))]
        list(master.map(killed_once, inputs))
        list(master.map(one, arrays(2)))
        wait_until(lambda: fds(os.getpid()) <= before)
    assert set(os.listdir("/dev/shm")) <= shared


def test_a_journal_has_arrays_and_knows_a_changed_one(tmp_path: Path) -> None:
    path = tmp_path / "j"
    first = dq.run(doubled_in_place, arrays(3), workers=2, journal=path)
    resumed = dq.run(doubled_in_place, arrays(3), workers=2, journal=path)
    check(first, 3)
    check(resumed, 3)
    changed = list(arrays(3))
    changed[1][N // 2] += 1
    with pytest.raises(dq.InputChanged, match="the input of task 1 "):
        dq.run(doubled_in_place, changed, workers=2, journal=path)


def test_an_array_over_the_limit_fails_alone() -> None:
    inputs = [np.zeros(10), np.zeros(300_000), np.zeros(20)]
    found = dq.run(one, inputs, workers=1, max_message=1_000_000, return_exceptions=True)
    assert [type(value).__name__ for value in found] == ["ndarray", "TaskError", "ndarray"]
    assert found[1].result.error.type == "InputTooLarge"


def test_what_a_function_closes_over_is_as_at_the_call_and_its_own() -> None:
    table = np.arange(float(N))

    def first(x: int) -> float:
        value = float(table[x])
        table[x] = -1.0  # the process's own
        return value

    with dq.Master(workers=2, threads=2) as master:
        values = master.map(first, range(0, N, 1000))
        table[:] = 7.0
        assert list(values) == list(range(0, N, 1000))
        assert set(master.map(first, range(10))) == {7.0}
    assert (table == 7.0).all()


def test_a_task_and_its_initializer_share_their_arrays() -> None:
    found: dict[str, Array] = {}
    [given] = arrays(1)

    def begin() -> None:
        found["sum"] = given + 1

    def total(x: int) -> float:
        return float(found["sum"].sum()) + float(given[x])

    with dq.Master(workers=1, initializer=begin) as master:
        assert list(master.map(total, [1, 2])) == [N, N]


def test_a_function_with_an_array_goes_to_another_machine() -> None:
    table = np.arange(float(N))
    with (
        dq.Master(host="127.0.0.1", port=0, authkey=KEY) as master,
        remote_worker(f"127.0.0.1:{master.address[1]}"),
    ):
        assert list(master.map(lambda x: float(table[x]), range(50))) == list(range(50))


# Constants


def test_constants_are_arguments_of_all_tasks() -> None:
    [table] = arrays(1)
    table += 3
    constants = {"table": table, "scale": 2.0}
    assert dq.run(look_up, range(4), workers=2, constants=constants) == [6.0] * 4
    with dq.Master(workers=1) as master:
        assert list(master.map(look_up, range(4), constants=constants)) == [6.0] * 4
        results = list(master.stream(look_up, range(4), constants=constants))
    assert [result.value for result in results] == [6.0] * 4


def test_a_task_by_its_path_takes_constants() -> None:
    assert dq.run("builtins:int", ["ff"], workers=1, constants={"base": 16}) == [255]


def test_constants_that_a_task_does_not_take_are_refused_at_once() -> None:
    with pytest.raises(dq.BadTask, match=r"look_up\(.*does not take constants: .*'tabel'"):
        dq.run(look_up, [1], workers=1, constants={"tabel": 1})
    with pytest.raises(dq.UsageError, match="constants is a mapping of argument names to values"):
        dq.run(look_up, [1], workers=1, constants=[1])  # type: ignore[arg-type]  # that is the test
    with pytest.raises(dq.UsageError, match="constants without inputs"):
        dq.run_master(port=0, constants={"a": 1})  # type: ignore[call-overload]  # that is the test


def test_calls_of_an_executor_may_close_over_an_array() -> None:
    [table] = arrays(1)
    with dq.Executor(1) as pool:
        futures = [pool.submit(lambda x: float(table[x]) + x, number) for number in range(3)]
        assert [future.result() for future in futures] == [0.0, 1.0, 2.0]
        assert list(pool.map(lambda x: float(table[x]), [1, 2])) == [0.0, 0.0]


def test_constants_are_freed_when_their_job_has_ended() -> None:
    gc.collect()
    gc.disable()
    try:
        before = rss(os.getpid())
        for _ in range(6):
            dq.run(look_up, [1], workers=1, constants={"table": np.ones(8 * N * 8)})  # 51 MB
        assert rss(os.getpid()) - before < 3 * 51_200_000
    finally:
        gc.enable()
