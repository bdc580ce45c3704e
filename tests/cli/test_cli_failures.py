"""Tasks that fail: attempts, time-outs, limits, exit codes, what is said."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from support.warm import dq

# Fails until it has been called as often as its input says; keeps the time of each call.
STUBBORN = """
import time

def f(times):
    with open(f"{times}.calls", "a") as calls:
        calls.write(f"{time.monotonic()}\\n")
    if len(calls_of(times)) < times:
        raise OSError("not yet")
    return times

def calls_of(times):
    with open(f"{times}.calls") as calls:
        return [float(line) for line in calls]
"""


@pytest.fixture
def stubborn(project: Path) -> Path:
    (project / "stubborn.py").write_text(STUBBORN)
    return project


def test_fill_stands_in_place_of_what_failed_so_that_lines_match(project: Path) -> None:
    argv = ("run", "app:boom_at_7", "6", "7", "8", "-w", "1", "--fill", "n/a")
    done = dq(*argv, "--journal", "j", cwd=project)
    assert (done.returncode, done.stdout) == (1, "6\nn/a\n8\n")
    assert dq(*argv, "--journal", "j", cwd=project).stdout == done.stdout
    assert dq(*argv, "-o", "out.txt", cwd=project).returncode == 1
    assert (project / "out.txt").read_text() == done.stdout


def test_fill_stands_for_inputs_that_were_skipped_too(project: Path) -> None:
    argv = ("run", "app:echo", "-i", "-", "--input-format", "jsonl", "--skip-bad", "--fill", "")
    assert dq(*argv, cwd=project, input="1\nx\n3\n").stdout == "1\n\n3\n"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--fill", "x", "-f", "jsonl"), "--fill goes with --format text"),
        (("--fill", "x", "-o", "out.jsonl"), "--fill goes with --format text"),
        (("--fill", "x\ny"), "--fill has more than one line"),
    ],
)
def test_a_fill_that_cannot_match_is_refused(
    project: Path, args: tuple[str, ...], message: str
) -> None:
    done = dq("run", "app:echo", "1", *args, cwd=project)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"dq: {message}")


@pytest.mark.parametrize(
    ("body", "given", "word"),
    [
        ("open(x).read()", "77", "the input is a number: --raw keeps it a string"),
        ("open(x['name']).read()", '{"name": 77}', "the input has a number in it: --raw keeps"),
        ("x.strip()", "5", "the input is a number: --raw keeps it a string"),
        ("os.path.join('a', x)", "5", "the input is a number: --raw keeps it a string"),
        ("x.upper_case()", "5", None),
        ("open(99)", "word", None),
    ],
)
def test_a_number_taken_for_a_name_is_told_of_raw(
    project: Path, body: str, given: str, word: str | None
) -> None:
    (project / "named.py").write_text(f"import os\ndef f(x):\n    return {body}\n")
    done = dq("run", "named:f", given, "-w", "1", "-q", cwd=project)
    assert done.returncode == 1
    assert ("--raw" in done.stderr) == (word is not None)
    assert word is None or word in done.stderr


def records(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


def test_a_failed_task_is_said_and_the_others_go_on(project: Path) -> None:
    done = dq("run", "app:boom_at_7", "6", "7", "8", "-w", "1", cwd=project)
    assert (done.returncode, done.stdout) == (1, "6\n8\n")
    first, group, last = done.stderr.splitlines()
    assert first == "dq: task 1 (7) failed: ValueError: seven"
    assert re.fullmatch(r"dq: 1 x ValueError in boom_at_7 \(app\.py:\d+\): task 1 \(7\)", group)
    assert last.startswith("dq: 2 done in ")
    assert last.endswith(", 1 failed")


@pytest.mark.parametrize(
    ("given", "read"), [("in.txt", "in.txt"), ("-", "standard input"), ("gone.txt", None)]
)
def test_a_files_name_as_the_only_input_is_told_from_the_files_lines(
    project: Path, given: str, read: str | None
) -> None:
    (project / "in.txt").write_text("1\n2\n")
    done = dq("run", "math:sqrt", given, cwd=project)
    assert done.returncode == 1
    hint = f"dq: the input was the string {given!r}; --input {given} reads the lines of {read}\n"
    assert done.stderr.endswith(hint) == (read is not None)


def test_a_failed_line_of_a_file_is_named(project: Path) -> None:
    (project / "in.jsonl").write_text("6\n\n7\n")
    done = dq("run", "app:boom_at_7", "-i", "in.jsonl", "-w", "1", cwd=project)
    assert "dq: task 1 (in.jsonl line 3: 7) failed: ValueError: seven" in done.stderr


def test_only_so_many_failures_are_shown_one_by_one(project: Path) -> None:
    done = dq("run", "app:fail", *map(str, range(50)), "-w", "1", cwd=project)
    assert done.returncode == 1
    assert done.stderr.count("failed: ValueError") == 10
    assert "dq: 40 more failed; --failures FILE writes each of them\n" in done.stderr
    assert "dq: 0 done in " in done.stderr
    assert done.stderr.endswith(", 50 failed\n")


def test_each_group_of_failures_is_a_line_at_the_end(project: Path) -> None:
    """By type, and by where in the user's own code; not in a library that it calls."""
    (project / "groups.py").write_text(
        "import json\n"
        "def f(x):\n"
        "    if x % 3 == 0: raise ValueError(x)\n"
        "    if x % 3 == 1: json.loads('{')\n"
        "    return g(x)\n"
        "def g(x):\n"
        "    if x > 10: raise KeyError(x)\n"
        "    return x\n"
    )
    (project / "in.txt").write_text("".join(f"{n}\n" for n in range(15)))
    done = dq("run", "groups:f", "-i", "in.txt", "-w", "1", cwd=project)
    assert done.stderr.splitlines()[-5:-1] == [
        "dq: 2 more failed; --failures FILE writes each of them",
        "dq: 5 x ValueError in f (groups.py:3): task 0 (in.txt line 1: 0),"
        " task 3 (in.txt line 4: 3), task 6 (in.txt line 7: 6), ...",
        "dq: 5 x JSONDecodeError in f (groups.py:4): task 1 (in.txt line 2: 1),"
        " task 4 (in.txt line 5: 4), task 7 (in.txt line 8: 7), ...",
        "dq: 2 x KeyError in g (groups.py:7): task 11 (in.txt line 12: 11),"
        " task 14 (in.txt line 15: 14)",
    ]


