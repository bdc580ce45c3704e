"""Jobs on a master that stays: `dq.connect`."""

from __future__ import annotations

import asyncio
import datetime
import os
import platform
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import dq
from support import Running, wait_until
from support.jobs import keeping_jobs, outcomes, wait_for_outcomes
from support.process import SERVING
from tasks.jobs import Point, picky, point, square, with_env, x_of


@pytest.fixture
def client(tmp_path: Path) -> Iterator[dq.Client]:
    with keeping_jobs(tmp_path / "jobs") as found:
        yield found


def test_results_can_be_fetched_as_often_as_wanted(client: dq.Client) -> None:
    job = client.submit(square, range(20), name="squares")
    assert list(job.values()) == [x * x for x in range(20)]
    assert [(r.id, r.input, r.value) for r in job.results()] == [(x, x, x * x) for x in range(20)]
    assert {r.id for r in job.results(ordered=False)} == {*range(20)}
    status = job.status()
    assert (status.number, status.name, status.state) == (1, "squares", "done")
    assert (status.total, status.done, status.failed, status.exit_code) == (20, 20, 0, 0)


def test_a_job_is_found_by_its_number_and_by_its_name(client: dq.Client) -> None:
    client.submit(square, [1], name="small")
    client.submit(square, [1, 2])
    assert [status.total for status in client.jobs()] == [1, 2]
    assert client.job("small").number == client.job(1).number == 1
    assert client.job("last").number == 2
    with pytest.raises(dq.UsageError, match="there is no job 9"):
        client.job(9)


@pytest.mark.parametrize("name", ["7", "3-7", "all", "last", "-x", "a\nb", "9lives"])
def test_a_name_that_would_stand_for_something_else_is_refused(
    client: dq.Client, name: str
) -> None:
    with pytest.raises(dq.UsageError):
        client.submit(square, [1], name=name)
    assert client.jobs() == []


def test_values_and_inputs_of_any_class_go_through(client: dq.Client) -> None:
    day = datetime.date(2026, 1, 2)
    assert list(client.submit(str, [day]).values()) == ["2026-01-02"]
    assert [one.x for one in client.submit(point, [3, 4]).values()] == [3, 4]
    assert list(client.submit(x_of, [Point(5)]).values()) == [5]
    offset = 10
    assert list(client.submit(lambda x: x + offset, [1, 2]).values()) == [11, 12]
    array = np.arange(100_000)
    [doubled] = client.submit(lambda a: a + array, [array]).values()
    assert (doubled == 2 * array).all()


def test_constants_and_unpacked_inputs_are_arguments(client: dq.Client) -> None:
    assert list(client.submit(int, ["ff"], constants={"base": 16}).values()) == [255]
    assert list(client.submit(pow, [[2, 5], [3, 2]], unpack=True).values()) == [32, 9]


def test_a_job_without_inputs_is_done(client: dq.Client) -> None:
    job = client.submit(square, [])
    assert job.wait(30).state == "done"
    assert list(job.values()) == []


def test_an_input_that_cannot_be_pickled_is_named_and_no_job_is_begun(client: dq.Client) -> None:
    with pytest.raises(dq.UsageError, match="the input of task 1 cannot be pickled"):
        client.submit(square, [1, threading.Lock()])
    assert client.jobs() == []


def test_a_function_that_takes_no_input_is_refused_at_once(client: dq.Client) -> None:
    with pytest.raises(dq.BadTask):
        client.submit(lambda: 3, [1])
    with pytest.raises(dq.BadTask):
        client.submit("math:squareroot", [1])


