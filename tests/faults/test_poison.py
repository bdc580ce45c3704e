"""Tasks that take their process with them: failed at last, and no bystander pays."""

from __future__ import annotations

import pytest

from faults.scene import Hazards
from support import python
from support.warm import dq

ENDS = ["by_sigkill", "by_abort", "by_exit_0", "by_exit_10", "by_exit_12", "by_segfault"]


@pytest.mark.sampled(2)
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


@pytest.mark.parametrize(
    ("task", "limits"),
    [("result_kills", ()), ("result_grows", ("--max-memory", "150M"))],
)
def test_a_result_that_takes_its_process_along_is_charged(
    hazards: Hazards, task: str, limits: tuple[str, ...]
) -> None:
    inputs = [*range(50), "bad", *range(50, 100)]
    history = hazards.run(task, inputs, "-w", "2", "--batch", "20", *limits, code=1)
    history.check(failed={"bad": "WorkerDied"})
    assert history.record("bad")["attempts"] == 3
    assert history.runs["bad"] <= 3 + 2  # with others, until it was seen which one it is


@pytest.mark.slow
@pytest.mark.parametrize("batch", ["1", "7"])
@pytest.mark.parametrize("task", ["result_hangs", "error_hangs"])
def test_a_time_limit_is_also_one_for_what_a_result_says_of_itself(
    hazards: Hazards, task: str, batch: str
) -> None:
    inputs = [*range(10), "bad", *range(10, 20)]
    limits = ("--timeout", "1", "--batch", batch)
    history = hazards.run(task, inputs, "-w", "1", *limits, code=1)
    history.check(failed={"bad": "TimeoutError"})


def test_a_result_that_exits_is_a_failure_of_that_task(hazards: Hazards) -> None:
    inputs = [1, "bad", 2]
    history = hazards.run("result_exits", inputs, "-w", "1", "--batch", "3", code=1)
    history.check(failed={"bad": "SystemExit"})
    assert "killed" not in hazards.stderr


def test_the_text_of_an_exception_may_be_of_any_class(hazards: Hazards) -> None:
    history = hazards.run("error_is_worded", [1, "bad", 2], "-w", "1", code=1)
    history.check(failed={"bad": "Worded"})
    assert history.record("bad")["error"]["message"] == "in so many words"
    assert history.extra == 0


@pytest.mark.parametrize("batch", [1, 3])
def test_an_input_that_takes_its_process_along_is_charged(hazards: Hazards, batch: int) -> None:
    _write_parcel(hazards)
    code = f"""
import dq, parcel
inputs = [1, parcel.Parcel(), 2]
values = dq.run("builtins:str", inputs, workers=1, batch={batch}, return_exceptions=True)
print(values[0], values[1].result.error.type, values[1].result.attempts, values[2])
"""
    done = python(code, cwd=hazards.folder, env=hazards.env)
    assert done.stdout == "1 WorkerDied 3 2\n", done.stderr


def test_an_input_late_in_a_long_batch_is_charged_and_none_before_it(hazards: Hazards) -> None:
    """A worker unpickles a batch like this in parts."""
    _write_parcel(hazards)
    code = """
import dq, parcel
inputs = [*range(21_000), parcel.Parcel(), *range(100)]
with dq.Master(workers=2, batch=len(inputs)) as master:
    results = list(master.stream("builtins:id", inputs))
print([(one.id, one.error.type) for one in results if not one.ok])
print({one.attempts for one in results if one.id < 20_000}, len(results) == len(inputs))
"""
    done = python(code, cwd=hazards.folder, env=hazards.env)
    assert done.stdout == "[(21000, 'WorkerDied')]\n{1} True\n", done.stderr


@pytest.mark.parametrize(("count", "place"), [(100, 50), (30_000, 25_000)])
def test_a_copy_that_an_input_makes_of_its_process_runs_nothing(
    hazards: Hazards, count: int, place: int
) -> None:
    _write_parcel(hazards, "pid = os.fork(); pid and os.waitpid(pid, 0)")
    (hazards.folder / "tally.py").write_text(
        "def tally(x):\n"
        "    if isinstance(x, int) and x % 50 == 1:\n"
        "        with open('tally', 'a') as file:\n            file.write(f'{x}\\n')\n"
    )
    code = f"""
import dq, parcel
inputs = list(range({count}))
inputs[{place}] = parcel.Parcel()
assert dq.run("tally:tally", inputs, workers=1, batch={count}) == [None] * {count}
"""
    done = python(code, cwd=hazards.folder, env=hazards.env)
    assert done.returncode == 0, done.stderr
    assert len((hazards.folder / "tally").read_text().splitlines()) == count // 50


@pytest.mark.slow
def test_a_time_limit_is_also_one_for_unpickling_an_input(hazards: Hazards) -> None:
    _write_parcel(hazards, "time.sleep(600)")
    code = """
import dq, parcel
values = dq.run(
    "builtins:str", [1, parcel.Parcel(), 2], workers=1, batch=1, timeout=0.2, return_exceptions=True
)
print(values[0], values[1].result.error.type, values[1].result.attempts, values[2])
"""
    done = python(code, cwd=hazards.folder, env=hazards.env)
    assert done.stdout == "1 TimeoutError 1 2\n", done.stderr


def _write_parcel(hazards: Hazards, deed: str = "os.abort()") -> None:
    """A module with a class that does this to the process that unpickles one."""
    (hazards.folder / "parcel.py").write_text(
        "import os, sys, time\n"
        "class Parcel:\n"
        "    def __reduce__(self):\n        return opened, ()\n"
        "def opened():\n"
        f"    if 'DQ_SLOT' in os.environ:\n        {deed}\n"
        "    return Parcel()\n"
    )


def test_a_function_whose_import_takes_the_process_along_ends_the_run(hazards: Hazards) -> None:
    (hazards.folder / "abrupt.py").write_text(
        "import os, sys\nif 'DQ_SLOT' in os.environ:\n    os.abort()\ndef f(x):\n    return x\n"
    )
    done = dq("run", "abrupt:f", *map(str, range(20)), "-w", "1", cwd=hazards.folder)
    assert done.returncode == 1
    assert "task processes end as soon as they start (5 in a row)" in done.stderr


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