def test_a_long_input_is_shortened(project: Path) -> None:
    done = dq("run", "app:fail", "x" * 1000, "-q", cwd=project)
    assert done.stderr.startswith(f'dq: task 0 ("{"x" * 36}...) failed: ValueError')


def test_failures_are_written_with_their_inputs_and_are_inputs(project: Path) -> None:
    given = ["7", '"7"', '{"a": [7, null]}', "8"]
    (project / "picky.py").write_text(
        "import os\n"
        "def f(x):\n"
        "    if x != 8 and not os.path.exists('mended'): raise ValueError(x)\n"
        "    return repr(x)\n"
    )
    argv = ("run", "picky:f", "-w", "1", "--failures", "failed.jsonl")
    done = dq(*argv, *given, cwd=project)
    assert (done.returncode, done.stdout) == (1, "8\n")
    written = records((project / "failed.jsonl").read_text())
    assert [record["id"] for record in written] == [0, 1, 2]
    assert [record["input"] for record in written] == [7, "7", {"a": [7, None]}]
    assert {record["error"]["type"] for record in written} == {"ValueError"}  # type: ignore[index]
    (project / "mended").touch()
    again = dq(*argv, "--input", "failed.jsonl", "--field", "input", cwd=project)
    assert (again.returncode, again.stdout) == (0, "7\n'7'\n{'a': [7, None]}\n")
    assert (project / "failed.jsonl").read_text() == ""


def test_failures_of_a_run_that_ends_early_are_kept(project: Path) -> None:
    argv = ("run", "app:fail", "1", "2", "3", "--fail-fast", "-w", "1", "--batch", "1")
    done = dq(*argv, "--failures", "failed.jsonl", cwd=project)
    assert done.returncode == 4
    [record] = records((project / "failed.jsonl.part").read_text())
    assert record["input"] == 1
    assert not (project / "failed.jsonl").exists()


def test_an_input_that_was_too_large_is_not_taken_for_null(project: Path) -> None:
    (project / "in.txt").write_text("x" * 2000 + "\n")
    argv = ("run", "app:echo", "-i", "in.txt", "--max-message", "1K", "--failures", "failed.jsonl")
    assert dq(*argv, cwd=project).returncode == 1
    again = dq("run", "app:echo", "-i", "failed.jsonl", "--field", "input", cwd=project)
    assert again.returncode == 2
    assert "dq: failed.jsonl line 1 has no field 'input'; --skip-bad" in again.stderr