def test_failures_are_grouped_and_run_again(
    client: dq.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mended = tmp_path / "mended"
    job = client.submit(lambda x: with_env(str(mended), x), range(10))
    assert job.wait(60).state == "failed"
    groups = job.failures()
    assert [(g.number, g.type, g.count, g.ids, g.input) for g in groups] == [
        (1, "ValueError", 2, (3, 8), 3),
        (2, "KeyError", 1, (7,), 7),
    ]
    assert groups[0].place.startswith("picky (")
    mended.touch()
    assert job.retry(groups[0].ids) == 2
    assert job.wait(60).state == "failed"
    assert [group.type for group in job.failures()] == ["KeyError"]
    attempts = {r.id: r.attempts for r in job.results()}
    assert (attempts[3], attempts[4], attempts[7]) == (2, 1, 1)
    assert job.retry() == 1
    assert job.wait(60).failed == 1
    with pytest.raises(KeyError) as caught:
        list(job.values())
    assert caught.value.args == (7,)
    assert "in picky" in str(caught.value.__cause__)


def test_a_reader_follows_a_job_that_runs(client: dq.Client, tmp_path: Path) -> None:
    gate = str(tmp_path / "gate")

    def wait(x: int) -> int:
        while x == 1 and not os.path.exists(gate):
            time.sleep(0.01)
        return x

    job = client.submit(wait, range(3), batch=1)
    found = job.results()
    assert next(found).id == 0
    assert [r.id for r in job.results(follow=False)] == [0]
    with pytest.raises(TimeoutError):
        job.wait(0)
    assert job.status().state == "running"
    open(gate, "w").close()
    assert [r.id for r in found] == [1, 2]
    assert job.wait(30).ended_well


def test_workers_say_what_they_run(client: dq.Client, tmp_path: Path) -> None:
    gate = str(tmp_path / "gate")

    def wait(x: int) -> int:
        dq.progress(1, 4)
        while not os.path.exists(gate):
            time.sleep(0.01)
        return x

    job = client.submit(wait, [1])
    [worker] = wait_until(  # a beat may come between the task's start and its progress
        lambda: [one for one in client.workers() if [task for task in one.running if task.total]]
    )
    [task] = worker.running
    assert (worker.slots, worker.busy, worker.local) == (1, 1, True)
    assert (task.job, task.index, task.slot, task.done, task.total) == ("1", 0, 0, 1, 4)
    [process] = wait_until(  # a busy machine's may be late
        lambda: [one for one in client.stacks(worker.name) if not one.error]
    )
    assert process.worker == worker.name
    assert [(one.job, one.index) for one in process.running] == [("1", 0)]
    assert "in wait" in process.text
    with pytest.raises(dq.UsageError, match="worker must be a string, not 3"):
        client.stacks(3)  # type: ignore[arg-type]
    with pytest.raises(dq.UsageError, match="no worker 'nobody:1'"):
        client.stacks("nobody:1")
    assert not client.drain(worker.name)  # the master's own
    assert not client.drain("nobody:1")
    open(gate, "w").close()
    assert job.wait(30).ended_well


def test_what_tasks_print_is_kept(client: dq.Client, capfd: pytest.CaptureFixture[str]) -> None:
    def chatty(x: int) -> None:
        print(f"hello {x}")

    job = client.submit(chatty, range(3))
    found = list(job.lines(follow=True))
    assert sorted(line.partition(" ")[2] for line in found) == [
        f"task {x}: hello {x}" for x in range(3)
    ]
    assert list(job.lines()) == found
    assert list(client.submit(square, [1]).lines(follow=True)) == []
    assert "hello 2" in capfd.readouterr().err  # of a worker that the master has started itself


def test_what_a_job_has_printed_is_there_once_it_has_ended(client: dq.Client) -> None:
    for x in range(3):
        job = client.submit(lambda x: print("this is", x), [x])
        job.wait(30)
        [line] = job.lines()  # though it comes later than the outcome
        assert line.endswith(f"this is {x}")


def test_what_the_board_needs_to_know_outlives_the_master(tmp_path: Path) -> None:
    path, order = tmp_path / "jobs", tmp_path / "order"

    def note(x: str) -> None:
        with open(order, "a") as file:
            file.write(f"{x}\n")

    with keeping_jobs(path, workers=0) as client:
        client.submit(note, ["tagged"], needs={"gpu"}, priority=2)
        client.submit(note, ["last"])
        client.submit(note, ["first"], priority=1, rate="50/s", speculate=True)
    with keeping_jobs(path) as client:
        assert client.job(3).wait(60).state == client.job(2).wait(60).state == "done"
        assert order.read_text().split() == ["first", "last"]
        status = client.job(1).status()
        assert (status.state, status.priority) == ("waiting", 2)
        assert "gpu" in status.why_not[0]


def test_each_worker_is_asked_whether_it_has_a_task(client: dq.Client) -> None:
    wait_until(client.workers)
    [found] = client.probe("json:loads")
    assert found["error"] == ""
    assert found["file"].endswith("json/__init__.py")
    assert found["python"] == platform.python_version()
    assert len(found["digest"]) == 32
    [found] = client.probe(lambda x: x)
    assert (found["error"], found["file"]) == ("", "")
    assert client.jobs() == []


def test_a_worker_that_lacks_a_task_says_so(
    client: dq.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here_alone.py").write_text("def f(x): return x")
    wait_until(client.workers)
    monkeypatch.syspath_prepend(tmp_path)
    [found] = client.probe("here_alone:f")
    assert "no module 'here_alone'" in found["error"]
    sys.modules.pop("here_alone", None)


def test_a_worker_without_a_free_slot_has_no_answer(client: dq.Client, tmp_path: Path) -> None:
    started = str(tmp_path / "started")

    def work(x: int) -> None:
        open(started, "w").close()
        time.sleep(3600)

    job = client.submit(work, [1])
    wait_until(lambda: os.path.exists(started))
    wait_until(client.workers)  # its process may be faster than its supervisor
    [found] = client.probe("json:loads", timeout=0.2)
    assert found.keys() == {"worker"}
    job.cancel()


def test_a_cancelled_job_ends_what_runs_and_keeps_what_is_done(
    client: dq.Client, tmp_path: Path
) -> None:
    started = str(tmp_path / "started")

    def work(x: int) -> int:
        if x == 1:
            open(started, "w").close()
            time.sleep(3600)
        return x

    job = client.submit(work, range(5), batch=1)
    wait_until(lambda: os.path.exists(started))
    wait_for_outcomes(job, 1)
    assert job.cancel()
    assert not job.cancel()
    status = job.wait(30)
    assert (status.state, status.exit_code) == ("cancelled", 4)
    with pytest.raises(dq.Stopped, match="cancelled"):
        list(job.values())
    assert list(client.submit(square, [3]).values()) == [9]  # the slot is at work again


def test_a_job_that_fails_too_often_is_stopped(client: dq.Client) -> None:
    job = client.submit(picky, [3] * 10, max_failures=2, batch=1)
    status = job.wait(60)
    assert (status.state, status.failed, status.exit_code) == ("stopped", 2, 4)
    assert "2 task(s) failed" in status.reason


@pytest.mark.parametrize("is_cancelled", [False, True])
def test_a_job_that_ended_early_goes_on_when_its_failed_tasks_are_run_again(
    client: dq.Client, tmp_path: Path, is_cancelled: bool
) -> None:
    mended = tmp_path / "mended"

    def task(x: int) -> int:
        while x == 5 and is_cancelled and not mended.exists():
            time.sleep(0.01)
        return with_env(str(mended), x)

    limit = None if is_cancelled else 1
    job = client.submit(task, [1, 2, 3, 4, 5, 6], batch=1, max_failures=limit)
    wait_until(lambda: job.status().failed == 1)
    if is_cancelled:
        job.cancel()
    assert job.wait(60).state == ("cancelled" if is_cancelled else "stopped")
    mended.touch()
    assert job.retry() == 1
    status = job.wait(60)
    assert (status.state, status.done, status.reason) == ("done", 6, "")
    assert list(job.values()) == [1, 2, 3, 4, 5, 6]


def test_a_job_that_was_cancelled_goes_on_although_none_of_its_tasks_failed(
    client: dq.Client, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"

    def task(x: int) -> int:
        while x == 2 and not gate.exists():
            time.sleep(0.01)
        return x

    job = client.submit(task, range(6), batch=1)
    wait_until(lambda: job.status().done == 2)
    assert job.retry() == 0  # and changes nothing
    job.cancel()
    assert job.wait(60).state == "cancelled"
    gate.touch()
    assert job.retry([]) == 0
    assert job.status().state == "cancelled"
    assert job.retry() == 0
    assert job.wait(60).state == "done"
    assert list(job.values()) == [0, 1, 2, 3, 4, 5]
    assert job.retry() == 0
    assert job.status().state == "done"


def test_a_job_that_was_cancelled_before_its_first_task_goes_on_too(tmp_path: Path) -> None:
    with keeping_jobs(tmp_path / "jobs", workers=0) as client:
        job = client.submit(square, range(3))
        job.cancel()
        assert job.wait(60).state == "cancelled"
        assert job.retry() == 0
    with keeping_jobs(tmp_path / "jobs") as client:  # it is on disk that it goes on
        assert client.job(1).wait(60).state == "done"


def test_a_job_goes_on_once_the_one_that_it_follows_has_succeeded(
    client: dq.Client, tmp_path: Path
) -> None:
    mended, gate = tmp_path / "mended", tmp_path / "gate"

    def task(x: int) -> int:
        while mended.exists() and not gate.exists():
            time.sleep(0.01)
        return with_env(str(mended), x)

    first = client.submit(task, [3])
    second = client.submit(square, [2, 3], after=[first])
    assert second.wait(60).state == "cancelled"
    words = "job 1 that job 2 was to follow has not succeeded: retry that one first"
    with pytest.raises(dq.UsageError, match=words):
        second.retry()
    with pytest.raises(dq.UsageError, match="job 2, which follows job 1, has not succeeded"):
        first.forget()
    mended.touch()
    assert first.retry() == 1
    assert second.retry() == 0
    assert second.status().state == "waiting"
    gate.touch()
    assert second.wait(60).state == "done"
    assert list(second.values()) == [4, 9]


def test_tasks_that_still_run_when_their_job_goes_on_count_once(tmp_path: Path) -> None:
    ran, mended, gate = tmp_path / "ran", tmp_path / "mended", tmp_path / "gate"

    def task(x: int) -> int:
        with open(ran, "a") as log:
            print(x, file=log)
        while x and not gate.exists():
            time.sleep(0.01)
        if not x and not mended.exists():
            raise ValueError(x)
        return x

    with keeping_jobs(tmp_path / "jobs", workers=2) as client:
        job = client.submit(task, range(4), batch=1, max_failures=1)
        wait_until(lambda: job.status().failed == 1)
        mended.touch()
        assert job.retry() == 1
        # A task of the first round runs on beside those of the second one.
        wait_until(lambda: len(ran.read_text().split()) >= 3)
        gate.touch()
        status = job.wait(60)
        assert (status.state, status.done, status.failed) == ("done", 4, 0)
        assert [result.value for result in job.results()] == [0, 1, 2, 3]


def test_a_job_waits_for_the_one_that_it_follows(client: dq.Client, tmp_path: Path) -> None:
    gate = str(tmp_path / "gate")

    def wait(x: int) -> int:
        while not os.path.exists(gate):
            time.sleep(0.01)
        return x

    first = client.submit(wait, [1])
    second = client.submit(square, [2], after=[first])
    third = client.submit(picky, [3], after=[second])
    fourth = client.submit(square, [4], after=[third.number])
    status = second.status()
    assert status.state == "waiting"
    assert status.why_not[0] == "it waits for job 1"
    open(gate, "w").close()
    assert list(second.values()) == [4]
    assert third.wait(60).state == "failed"
    assert fourth.wait(60).state == "cancelled"
    assert "job 3 that it was to follow has not succeeded" in fourth.status().reason


def test_a_forgotten_job_is_gone_and_its_number_is_not_used_again(client: dq.Client) -> None:
    job = client.submit(square, [1])
    job.wait(30)
    job.forget()
    assert client.jobs() == []
    with pytest.raises(dq.UsageError, match="there is no such job"):
        job.status()
    assert client.submit(square, [1]).number == 2


def test_a_job_that_runs_is_not_forgotten(client: dq.Client) -> None:
    job = client.submit(time.sleep, [3600])
    with pytest.raises(dq.UsageError, match="cancel it first"):
        job.forget()
    job.cancel()


def test_a_job_is_not_forgotten_while_another_that_follows_it_has_not_ended(
    client: dq.Client,
) -> None:
    first = client.submit(square, [1])
    second = client.submit(time.sleep, [3600], after=[first])
    first.wait(30)
    with pytest.raises(dq.UsageError, match="job 2, which follows job 1, has not ended"):
        first.forget()
    second.cancel()
    second.wait(30)
    first.forget()


def test_a_job_runs_again_although_the_one_that_it_followed_is_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "jobs"
    with keeping_jobs(path) as client:
        first = client.submit(square, [1])
        client.submit(picky, [3], after=[first]).wait(60)
        first.forget()
    with keeping_jobs(path, workers=0) as client:
        assert client.job(2).retry() == 1
    with keeping_jobs(path) as client:
        assert client.job(2).wait(60).state == "failed"
        assert [result.attempts for result in client.job(2).results()] == [2]


def test_results_come_by_async_for(client: dq.Client) -> None:
    job = client.submit(square, range(5))

    async def collect() -> list[int]:
        return [result.value or 0 async for result in job]

    assert asyncio.run(collect()) == [0, 1, 4, 9, 16]


def test_a_master_started_again_goes_on_with_the_same_jobs(tmp_path: Path) -> None:
    path = tmp_path / "jobs"
    with keeping_jobs(path) as client:
        done = client.submit(picky, range(10), retries=1)
        done.wait(60)
        before = outcomes(done)
    with keeping_jobs(path, workers=0) as client:  # nothing runs here
        waiting = client.submit(square, range(1000))
        assert waiting.status().why_not == ("no worker is connected",)
    with keeping_jobs(path) as client:
        assert outcomes(client.job(1)) == before
        assert list(client.job(2).values()) == [x * x for x in range(1000)]


STAYS = """
import logging, sys, dq
logging.basicConfig(level=logging.INFO, format="dq: %(message)s")
dq.run_master(host="127.0.0.1", port=0, authkey="a key for tests only", workers=1, journal="jobs")
print("over")
"""


def test_run_master_without_inputs_keeps_jobs_until_a_client_has_it_stop(tmp_path: Path) -> None:
    for number in (1, 2):
        with Running(sys.executable, "-c", STAYS, cwd=tmp_path) as master:
            port = int(master.wait_for(SERVING)["port"])
            with dq.connect("127.0.0.1", port, authkey="a key for tests only") as client:
                job = client.submit("math:sqrt", [4])
                assert (job.number, list(job.values())) == (number, [2.0])
                client.stop()
            master.wait_for("over", stream="stdout")
            assert master.wait() == 0


def test_a_master_with_inputs_of_its_own_keeps_no_jobs() -> None:
    with dq.Master(host="127.0.0.1", port=0, authkey="a key for tests only") as master:
        assert not isinstance(master.address, str)
        with pytest.raises(dq.ProtocolError, match="keeps no jobs"):
            dq.connect(*master.address, authkey="a key for tests only")


def test_a_client_that_was_closed_says_so(client: dq.Client) -> None:
    job = client.submit(square, [1])
    client.close()
    for call in (client.jobs, job.status):
        with pytest.raises(dq.ConnectError, match="the connection to the master was closed"):
            call()


def test_an_option_that_there_is_not_is_named(client: dq.Client) -> None:
    with pytest.raises(TypeError, match=r"^Client\.submit\(\) got an unexpected .* 'typo'$"):
        client.submit("math:sqrt", [1], typo=1)  # type: ignore[call-arg]


def test_jobs_to_follow_are_given_as_a_list(client: dq.Client) -> None:
    with pytest.raises(dq.UsageError, match=r"after is a list of jobs, such as \['squares'\]"):
        client.submit(square, [1], after="squares")
