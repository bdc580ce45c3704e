"""`dq.Executor`, with workers of its own and with connections that a test holds."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path

import pytest

import dq
from dq.core.records import Done
from dq.data import batches
from dq.manager.client import Client
from dq.manager.messages import ReportMessage
from support import python, script, wait_until
from tasks.executor import hold, slowly

KEY = b"of these tests only"
PATIENCE = 30.0


@pytest.fixture
def pool() -> Iterator[dq.Executor]:
    with dq.Executor(max_workers=2) as pool:
        yield pool


def test_calls_from_many_threads_have_each_their_own_result(pool: dq.Executor) -> None:
    def some(first: int) -> list[int]:
        return [pool.submit(pow, n, 2).result(PATIENCE) for n in range(first, first + 50)]

    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(some, range(0, 400, 50)))
    assert [value for values in found for value in values] == [n * n for n in range(400)]


def test_an_argument_of_any_size_comes_back(pool: dq.Executor) -> None:
    for size in (0, 1000, 16 * 1024, 17 * 1024, 10_000_000):
        assert pool.submit(bytes.upper, bytes(size)).result(PATIENCE) == bytes(size)


def test_an_argument_that_cannot_be_pickled_fails_that_call_alone(pool: dq.Executor) -> None:
    assert pool.submit(abs, -1).result(PATIENCE) == 1  # whoever waits is there by now
    with pytest.raises(dq.TaskError, match="cannot be pickled"):
        pool.submit(len, threading.Lock()).result(PATIENCE)
    assert pool.submit(abs, -2).result(PATIENCE) == 2


def test_a_callback_may_submit_another_call(pool: dq.Executor) -> None:
    second: Future[Future[int]] = Future()
    first = pool.submit(abs, -1)
    first.add_done_callback(lambda done: second.set_result(pool.submit(abs, -1 - done.result())))
    assert second.result(PATIENCE).result(PATIENCE) == 2


def test_calls_end_as_they_do(pool: dq.Executor) -> None:
    slow = pool.submit(time.sleep, 0.5)
    quick = [pool.submit(abs, -n) for n in range(10)]
    assert not wait([slow, *quick], PATIENCE).not_done
    assert [call.result() for call in [slow, *quick]] == [None, *range(10)]


def test_a_call_that_was_cancelled_before_it_ended_has_no_result(pool: dq.Executor) -> None:
    busy = [pool.submit(time.sleep, 0.3) for _ in range(4)]
    late = pool.submit(abs, -1)
    assert late.cancel()
    with pytest.raises(CancelledError):
        late.result(PATIENCE)
    wait(busy, PATIENCE)


@pytest.mark.parametrize("how", ["each", "all"])
def test_calls_that_were_cancelled_before_a_worker_had_them_are_not_made(
    tmp_path: Path, how: str
) -> None:
    with dq.Executor(max_workers=1) as pool:
        first = pool.submit(hold, tmp_path)
        wait_until((tmp_path / "held").exists, PATIENCE)
        calls = [pool.submit(Path.touch, tmp_path / str(n)) for n in range(50)]
        kept = pool.submit(Path.touch, tmp_path / "kept")
        if how == "each":
            assert all(call.cancel() for call in calls)
        else:
            pool.shutdown(wait=False, cancel_futures=True)
        (tmp_path / "go").touch()
        assert not wait([first, kept, *calls], PATIENCE).not_done
    made = {path.name for path in tmp_path.iterdir()}
    assert made == {"held", "go"} | ({"kept"} if how == "each" else set())


def test_a_call_that_was_cancelled_is_none_that_failed(tmp_path: Path) -> None:
    with dq.Executor(max_workers=1, max_failures=1) as pool:
        first = pool.submit(hold, tmp_path)
        wait_until((tmp_path / "held").exists, PATIENCE)
        cancelled, last = pool.submit(abs, -1), pool.submit(abs, -2)
        assert cancelled.cancel()
        (tmp_path / "go").touch()
        assert not wait([first, cancelled], PATIENCE).not_done
        assert last.result(PATIENCE) == 2
        assert pool.submit(abs, -3).result(PATIENCE) == 3


class Hand:
    """A worker's connection, answered by hand."""

    def __init__(self, port: int, name: str) -> None:
        who = {"role": "slot", "group": name, "name": f"{name}:1"}
        self.client = Client(("127.0.0.1", port), KEY, **who)
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.took: list[int] = []

    def serve(self) -> None:
        report = None
        try:
            while True:
                state, grant, _ = self.client.exchange(report, 1, PATIENCE)
                if state == "stop":
                    return
                report = None
                if grant is not None:
                    self.took.append(grant.start)
                    ((_, args, _kwds),) = batches.load(grant.blob)  # type: ignore[misc]  # one call
                    done = (Done(1, batches.dump([-args[0]]), 0.0),)
                    report = ReportMessage(self.client.run, grant.lease, grant.start, done, 0, 0.0)
        except dq.ConnectError:
            return
        finally:
            self.client.close()


@contextmanager
def by_hand() -> Iterator[tuple[dq.Master, dq.Executor, int]]:
    with dq.Master(host="127.0.0.1", port=0, authkey=KEY) as master:
        port = master.address[1]
        assert isinstance(port, int)
        with dq.Executor(master=master) as pool:
            yield master, pool, port


