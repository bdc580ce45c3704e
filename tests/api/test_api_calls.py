"""`dq.run`, `dq.Master` and what they return and raise, called from within pytest."""

from __future__ import annotations

import gc
import itertools
import logging
import math
import os
import random
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import dq
from support import descendants, fds, wait_until
from tasks.calls import (
    Point,
    add,
    fail_at_3,
    nap,
    no_pickle,
    raise_unfriendly,
    square,
    touch,
    wait_for,
)


@pytest.fixture
def master() -> Iterator[dq.Master]:
    with dq.Master(workers=2) as started:
        yield started


# -- run


def test_run_returns_the_values_in_input_order() -> None:
    assert dq.run(square, range(100), workers=2) == [n * n for n in range(100)]


def test_a_function_may_be_an_import_path() -> None:
    assert dq.run("math:sqrt", [1, 4], workers=1) == [1.0, 2.0]


@pytest.mark.parametrize("inputs", [[], iter([]), range(0)], ids=["list", "iterator", "range"])
def test_no_inputs_are_no_values(inputs: list[int]) -> None:
    assert dq.run(square, inputs, workers=1) == []


def test_inputs_and_values_may_be_objects() -> None:
    assert dq.run(Point.twice, [Point(1), Point(2)], workers=1) == [Point(2), Point(4)]


def test_the_exception_of_the_first_failed_task_is_raised() -> None:
    with pytest.raises(ValueError, match="three") as caught:
        dq.run(fail_at_3, range(10), workers=1)
    assert caught.value.args == ("three",)


def test_its_cause_is_the_remote_traceback() -> None:
    with pytest.raises(ValueError, match="three") as caught:
        dq.run(fail_at_3, [3], workers=1)
    cause = caught.value.__cause__
    assert isinstance(cause, dq.RemoteTraceback)
    assert 'raise ValueError("three")' in str(cause)
    assert fail_at_3.__code__.co_filename in str(cause)


def test_return_exceptions_puts_failures_into_the_list() -> None:
    values = dq.run(fail_at_3, range(5), workers=1, return_exceptions=True)
    assert [*values[:3], values[4]] == [0, 1, 2, 4]
    assert repr(values[3]) == "ValueError('three')"


def test_an_exception_that_cannot_be_unpickled_fails_its_task_in_words() -> None:
    with pytest.raises(dq.TaskError, match=r"^task 0 failed: Unfriendly: 1 and 1$") as caught:
        dq.run(raise_unfriendly, [1], workers=1)
    result = caught.value.result
    assert (result.id, result.input, result.ok) == (0, 1, False)
    assert result.error.type == "Unfriendly"  # type: ignore[union-attr]


def test_a_value_that_cannot_be_pickled_fails_only_its_task() -> None:
    values = dq.run(no_pickle, range(5), workers=1, return_exceptions=True)
    assert [*values[:2], *values[3:]] == [0, 1, 3, 4]
    assert "cannot be sent" in str(values[2])


def test_an_input_that_cannot_be_pickled_fails_only_its_task() -> None:
    values = dq.run(square, [1, threading.Lock(), 3], workers=1, return_exceptions=True)
    assert [values[0], values[2]] == [1, 9]
    assert "this input cannot be pickled" in str(values[1])


