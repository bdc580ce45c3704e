"""Tasks that do what tasks should not: each a clear failure, or harmless to all others."""

from __future__ import annotations

from pathlib import Path

import pytest

import dq as api
from faults import hazards as tasks
from faults.scene import Hazards, gone, kill
from support import alive, wait_until

INPUTS = [*range(10), "bad", *range(10, 20)]
ONE_BATCH = ("-w", "1", "--batch", "30")  # bystanders in the same process, before and after

RAISING = {
    "raises_two_arguments": ("TwoArguments", "one and two"),
    "raises_no_str": ("NoStr", "str() raised RuntimeError"),
    "raises_exiting_str": ("ExitingStr", "str() raised SystemExit"),
    "raises_no_init": ("LookupError", "no init"),
    "raises_no_reduce": ("NoReduce", "plain"),
    "raises_system_exit": ("SystemExit", "enough"),
    "raises_keyboard_interrupt": ("KeyboardInterrupt", ""),
    "exits_0": ("SystemExit", "0"),
}

HARMLESS = [
    "interrupts_itself",
    "leaves_thread",
    "closes_all",
    "closes_high",
    "closes_pipes",
    "changes_folder",
    "closes_stdout",
    "replaces_stdout",
    "changes_recursion_limit",
    "ignores_signals",
    "forks_and_returns",
    "forks_and_exits",
    "handles_signals",
    "blocks_signals",
    "buries_children",
    "captures_stdout",
    "breaks_stdout",
    "clears_environment",
    "shortens_socket_timeout",
    "lowers_descriptor_limit",
    "leaves_threads",
    "leaves_loop",
    "replaces_exit",
    "forks_many",
    "forks_and_fails",
    "forks_and_execs",
]


@pytest.mark.parametrize("task", RAISING)
def test_whatever_a_task_raises_is_one_failed_record_with_its_words(
    hazards: Hazards, task: str
) -> None:
    kind, words = RAISING[task]
    history = hazards.run(task, INPUTS, *ONE_BATCH, code=1).check(failed={"bad": kind})
    error = history.record("bad")["error"]
    assert words in error["message"]
    assert history.extra == 0
    assert len(history.pids) == 1  # the process lives


def test_a_failure_shows_the_tasks_own_frames_only(hazards: Hazards) -> None:
    history = hazards.run("raises_no_init", ["bad"], "-w", "1", code=1)
    traceback = history.record("bad")["error"]["traceback"]
    assert "hazards.py" in traceback
    assert str(Path(api.__file__).parent) not in traceback


@pytest.mark.sampled(8)
@pytest.mark.parametrize("task", HARMLESS)
def test_a_mark_left_on_the_process_harms_no_other_task(hazards: Hazards, task: str) -> None:
    inputs = [*INPUTS, *range(20, 60)]
    # What a thread keeps from its end is ended after that second.
    history = hazards.run(task, inputs, *ONE_BATCH, "--grace", "1").check()
    assert {record["attempts"] for record in history.records} == {1}
    assert history.extra == 0


def test_a_low_recursion_limit_is_taken_back_before_the_next_batch(hazards: Hazards) -> None:
    history = hazards.run("lowers_recursion_limit", INPUTS, "-w", "1", "--batch", "1").check()
    assert history.extra == 0
    assert len(history.pids) == 1


def test_a_low_recursion_limit_fails_at_most_the_next_task_of_its_batch(hazards: Hazards) -> None:
    history = hazards.run("lowers_recursion_limit", INPUTS, *ONE_BATCH, code=1)
    history.check(failed={10: "RecursionError"})
    assert history.extra == 0
    assert len(history.pids) == 1


GONE = {"becomes_daemon": "ended with exit code 0", "execs": "ended with exit code 0"}


@pytest.mark.parametrize("task", GONE)
def test_a_task_that_goes_on_in_another_process_is_failed_and_only_it(
    hazards: Hazards, task: str
) -> None:
    history = hazards.run(task, INPUTS, *ONE_BATCH, "--max-deaths", "2", code=1)
    history.check(failed={"bad": "WorkerDied"})
    assert GONE[task] in history.record("bad")["error"]["message"]
    assert history.runs["bad"] == 2
    assert {record["attempts"] for record in history.records if "result" in record} == {1}