def test_a_call_handed_to_a_worker_that_has_just_gone_is_another_ones() -> None:
    with by_hand() as (master, pool, port):
        honest, gone = Hand(port, "honest"), Hand(port, "gone")
        for count, hand in enumerate([honest, gone], 1):  # the newest is given the first
            hand.thread.start()
            wait_until(lambda count=count: len(master.runtime.dispatcher.pending) == count)
        gone.client.channel.shutdown()
        assert pool.submit(abs, 5).result(PATIENCE) == -5
        assert (honest.took, gone.took) == ([0], [])
        assert pool.submit(abs, 6).result(PATIENCE) == -6


def test_a_callback_that_waits_for_another_call_holds_up_nothing_else() -> None:
    """Callbacks run in the thread that has received the result."""
    with by_hand() as (master, pool, port):
        hands = [Hand(port, f"hand{n}") for n in range(2)]
        for count, hand in enumerate(hands, 1):
            hand.thread.start()
            wait_until(lambda count=count: len(master.runtime.dispatcher.pending) == count)
        nested: list[int] = []
        first: Future[int] = pool.submit(abs, 5)
        first.add_done_callback(lambda _: nested.append(pool.submit(abs, 6).result(PATIENCE)))
        wait_until(lambda: bool(nested), PATIENCE)
        assert (first.result(PATIENCE), nested) == (-5, [-6])


def test_calls_while_requests_are_looked_at_are_all_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """Now and then a thread looks whose time is up among the requests that wait."""
    monkeypatch.setattr("dq.dispatch.hand_outs.LIVENESS_CHECK_S", 0.002)
    with by_hand() as (_, pool, port):
        hands = [Hand(port, f"hand{n}") for n in range(4)]
        for hand in hands:
            hand.thread.start()
        until = time.monotonic() + 0.5
        count = 0
        while time.monotonic() < until:
            some = [pool.submit(abs, n) for n in range(count % 7)]
            assert [one.result(PATIENCE) for one in some] == [-n for n in range(count % 7)]
            count += 1
        assert sorted(n for hand in hands for n in hand.took) == list(
            range(sum(n % 7 for n in range(count)))
        )


def test_a_call_that_no_worker_can_do_raises(tmp_path: Path) -> None:
    """Its module is there for the program alone."""
    (tmp_path / "app.py").write_text("import sys\nassert sys.argv[0] == 'me'\ndef f(x): ...\n")
    source = (
        "import sys\nsys.argv[0] = 'me'\nimport app, dq\nsys.argv[0] = 'another'\n"
        "with dq.Executor(1) as pool:\n"
        "    call = pool.submit(app.f, 1)\n"
        "    try:\n        call.result()\n    except dq.BadTask as error:\n        print(error)\n"
        "    print(pool.submit(abs, -1).result())\n"
    )
    (tmp_path / "work.py").write_text(source)
    done = script(tmp_path / "work.py")
    said, value = done.stdout.splitlines()
    assert "cannot load app:f: cannot import app: app.py line 2: AssertionError" in said
    assert (value, done.returncode) == ("1", 0), done.stderr


@pytest.mark.slow
def test_calls_raise_where_workers_cannot_start() -> None:
    code = """
import concurrent.futures, sys, dq
sys.executable = "/bin/false"
with dq.Executor(1) as pool:
    try:
        pool.submit(abs, -1).result()
    except dq.DqError as error:
        print(error, isinstance(error, concurrent.futures.BrokenExecutor))
"""
    done = python(code)
    expected = r"broken: task processes end as soon as they start .+ True$"
    assert re.search(expected, done.stdout), done.stderr


def test_shutdown_without_waiting_leaves_its_calls_to_end() -> None:
    with dq.Executor(max_workers=1) as pool:
        calls = [pool.submit(slowly, n) for n in range(3)]
        pool.shutdown(wait=False)
        assert not all(call.done() for call in calls)
        with pytest.raises(RuntimeError, match="after shutdown"):
            pool.submit(abs, -1)
    assert [call.result(0) for call in calls] == [0, 1, 2]


def test_a_program_ends_after_the_calls_of_a_pool_that_it_shut_down() -> None:
    code = """
import dq, time
pool = dq.Executor(1)
call = pool.submit(time.sleep, 0.3)
call.add_done_callback(lambda call: print("ended", call.exception()))
pool.shutdown(wait=False)
"""
    done = python(code)
    assert (done.stdout, done.returncode) == ("ended None\n", 0), done.stderr


def test_calls_raise_when_their_master_is_closed() -> None:
    with dq.Master(workers=0) as master:
        pool = dq.Executor(master=master)
        call, cancelled = pool.submit(abs, -1), pool.submit(abs, -2)
        assert cancelled.cancel()
    with pytest.raises(dq.Stopped, match="the master was closed"):
        call.result(PATIENCE)
    assert not wait([cancelled], PATIENCE).not_done
    with pytest.raises(RuntimeError, match="after shutdown"):
        pool.submit(abs, -1)
    pool.shutdown()


def test_what_a_master_calls_workers_is_said_to_be_max_workers_here() -> None:
    with pytest.raises(TypeError, match="are max_workers, not workers"):
        dq.Executor(workers=2)