def test_unpack_spreads_inputs_over_arguments() -> None:
    assert dq.run(add, [(1, 2), [3], {"b": 1, "a": 5}], workers=1, unpack=True) == [3, 13, 6]


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("workers", -1, "a whole number from 1 to 10000"),
        ("workers", "2", "a whole number"),
        ("workers", 99999999, "a whole number from 1 to 10000"),
        ("threads", 0, "a whole number from 1 to 1000"),
        ("threads", None, "a whole number"),
        ("retries", -1, "a whole number of 0 or more"),
        ("batch", 1.5, "a whole number"),
        ("max_tasks", 0, "a whole number of 1 or more"),
        ("max_memory", "1G", "a whole number of 33554432 or more"),
        ("max_message", 10**30, "a whole number"),
        ("keepalive", 5.5, "a whole number from 5 to 86400"),
        ("keepalive", 10**12, "a whole number from 5 to 86400"),
        ("keepalive", math.inf, "a whole number"),
        ("retry_delay", "5s", "a number of seconds"),
        ("retry_delay", -5, "a number of seconds"),
        ("retry_delay", math.nan, "a number of seconds"),
        ("timeout", "x", "a number of seconds"),
        ("timeout", math.inf, "a number of seconds"),
        ("timeout", 1e300, "a number of seconds"),
    ],
)
def test_an_argument_that_cannot_be_used_is_named(name: str, value: Any, wanted: str) -> None:
    arguments = {"workers": 1, name: value}
    message = f"^{name} must be {wanted}.*, not {re.escape(repr(value))}$"
    with pytest.raises(dq.UsageError, match=message):
        dq.run(square, [1], **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"host": 5}, "host must be a string, not 5"),
        ({"tls": "x"}, "tls is one of auto.*, not 'x'"),
        ({"authkey": 5}, "must be a string or bytes, not int"),
        ({"port": 70000}, "port must be a whole number from 0 to 65535, not 70000"),
    ],
)
def test_an_argument_that_is_not_needed_is_looked_at_too(
    arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(dq.UsageError, match=message):
        dq.Master(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"server": 5}, "server must be a string, not 5"),
        ({"port": 70000}, "port must be a whole number from 1 to 65535, not 70000"),
        ({"processes": 0}, "processes must be a whole number from 1 to 10000, not 0"),
        ({"threads": 1001}, "threads must be a whole number from 1 to 1000, not 1001"),
        ({"max_memory": "1M"}, "max_memory must be a whole number"),
        ({"reconnect": math.nan}, "reconnect must be a number of seconds"),
    ],
)
def test_an_argument_that_a_worker_cannot_use_is_named(
    arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(dq.UsageError, match=message):
        dq.run_worker(authkey="k" * 16, **arguments)


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("nope:f", "no module 'nope'"),
        ("math:nope", "math has no 'nope'"),
        ("math", "neither"),
        (12, "callable or an import path, not int"),
        (lambda: 0, "cannot be called with one input"),
    ],
)
def test_a_bad_task_is_refused_before_anything_is_started(task: object, message: str) -> None:
    with dq.Master(workers=0) as master, pytest.raises(dq.BadTask, match=message):
        master.map(task, [1])  # type: ignore[arg-type]


def test_a_lambda_and_a_closure_are_sent_by_value() -> None:
    factor = 7
    assert dq.run(lambda x: x * factor, [1, 2], workers=1) == [7, 14]


def test_nothing_is_left_after_a_run() -> None:
    dq.run(square, [1], workers=1)  # what is loaded and opened once
    before = fds(os.getpid()), {*threading.enumerate()}
    for _ in range(3):
        dq.run(square, range(5), workers=2)
    gc.collect()
    wait_until(lambda: not {*threading.enumerate()} - before[1], 10)
    assert fds(os.getpid()) <= before[0]


def test_nothing_is_left_after_a_run_that_failed() -> None:
    before = {*descendants(os.getpid())}
    with pytest.raises(ValueError, match="three"):
        dq.run(fail_at_3, itertools.count(), workers=2)
    wait_until(lambda: not {*descendants(os.getpid())} - before, 10)


# -- Master


def test_stream_gives_a_result_for_each_as_they_finish(master: dq.Master) -> None:
    results = {result.id: result for result in master.stream(fail_at_3, [2, 3, 4])}
    assert [(results[n].input, results[n].value, results[n].ok) for n in range(3)] == [
        (2, 2, True),
        (3, None, False),
        (4, 4, True),
    ]
    assert results[0].seconds >= 0
    assert results[0].attempts == 1
    assert results[0].worker.count(":") == 1