def test_a_field_of_each_row_or_record_may_be_the_input(project: Path) -> None:
    (project / "in.csv").write_text('n,name\n1,one\n2,"t,wo"\n')
    (project / "in.jsonl").write_text('{"n": [1]}\n{"m": 2}\n[3]\n{"n": null}\n')
    argv = ("run", "app:echo", "-w", "1")
    done = dq(*argv, "-i", "in.csv", "--field", "name", cwd=project)
    assert (done.returncode, done.stdout) == (0, "one\nt,wo\n")
    done = dq(*argv, "-i", "in.jsonl", "--field", "n", "--skip-bad", cwd=project)
    assert (done.returncode, done.stdout) == (0, "[1]\nNone\n")
    assert "dq: skipped in.jsonl line 2 has no field 'n'\n" in done.stderr
    assert "dq: skipped in.jsonl line 3 has no field 'n'\n" in done.stderr


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("1", "--field", "n"), "--field goes with --input FILE"),
        (("-i", "in.txt", "--field", "n"), "--field goes with records, and in.txt has lines"),
    ],
)
def test_a_field_of_what_has_none_is_refused(
    project: Path, args: tuple[str, ...], said: str
) -> None:
    (project / "in.txt").write_text("1\n")
    done = dq("run", "app:echo", *args, cwd=project)
    assert done.returncode == 2
    assert said in done.stderr


def test_skipped_lines_do_not_count_as_failures(project: Path) -> None:
    (project / "in.jsonl").write_text("1\n{\n{\n{\n2\n")
    argv = ("run", "app:echo", "-i", "in.jsonl", "--skip-bad", "--max-failures", "2", "-w", "1")
    done = dq(*argv, cwd=project)
    assert (done.returncode, done.stdout) == (0, "1\n2\n")
    assert re.fullmatch(r"dq: 2 done in \S+, 3 skipped", done.stderr.splitlines()[-1])


def test_a_task_that_fails_is_not_tried_again_unless_asked(stubborn: Path) -> None:
    assert dq("run", "stubborn:f", "2", "-w", "1", cwd=stubborn).returncode == 1
    assert (stubborn / "2.calls").read_text().count("\n") == 1


def test_retries_are_further_attempts(stubborn: Path) -> None:
    argv = ("run", "stubborn:f", "3", "1", "-w", "1", "--retries", "2", "-f", "jsonl")
    done = dq(*argv, cwd=stubborn)
    assert done.returncode == 0, done.stderr
    assert [(r["result"], r["attempts"]) for r in records(done.stdout)] == [(3, 3), (1, 1)]


def test_a_task_that_fails_each_time_says_how_often(stubborn: Path) -> None:
    argv = ("run", "stubborn:f", "9", "-w", "1", "--retries", "2", "-f", "jsonl")
    done = dq(*argv, cwd=stubborn)
    assert done.returncode == 1
    assert "dq: task 0 (9) failed after 3 attempts: OSError: not yet" in done.stderr
    [record] = records(done.stdout)
    assert record["attempts"] == 3


def test_a_retry_delay_is_waited(stubborn: Path) -> None:
    argv = ("run", "stubborn:f", "3", "-w", "1", "--retries", "2", "--retry-delay", "300ms")
    assert dq(*argv, cwd=stubborn).returncode == 0
    first, second, third = map(float, (stubborn / "3.calls").read_text().splitlines())
    assert second - first >= 0.3
    assert third - second >= 0.3


def test_others_are_worked_on_during_a_retry_delay(stubborn: Path) -> None:
    argv = ("run", "stubborn:f", "2", "1", "-w", "1", "--retries", "1", "--retry-delay", "1s")
    done = dq(*argv, "--unordered", cwd=stubborn)
    assert (done.returncode, done.stdout) == (0, "1\n2\n")


def test_a_task_over_its_time_is_ended_and_the_others_are_not(project: Path) -> None:
    argv = ("run", "app:sleepy", "600", "0", "0.01", "--timeout", "500ms", "-w", "2")
    done = dq(*argv, cwd=project)
    assert (done.returncode, done.stdout) == (1, "0\n0.01\n")
    assert "dq: task 0 (600) failed: TimeoutError: ran longer than 0.5 s" in done.stderr


