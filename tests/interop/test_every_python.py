"""A plain client of every CPython on the machine, from 3.8 on, against a dq master."""

from __future__ import annotations

from pathlib import Path

import pytest

from interop.plain import ENV, master_here, plain, plain_running, pythons, unconnected
from support import serving

pytestmark = pytest.mark.slow


@pytest.fixture(params=[f"3.{minor}" for minor in range(8, 15)])
def python(request: pytest.FixtureRequest) -> str:
    """An interpreter of each version."""
    if request.param not in pythons():
        pytest.skip(f"there is no CPython {request.param} on this machine")
    return pythons()[request.param]


def test_items_come_out_in_the_order_they_were_put(python: str) -> None:
    code = """
        for n in range(5): tasks.put(n)
        print([tasks.get() for _ in range(5)])
    """
    with master_here() as port:
        assert plain(port, code, python=python) == "[0, 1, 2, 3, 4]"


def test_standard_data_types_come_back_as_they_went(python: str) -> None:
    code = """
        import datetime, decimal, fractions, uuid
        item = [None, True, 1, 2.5, 3j, "four", b"5", (6,), {7}, frozenset([8]), {9: [10]},
                bytearray(b"11"), range(12), decimal.Decimal("1.3"), fractions.Fraction(1, 4),
                datetime.datetime(2015, 1, 1, tzinfo=datetime.timezone.utc), uuid.UUID(int=16)]
        tasks.put(item)
        results.put(item)
        print(tasks.get() == item == results.get())
    """
    with master_here() as port:
        assert plain(port, code, python=python) == "True"


def test_the_calls_that_do_not_wait(python: str) -> None:
    code = """
        for queue_ in (tasks, results):
            queue_.put_nowait(1)
            queue_.put(2, False)
            print(queue_.get_nowait(), queue_.get(False), raised(queue_.get_nowait))
    """
    with master_here() as port:
        assert plain(port, code, python=python).splitlines() == ["1 2 Empty"] * 2


def test_qsize_and_empty_count_what_waits(python: str) -> None:
    code = """
        for queue_ in (tasks, results):
            print(queue_.qsize(), queue_.empty(), queue_.full())
            queue_.put(1); queue_.put(2)
            print(queue_.qsize(), queue_.empty(), queue_.full())
    """
    with master_here() as port:
        seen = plain(port, code, python=python).splitlines()
    assert seen == ["0 True False", "2 False False"] * 2


def test_get_raises_queue_empty_when_its_time_is_out(python: str) -> None:
    code = """
        for queue_ in (tasks, results):
            started = time.monotonic()
            try:
                queue_.get(timeout=0.2)
            except queue.Empty:
                print(time.monotonic() - started >= 0.2)
    """
    with master_here() as port:
        assert plain(port, code, python=python).splitlines() == ["True"] * 2


def test_a_negative_time_out_is_a_value_error(python: str) -> None:
    with master_here() as port:
        code = "print(*[raised(q.get, timeout=-1) for q in (tasks, results)])"
        assert plain(port, code, python=python) == "ValueError ValueError"


def test_put_raises_queue_full_where_maxsize_is_reached(python: str) -> None:
    code = """
        tasks.put(1); tasks.put(2)
        print(tasks.full(), raised(tasks.put_nowait, 3), raised(tasks.put, 3, timeout=0.1))
        try:
            tasks.put(3, block=False)
        except queue.Full:
            print(tasks.get(), tasks.full(), tasks.qsize())
    """
    with serving("--maxsize", "2", env=ENV) as (_, port):
        assert plain(port, code, python=python).splitlines() == ["True Full Full", "1 False 1"]


def test_put_waits_until_there_is_room(python: str) -> None:
    with master_here(maxsize=1) as port:
        code = "tasks.put(1); say('full'); tasks.put(2, timeout=30); say('in')"
        with plain_running(port, code, python=python) as putter:
            putter.wait_for("full", stream="stdout")
            assert plain(port, "print(tasks.get(), tasks.get(timeout=30))") == "1 2"
            assert putter.wait() == 0, putter.printed


def test_get_waits_for_what_another_client_puts(python: str) -> None:
    with master_here() as port:
        code = "say('here'); say(tasks.get(), results.get(timeout=30))"
        with plain_running(port, code, python=python) as getter:
            getter.wait_for("here", stream="stdout")
            plain(port, "results.put('result'); tasks.put('task')")
            assert getter.wait() == 0, getter.printed
            assert getter.stdout_text.split() == ["here", "task", "result"]


