"""Tasks that take their process with them: failed at last, and no bystander pays."""

from __future__ import annotations

import pytest

from faults.scene import Hazards
from support import python

ENDS = ["by_sigkill", "by_abort", "by_exit_0", "by_exit_10", "by_exit_12", "by_segfault"]


@pytest.mark.parametrize("task", ENDS)
def test_a_task_that_kills_its_process_is_failed_after_three_deaths(
    hazards: Hazards, task: str
) -> None:
    inputs = [*range(300), "bad", *range(300, 600)]
    history = hazards.run(task, inputs, "-w", "2", "--batch", "50", code=1)
    history.check(failed={"bad": "WorkerDied"})
    assert history.runs["bad"] == history.record("bad")["attempts"] == 3
    assert {record["attempts"] for record in history.records if "result" in record} == {1}
    assert history.extra <= 2 + 3 * 50  # what was done in each dead process and not reported


def test_a_poison_task_is_failed_among_separate_workers_too(hazards: Hazards) -> None:
    inputs = [*range(100), "bad", *range(100, 200)]
    with (
        hazards.serving("by_sigkill", inputs) as (master, port),
        hazards.worker(port, "-p", "2") as one,
        hazards.worker(port, "-p", "2") as other,
    ):
        assert [master.wait(60), one.wait(), other.wait()] == [1, 0, 0], master.printed
    history = hazards.history(inputs, master.stdout_text).check(failed={"bad": "WorkerDied"})
    assert history.runs["bad"] == 3


@pytest.mark.parametrize("most", [1, 5])
def test_max_deaths_says_how_many_processes_a_task_may_take(hazards: Hazards, most: int) -> None:
    inputs = [1, "bad", 2]
    history = hazards.run("by_sigkill", inputs, "-w", "1", "--max-deaths", str(most), code=1)
    history.check(failed={"bad": "WorkerDied"})
    assert history.runs["bad"] == history.record("bad")["attempts"] == most
    assert "SIGKILL" in history.record("bad")["error"]["message"]


def test_retries_do_not_apply_to_deaths(hazards: Hazards) -> None:
    history = hazards.run("by_sigkill", ["bad"], "-w", "1", "--retries", "5", code=1)
    assert history.check(failed={"bad": "WorkerDied"}).runs["bad"] == 3


def test_a_run_of_nothing_but_poison_ends(hazards: Hazards) -> None:
    history = hazards.run("by_exit_0", ["bad"] * 4, "-w", "2", code=1)
    history.check(failed={"bad": "WorkerDied"})
    assert history.runs["bad"] == 12


def test_a_poison_task_among_very_short_ones_takes_three_processes_too(hazards: Hazards) -> None:
    code = """
import dq
values = dq.run("hazards:brief", range(300_000), workers=2, return_exceptions=True)
failed = [(place, value) for place, value in enumerate(values) if value != place]
print([(place, value.result.error.type, value.result.attempts) for place, value in failed])
"""
    done = python(code, cwd=hazards.folder, env=hazards.env)
    assert done.stdout == "[(150000, 'WorkerDied', 3)]\n", done.stderr
    assert len(hazards.log.read_text().splitlines()) == 3


def test_max_memory_ends_a_process_as_a_death(hazards: Hazards) -> None:
    inputs = [1, "bad", 2]
    limits = ("--max-memory", "150M", "--max-deaths", "2")
    history = hazards.run("hog", inputs, "-w", "1", *limits, code=1)
    history.check(failed={"bad": "WorkerDied"})
    assert "grew past" in history.record("bad")["error"]["message"]
    assert history.runs["bad"] == 2


def test_max_tasks_replaces_a_process_without_running_anything_twice(hazards: Hazards) -> None:
    inputs = list(range(40))
    history = hazards.run("short", inputs, "-w", "2", "--max-tasks", "7").check()
    assert history.extra == 0
    assert max(history.pids.values()) <= 7
    assert hazards.stderr == ""


def test_max_tasks_on_a_worker_too(hazards: Hazards) -> None:
    inputs = list(range(30))
    with (
        hazards.serving("short", inputs) as (master, port),
        hazards.worker(port, "-p", "1", "--max-tasks", "10") as worker,
    ):
        assert [master.wait(60), worker.wait()] == [0, 0], worker.printed
    history = hazards.history(inputs, master.stdout_text).check()
    assert max(history.pids.values()) <= 10
    assert history.extra == 0
