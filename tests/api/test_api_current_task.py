"""What a task knows of itself, and what it says of its progress."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import dq
from support import wait_until
from tasks.current_task import (
    hardly_anything,
    in_a_thread,
    once,
    refused,
    results_that_ask,
    slot_and_process,
    steps,
    who,
    who_awaits,
)


@pytest.fixture
def master() -> Iterator[dq.Master]:
    with dq.Master(workers=2, threads=2) as master:
        yield master


@pytest.mark.parametrize("function", [who, who_awaits])
def test_a_task_knows_which_it_is(master: dq.Master, function: object) -> None:
    found: list[tuple[int, dq.CurrentTask | None]]
    found = list(master.map(function, range(0, 600, 3)))  # type: ignore[arg-type]
    tasks = [task for _, task in found]
    assert [task.id for task in tasks if task] == list(range(200))
    [job] = {task.job for task in tasks if task}
    assert job
    assert {task.slot for task in tasks if task} <= {0, 1, 2, 3}
    workers = {task.slot: task.worker for task in tasks if task}
    for slot, worker in workers.items():
        assert workers.get(slot ^ 1, worker) == worker, "slots 0 and 1 are of one process"


def test_it_is_exact_for_very_short_tasks(master: dq.Master) -> None:
    found = list(master.map(hardly_anything, range(100_000)))
    assert [pair for pair in found if pair] == [(x, x) for x in range(0, 100_000, 97)]


def test_a_second_attempt_is_known_as_one(tmp_path: Path) -> None:
    assert dq.run(once, [tmp_path / "once"], workers=1) == [2]


def test_a_replacement_has_the_slot_of_its_predecessor() -> None:
    found = dq.run(slot_and_process, range(12), workers=2, max_tasks=2, batch=1)
    assert {slot for slot, _ in found} == {("0", 0), ("1", 1)}
    assert len({pid for _, pid in found}) >= 6


def test_there_is_none_outside_of_a_task(master: dq.Master) -> None:
    assert dq.current_task() is None
    dq.progress(1)
    assert list(master.map(in_a_thread, [1])) == [[None]]
    assert list(master.map(results_that_ask, [1, 2])) == ["None", "None"]


def test_it_is_there_where_tasks_run_in_the_calling_process() -> None:
    found = dq.run(who, [5, 6], workers=0)
    assert [task and task.id for _, task in found] == [0, 1]
    assert dq.current_task() is None


@pytest.mark.parametrize("arguments", [(-1,), (1, -1), (float("nan"),)])
def test_progress_that_is_none_is_refused(arguments: tuple[float, ...]) -> None:
    [result] = dq.run(refused, [arguments], workers=1)
    assert result == "progress needs numbers from 0 on"


def test_the_master_sees_what_its_workers_run_and_how_far_that_is(tmp_path: Path) -> None:
    with dq.Master(workers=1) as master:
        values = master.map(steps, [tmp_path / "go"])
        presence = master.runtime.dispatcher.presence
        wait_until(lambda: [one for one in presence.workers() if one.running])
        task = wait_until(lambda: [one for one in presence.workers()[0].running if one.done])[0]
        assert (task.slot, task.index, task.done, task.total) == (0, 0, 3, 7)
        [worker] = presence.workers()
        assert (worker.slots, worker.busy, worker.local) == (1, 1, True)
        assert worker.memory > 1_000_000
        assert worker.dq == dq.__version__
        (tmp_path / "go").touch()
        assert list(values)
