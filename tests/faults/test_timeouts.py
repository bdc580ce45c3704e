"""Tasks that do not end: `--timeout` ends them, whatever they hold, and only them."""

from __future__ import annotations

import pytest

from faults.scene import Hazards, gone

ENDLESS = ["never", "never_in_c", "never_in_regex"]
LIMIT = ("--timeout", "2")


@pytest.mark.sampled(1)
@pytest.mark.parametrize("task", ENDLESS)
def test_a_timed_out_task_is_ended_and_only_it_is_charged(hazards: Hazards, task: str) -> None:
    inputs = [*range(20), "bad", *range(20, 40)]
    history = hazards.run(task, inputs, "-w", "1", "--batch", "50", *LIMIT, code=1)
    history.check(failed={"bad": "TimeoutError"})
    assert history.record("bad")["error"]["message"] == "ran longer than 2 s"
    assert {record["attempts"] for record in history.records} == {1}
    assert history.runs["bad"] == 1
    gone(*history.pids)


@pytest.mark.slow
@pytest.mark.parametrize("task", ENDLESS)
def test_retries_apply_to_a_timed_out_task(hazards: Hazards, task: str) -> None:
    history = hazards.run(task, [1, "bad", 2], "-w", "2", *LIMIT, "--retries", "1", code=1)
    history.check(failed={"bad": "TimeoutError"})
    assert history.runs["bad"] == history.record("bad")["attempts"] == 2
    assert history.record(1)["attempts"] == history.record(2)["attempts"] == 1


def test_a_worker_ends_a_timed_out_task_of_its_masters(hazards: Hazards) -> None:
    with (
        hazards.serving("never_in_c", [1, "bad", 2], *LIMIT) as (master, port),
        hazards.worker(port, "-p", "1") as worker,
    ):
        assert [master.wait(), worker.wait()] == [1, 0], master.printed
    hazards.history([1, "bad", 2], master.stdout_text).check(failed={"bad": "TimeoutError"})


def test_what_runs_in_other_threads_of_a_timed_out_process_is_not_charged(
    hazards: Hazards,
) -> None:
    inputs = ["bad", *range(40)]
    limits = ("--timeout", "3", "-t", "3", "-w", "1")
    history = hazards.run("never", inputs, *limits, code=1)
    history.check(failed={"bad": "TimeoutError"})
    assert {record["attempts"] for record in history.records} == {1}


def test_an_endless_task_that_holds_the_lock_keeps_only_its_own_process(hazards: Hazards) -> None:
    inputs = ["bad", *range(30)]
    with hazards.running("never_in_c", inputs, "-w", "2", "--unordered", "--batch", "4") as run:
        run.wait_for(r'"id": 30, ', stream="stdout")
        assert '"bad"' not in run.stdout_text