def test_a_timed_out_task_is_retried(project: Path) -> None:
    source = (
        "import os, time\n"
        "def f(x):\n"
        "    if not os.path.exists('been'):\n"
        "        open('been', 'w').close()\n"
        "        time.sleep(600)\n"
        "    return x\n"
    )
    (project / "once.py").write_text(source)
    argv = ("run", "once:f", "1", "--timeout", "0.5", "--retries", "1", "-w", "1")
    done = dq(*argv, cwd=project)
    assert (done.returncode, done.stdout) == (0, "1\n")


def test_fail_fast_stops_at_the_first_failure(project: Path) -> None:
    argv = ("run", "app:log_and_fail", *map(str, range(100)), "--fail-fast", "-w", "1")
    source = (project / "app.py").read_text()
    (project / "app.py").write_text(source + "\ndef log_and_fail(x):\n    log(x)\n    fail(x)\n")
    done = dq(*argv, cwd=project, env={"DQ_TEST_LOG": str(project / "log")})
    assert done.returncode == 4
    assert done.stderr.splitlines()[-1] == "dq: stopped before the end: 1 task(s) failed"
    assert len((project / "log").read_text().splitlines()) == 1


def test_max_failures_stops_at_so_many(project: Path) -> None:
    given = map(str, range(100))
    argv = ("run", "app:fail", *given, "--max-failures", "3", "-w", "1", "--batch", "1")
    done = dq(*argv, "-f", "jsonl", cwd=project)
    assert done.returncode == 4
    assert len(done.stdout.splitlines()) == 3
    assert done.stderr.splitlines()[-1].startswith("dq: stopped before the end: 3 task(s) failed; ")


@pytest.mark.parametrize("limit", [("--fail-fast",), ("--max-failures", "2")])
def test_a_run_whose_tasks_all_have_an_outcome_was_not_stopped(
    project: Path, limit: tuple[str, ...]
) -> None:
    given = ("7", "7", "8", "7", "7")
    done = dq("run", "app:boom_at_7", *given, *limit, "-w", "1", "--batch", "5", cwd=project)
    assert (done.returncode, done.stdout) == (1, "8\n")
    *failures, group, last = done.stderr.splitlines()
    assert len(failures) == 4
    assert group.startswith("dq: 4 x ValueError in ")
    assert "1 done" in last
    assert last.endswith("4 failed")


def test_a_run_that_was_stopped_says_how_many_failed_in_the_end(project: Path) -> None:
    given = ("7", "7", "7", "8", "8", "8")
    done = dq("run", "app:boom_at_7", *given, "--fail-fast", "-w", "1", "--batch", "3", cwd=project)
    assert done.returncode == 4
    assert done.stderr.splitlines()[-1] == "dq: stopped before the end: 3 task(s) failed"


def test_fewer_failures_than_max_failures_do_not_stop_a_run(project: Path) -> None:
    argv = ("run", "app:boom_at_7", "6", "7", "8", "--max-failures", "2", "-w", "1")
    done = dq(*argv, cwd=project)
    assert (done.returncode, done.stdout) == (1, "6\n8\n")


def test_quiet_says_failures_and_nothing_else(project: Path) -> None:
    done = dq("run", "app:boom_at_7", "6", "7", "-q", "-w", "1", cwd=project)
    assert done.returncode == 1
    assert done.stderr == "dq: task 1 (7) failed: ValueError: seven\n"


@pytest.mark.parametrize("call", ["sys.exit(3)", "raise KeyboardInterrupt", "raise GeneratorExit"])
def test_an_exception_that_ends_programs_fails_only_its_task(project: Path, call: str) -> None:
    source = f"import sys\ndef f(x):\n    if x == 2:\n        {call}\n    return x\n"
    (project / "leave.py").write_text(source)
    done = dq("run", "leave:f", "1", "2", "3", "-w", "1", cwd=project)
    assert (done.returncode, done.stdout) == (1, "1\n3\n")
    assert "dq: task 1 (2) failed: " in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unpacked_input_that_does_not_fit_fails_alone(project: Path) -> None:
    done = dq("run", "app:add", "--unpack", "[1]", "5", "[1, 2]", "-w", "1", cwd=project)
    assert (done.returncode, done.stdout) == (1, "3\n")
    assert "task 0 ([1]) failed: TypeError: add() missing 1 required" in done.stderr
    assert "task 1 (5) failed: TypeError: --unpack needs a list or a mapping" in done.stderr