def test_a_task_that_becomes_a_program_which_stays_is_ended_by_its_timeout(
    hazards: Hazards,
) -> None:
    history = hazards.run("execs_and_stays", INPUTS, *ONE_BATCH, "--timeout", "1", code=1)
    history.check(failed={"bad": "TimeoutError"})
    assert history.runs["bad"] == 1
    assert {record["attempts"] for record in history.records} == {1}
    gone(*history.pids)


def test_a_daemon_that_a_task_starts_is_nobodys(hazards: Hazards) -> None:
    history = hazards.run("daemonizes", INPUTS, *ONE_BATCH).check()
    daemon = int(wait_until(hazards.gate.read_text))
    assert alive(daemon)  # it meant to be left alone
    kill(daemon)
    assert history.extra == 0
    assert len(history.pids) == 1


def test_what_tasks_leave_to_be_called_at_exit_does_not_keep_a_worker(hazards: Hazards) -> None:
    with (
        hazards.serving("leaves_atexit", ["bad", 1]) as (master, port),
        hazards.worker(port, "-p", "1", "--grace", "1") as worker,
    ):
        assert [master.wait(), worker.wait()] == [0, 0], worker.printed
    assert "has waited 1 s at its end for what is registered with atexit" in worker.stderr_text
    hazards.history(["bad", 1], master.stdout_text).check()


def test_what_a_task_prints_goes_to_standard_error(hazards: Hazards) -> None:
    history = hazards.run("prints", [1, 2, 3], "-w", "1").check()
    for x in (1, 2, 3):
        assert f"printed by {x}\n" in hazards.stderr
        assert f"echoed by {x}\n" in hazards.stderr
    assert len(history.records) == 3


def test_processes_that_tasks_leave_are_gone_after_the_run(hazards: Hazards) -> None:
    history = hazards.run("leaves_child", list(range(6)), "-w", "2").check()
    gone(*[record["result"]["child"] for record in history.records])


def test_processes_that_tasks_leave_are_gone_when_theirs_is_replaced(hazards: Hazards) -> None:
    inputs = ["first", "gated"]
    with hazards.running(
        "leaves_child_or_waits", inputs, "-w", "1", "--max-tasks", "1", "--batch", "1"
    ) as run:
        hazards.wait_for_executions(2)
        left = int(run.wait_for(r'"child": (\d+)', stream="stdout")[1])
        gone(left)
        hazards.open_gate()
        assert run.wait() == 0, run.printed


@pytest.mark.slow
def test_a_thread_that_a_task_leaves_does_not_keep_the_run(hazards: Hazards) -> None:
    history = hazards.run("leaves_thread", ["bad"], "-w", "1", timeout=20).check()
    assert not any(alive(pid) for pid in history.pids)


VALUES = ["gives_unpicklable", "gives_lock", "gives_ununpicklable", "raises_ununpicklable"]


@pytest.mark.parametrize("task", VALUES)
def test_what_cannot_be_pickled_is_one_task_error_in_the_values(task: str) -> None:
    function = getattr(tasks, task)
    values = api.run(function, [1, 2, "bad", 3], workers=1, batch=4, return_exceptions=True)
    assert [values[0], values[1], values[3]] == [1, 2, 3]
    assert isinstance(values[2], api.TaskError)
    assert values[2].result.id == 2
    assert values[2].result.attempts == 1


WORDS = {
    "gives_unpicklable": ("TypeError", "not this one"),
    "gives_lock": ("TypeError", "_thread.lock"),
    "gives_ununpicklable": ("UnpicklingError", "not here"),
    "raises_ununpicklable": ("TwoArguments", "one and two"),
}


@pytest.mark.parametrize("task", VALUES)
def test_what_cannot_be_pickled_says_so_in_the_stream(task: str) -> None:
    kind, words = WORDS[task]
    with api.Master(workers=1, batch=4) as master:
        results = list(master.stream(getattr(tasks, task), [1, 2, "bad", 3]))
    [failed] = [result for result in results if not result.ok]
    assert len(results) == 4
    assert failed.error is not None
    assert failed.input == "bad"
    assert kind in failed.error.type
    assert words in failed.error.message


def test_an_input_that_cannot_be_pickled_is_one_failed_record() -> None:
    inputs = [1, tasks.Unpicklable(), 2, tasks.Ununpicklable(), 3]
    with api.Master(workers=1, batch=5) as master:
        results = sorted(master.stream(tasks.same, inputs), key=lambda result: result.id)
    assert [result.ok for result in results] == [True, False, True, False, True]
    assert "not this one" in str(results[1].error)
    assert "not here" in str(results[3].error)