@pytest.mark.parametrize("queue_", ["tasks", "results"])
def test_join_returns_once_everything_is_done(queue_: str, python: str) -> None:
    code = f"""
        which = {["tasks", "results"].index(queue_)}
        {queue_}.put(1); {queue_}.put(2)
        joiner = threading.Thread(target=lambda: (connect()[which].join(), say("joined")))
        joiner.start()
        for _ in range(2):
            say("done", {queue_}.get())
            {queue_}.task_done()
        joiner.join()
        say(raised({queue_}.task_done))
    """
    with master_here() as port:
        said = plain(port, code, python=python).splitlines()
    assert said == ["done 1", "done 2", "joined", "ValueError"]


@pytest.mark.parametrize("queue_", ["tasks", "results"])
def test_join_waits_for_what_is_not_done(queue_: str, python: str) -> None:
    code = f"""
        which = {["tasks", "results"].index(queue_)}
        {queue_}.put(1)
        joiner = threading.Thread(target=lambda: connect()[which].join(), daemon=True)
        joiner.start()
        joiner.join(0.3)
        print(joiner.is_alive())
        print({queue_}.get())
    """
    with master_here() as port:
        assert plain(port, code, python=python).splitlines() == ["True", "1"]


def test_join_waits_for_the_results_of_dq_workers(python: str, project: Path) -> None:
    code = """
        tasks.put(2); tasks.put(3)
        got = [results.get(timeout=30), results.get(timeout=30)]
        joiner = threading.Thread(target=lambda: (connect()[1].join(), say("joined")), daemon=True)
        joiner.start()
        results.task_done()
        joiner.join(0.3)
        say(sorted(got), joiner.is_alive())
        results.task_done()
        joiner.join()
        say(raised(results.task_done))
    """
    with serving("app:square", "-w", "1", cwd=project, env=ENV) as (_, port):
        said = plain(port, code, python=python).splitlines()
    assert said == ["[4, 9] True", "joined", "ValueError"]


def test_results_that_nobody_gets_hold_nobody_up(python: str, project: Path) -> None:
    """A client that puts all of its tasks first, as the recipe's does, would wait for ever where
    `maxsize` was the result queue's too."""
    code = """
        for n in range(20): tasks.put(n, timeout=30)
        tasks.join()
        print(results.qsize(), results.full(), sum(results.get() for _ in range(20)))
    """
    with serving("app:square", "-w", "1", "--maxsize", "2", cwd=project, env=ENV) as (_, port):
        assert plain(port, code, python=python) == f"20 False {sum(n * n for n in range(20))}"


def test_items_of_16_to_64_kib_are_not_kept_by_a_delayed_acknowledgement(python: str) -> None:
    """A client sends their header by itself, and by Nagle's rule the body after the master's
    acknowledgement: 40 ms late for each item, by the kernel's clock, on any machine."""
    code = """
        import statistics
        def seconds(queue_, size):
            started = time.perf_counter()
            queue_.put(b"x" * size)
            return time.perf_counter() - started
        for queue_ in (tasks, results):
            for size in (16385, 30000, 65000):
                print(statistics.median(seconds(queue_, size) for _ in range(9)))
    """
    with master_here() as port:
        medians = [float(line) for line in plain(port, code, python=python).split()]
    assert len(medians) == 6
    assert max(medians) < 0.03, medians


def test_the_wrong_key_is_an_authentication_error(python: str) -> None:
    with master_here() as port:
        said = unconnected(port, "print(raised(connect))", python=python, key="another key")
        assert said == "AuthenticationError"


def test_the_empty_key_is_an_authentication_error(python: str) -> None:
    with master_here() as port:
        said = unconnected(port, "print(raised(connect))", python=python, key="")
        assert said == "AuthenticationError"


def test_a_dq_workers_value_arrives_bare(python: str, project: Path) -> None:
    code = "tasks.put(12); print(repr(results.get(timeout=30))); tasks.join()"
    with serving("app:square", "-w", "1", cwd=project, env=ENV) as (_, port):
        assert plain(port, code, python=python) == "144"


def test_a_dq_workers_failure_arrives_as_a_runtime_error(python: str, project: Path) -> None:
    code = """
        tasks.put(12)
        error = results.get(timeout=30)
        kind, message, traceback = error.args
        print(type(error) is RuntimeError, kind, message)
        print(traceback)
        tasks.join()
    """
    with serving("app:fail", "-w", "1", cwd=project, env=ENV) as (_, port):
        said = plain(port, code, python=python)
    assert said.startswith("True ValueError no 12 today\nTraceback (most recent call last):")
    assert "in fail" in said