def test_values_come_as_they_are_there_where_order_does_not_matter(
    master: dq.Master, tmp_path: Path
) -> None:
    told = str(tmp_path / "told")
    values = master.map(wait_for, [told, *[None] * 40], ordered=False)
    first = next(values)
    assert first is None
    touch(told)
    assert [first, *values].count(None) == 40


def test_a_failure_is_raised_where_values_come_as_they_are_there(master: dq.Master) -> None:
    with pytest.raises(ValueError, match="three"):
        list(master.map(fail_at_3, [2, 3, 4], ordered=False))


def test_two_maps_may_be_interleaved(master: dq.Master) -> None:
    pairs = zip(master.map(square, range(50)), master.map(nap, iter(range(50))), strict=True)
    assert list(pairs) == [(n * n, n) for n in range(50)]


def test_maps_may_run_in_several_threads(master: dq.Master) -> None:
    found: dict[int, list[int]] = {}

    def use(n: int) -> None:
        found[n] = list(master.map(add, range(n, n + 100)))

    threads = [threading.Thread(target=use, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == {n: [x + 10 for x in range(n, n + 100)] for n in range(4)}


def test_a_map_abandoned_half_way_leaves_the_master_usable(master: dq.Master) -> None:
    for _ in range(5):
        values = master.map(nap, itertools.count())
        assert next(values) == 0
        del values
    assert list(master.map(square, range(20))) == [n * n for n in range(20)]


def test_a_map_that_failed_leaves_the_master_usable(master: dq.Master) -> None:
    with pytest.raises(ValueError, match="three"):
        list(master.map(fail_at_3, itertools.count()))
    assert list(master.map(square, [5])) == [25]


def test_values_before_a_failed_task_come_first(master: dq.Master) -> None:
    values = master.map(fail_at_3, range(10))
    assert list(itertools.islice(values, 3)) == [0, 1, 2]
    with pytest.raises(ValueError, match="three"):
        next(values)


def test_generated_inputs_are_read_only_so_far_ahead(master: dq.Master) -> None:
    read = 0

    def numbers() -> Iterator[int]:
        nonlocal read
        while True:
            read += 1
            yield read

    values = master.map(square, numbers())
    taken = [next(values) for _ in range(10)]
    stood = -1

    def stands() -> bool:
        nonlocal stood
        before, stood = stood, read
        return before == stood

    wait_until(stands, 30, interval=0.3, message="the inputs are read without end")
    assert taken == [n * n for n in range(1, 11)]
    assert read < 5_000_000


def test_a_generators_first_inputs_are_worked_on_before_it_goes_on(
    master: dq.Master, tmp_path: Path
) -> None:
    def paths() -> Iterator[str]:
        for n in range(3):
            path = tmp_path / str(n)
            yield str(path)
            wait_until(path.exists)

    assert len(list(master.map(touch, paths()))) == 3


def test_what_the_inputs_raise_comes_out_of_the_map(master: dq.Master) -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise KeyError("input")

    with pytest.raises(KeyError, match="input"):
        list(master.map(square, broken()))
    assert list(master.map(square, [2])) == [4]


def test_a_master_that_has_not_started_says_so() -> None:
    master = dq.Master(workers=1)
    with pytest.raises(dq.UsageError, match="use it in a with statement"):
        master.map(square, [1])


def test_a_map_of_a_closed_master_ends_with_an_error() -> None:
    with dq.Master(workers=1) as master:
        values = master.map(nap, itertools.count())
        next(values)
    with pytest.raises(dq.Stopped):
        list(values)


def test_port_0_takes_a_free_one_and_address_says_which() -> None:
    with dq.Master(host="127.0.0.1", port=0, authkey=b"a key of 16 bytes") as master:
        host, port = master.address
        assert host == "127.0.0.1"
        assert isinstance(port, int)
        assert port > 0


@pytest.mark.parametrize("authkey", [b"", ""])
def test_an_empty_key_is_refused(authkey: bytes | str) -> None:
    with pytest.raises(dq.BadKey, match="is empty"):
        dq.Master(port=0, authkey=authkey)
    with pytest.raises(dq.BadKey, match="is empty"):
        dq.QueueManager(("127.0.0.1", 0), authkey=b"")


def test_a_port_in_use_is_a_connect_error() -> None:
    key = b"a key of 16 bytes"
    with dq.Master(host="127.0.0.1", port=0, authkey=key) as first:
        second = dq.Master(host="127.0.0.1", port=int(first.address[1]), authkey=key)
        with pytest.raises(dq.ConnectError, match="is in use"):
            second.start()


# -- run_master and run_worker


def test_run_master_waits_for_workers_and_returns_the_values() -> None:
    values = dq.run_master(
        square, range(10), host="127.0.0.1", port=0, authkey="a key of 16 bytes", workers=2
    )
    assert values == [n * n for n in range(10)]


def test_run_worker_works_until_the_master_has_finished() -> None:
    key = b"a key of 16 bytes"
    with dq.Master(host="127.0.0.1", port=0, authkey=key) as master:
        where = f"127.0.0.1:{master.address[1]}"
        thread = threading.Thread(
            target=dq.run_worker, args=(where,), kwargs={"authkey": key, "processes": 2}
        )
        thread.start()
        assert list(master.map(square, range(10))) == [n * n for n in range(10)]
    thread.join(30)
    assert not thread.is_alive()


def test_who_comes_and_goes_is_reported_to_a_master_and_its_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    key = b"a key of 16 bytes"
    said: list[str] = []
    caplog.set_level(logging.INFO, "dq")
    for report in (None, said.append):
        with dq.Master(host="127.0.0.1", port=0, authkey=key, report=report) as master:
            port = int(master.address[1])
            thread = threading.Thread(
                target=dq.run_worker,
                args=("127.0.0.1", port),
                kwargs={"authkey": key, "processes": 1, "report": print},
            )
            thread.start()
            assert list(master.map(square, [3])) == [9]
        thread.join(30)
        assert not thread.is_alive()
    joined = f"worker {socket.gethostname()}:{os.getpid()} joined: 1 slot, "
    assert [line.startswith(joined) for line in said] == [True]
    [logged] = [record for record in caplog.records if record.message.startswith(joined)]
    assert logged.levelname == "INFO"


def test_run_worker_with_another_key_is_refused() -> None:
    with dq.Master(host="127.0.0.1", port=0, authkey=b"a key of 16 bytes") as master:
        port = int(master.address[1])
        with pytest.raises(dq.AuthenticationFailed, match="has another authkey"):
            dq.run_worker("127.0.0.1", port, authkey=b"another key")


def test_a_worker_that_looks_for_its_master_draws_no_number_of_the_programs() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        before = random.getstate()
        with pytest.raises(dq.ConnectError):
            dq.run_worker(
                "127.0.0.1", taken.getsockname()[1], authkey=b"a key of 16 bytes", reconnect=0.3
            )
    assert random.getstate() == before


def test_inputs_without_a_task_are_a_usage_error() -> None:
    with pytest.raises(dq.UsageError, match="inputs without a task"):
        dq.run_master(None, [1], port=0, authkey=b"k" * 16)  # type: ignore[call-overload]


# -- QueueManager


def test_a_queue_manager_started_serves_both_queues() -> None:
    manager = dq.QueueManager(("127.0.0.1", 0), authkey=b"a key of 16 bytes")
    manager.start()
    try:
        other = dq.QueueManager(manager.address, authkey=b"a key of 16 bytes")
        other.connect()
        other.get_task_queue().put({"n": 1})
        assert manager.get_task_queue().get(timeout=30) == {"n": 1}
        manager.get_result_queue().put("done")
        assert other.get_result_queue().get(timeout=30) == "done"
    finally:
        manager.shutdown()
