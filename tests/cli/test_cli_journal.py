"""`--journal`, `--retry-failed` and `dq journal`, as somebody at a terminal sees them."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from support import DQ, Running
from support import run as sh
from support.warm import dq

SWITCH = """
import os

def work(x):
    with open("log", "a") as log:
        log.write(f"{x}\\n")
    if x in (2, 5) and not os.path.exists("mended"):
        raise ValueError(f"no {x} today")
    return x * 10
"""


@pytest.fixture
def folder(project: Path) -> Path:
    (project / "switch.py").write_text(SWITCH)
    return project


def run(folder: Path, *args: str, code: int = 0, task: str = "app:square", **kw: Any) -> Any:
    done = dq("run", task, *args, "--journal", "j", "-w", "1", cwd=folder, **kw)
    assert done.returncode == code, done.stderr
    return done


def journal(folder: Path, *args: str, code: int = 0) -> Any:
    done = dq("journal", *args, cwd=folder)
    assert done.returncode == code, done.stderr
    return done


def runs(folder: Path) -> list[str]:
    return (folder / "log").read_text().split()


# The same command again


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("name", "then", "now", "said"),
    [
        ("in.txt", "1\n2\n3\n4\n", "1\n2\n7\n4\n", "in.txt line 3 is not what it was"),
        ("in.csv", "a,b\n1,2\n3,4\n", "a,b\n1,2\n3,5\n", "in.csv line 3 is not what it was"),
        ("in.jsonl", "1\n\n2\n\n3\n", "1\n\n2\n\n4\n", "in.jsonl line 5 is not what it was"),
        ("in.csv", "a,b\n1,2\n", "b,a\n1,2\n", "is the journal of another run"),
        ("in.txt", "1\n2\n3\n", "1\n2\n", "there are 2 inputs, and the journal j has 3"),
        ("in.txt", "1\n2\n3\n", "", "there are 0 inputs, and the journal j has 3"),
    ],
    ids=["line", "row", "blanks", "header", "fewer", "none"],
)
def test_a_changed_file_is_refused(folder: Path, name: str, then: str, now: str, said: str) -> None:
    (folder / name).write_text(then)
    run(folder, "--input", name, task="app:echo")
    (folder / name).write_text(now)
    done = run(folder, "--input", name, task="app:echo", code=2)
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_changed_argument_is_refused(folder: Path) -> None:
    run(folder, "1", "2", "3")
    assert "the input of task 1 is not what it was" in run(folder, "1", "5", "3", code=2).stderr


@pytest.mark.parametrize("first", ["a file", "arguments"])
def test_inputs_that_come_from_elsewhere_are_refused_with_both_places_named(
    folder: Path, first: str
) -> None:
    (folder / "in.txt").write_text("1\n2\n3\n")
    ways = {"a file": ("--input", "in.txt"), "arguments": ("1", "2", "3")}
    [second] = ways.keys() - {first}
    run(folder, *ways[first])
    said = run(folder, *ways[second], code=2).stderr
    assert f"j is the journal of inputs from {first}, and this run's are from {second}" in said
    assert "not what it was" not in said
    assert run(folder, *ways[first]).stdout == "1\n4\n9\n"


def test_a_list_of_lines_and_a_table_are_told_apart_as_such(folder: Path) -> None:
    (folder / "in.csv").write_text("x\n1\n")
    run(folder, "1", task="app:echo")
    said = run(folder, "--input", "in.csv", task="app:echo", code=2).stderr
    assert "with inputs lines from arguments where this one has csv from a file" in said


def test_inputs_may_be_added_at_the_end(folder: Path) -> None:
    (folder / "in.txt").write_text("1\n2")
    run(folder, "--input", "in.txt", task="switch:work", code=1)
    (folder / "in.txt").write_text("1\n2\n3\n4\n")
    assert run(folder, "--input", "in.txt", task="switch:work", code=1).stdout == "10\n30\n40\n"
    assert runs(folder) == ["1", "2", "3", "4"]


@pytest.mark.parametrize(
    "args", [("--raw",), ("--unpack",), ("--format", "jsonl")], ids=lambda args: args[0]
)
def test_another_way_of_calling_is_refused(folder: Path, args: tuple[str, ...]) -> None:
    run(folder, "[1]", task="app:echo")
    assert "of another run" in run(folder, "[1]", *args, task="app:echo", code=2).stderr


def test_another_task_is_refused_and_named(folder: Path) -> None:
    run(folder, "1")
    said = run(folder, "1", task="app:echo", code=2).stderr
    assert "with task app:square where this one has app:echo" in said


def test_what_is_not_a_journal_is_refused_and_left_alone(folder: Path) -> None:
    (folder / "j").write_text("1\n2\n")
    assert "j is damaged, or no journal" in run(folder, "1", code=2).stderr
    assert (folder / "j").read_text() == "1\n2\n"


@pytest.mark.sampled(3)
@pytest.mark.parametrize("output", ["j", "./j", "j-wal", "j-shm", "link"])
def test_results_do_not_take_the_journals_place(folder: Path, output: str) -> None:
    run(folder, "1")
    before = (folder / "j").read_bytes()
    (folder / "link").symlink_to("j")
    said = run(folder, "1", "-o", output, code=2).stderr
    assert said == f"dq: --output {output} is a file of the journal j: give another --output\n"
    assert (folder / "j").read_bytes() == before


def test_a_journal_is_not_read_as_inputs(folder: Path) -> None:
    (folder / "j").touch()
    assert "give another --input" in run(folder, "-i", "j", code=2).stderr
    assert (folder / "j").read_bytes() == b""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no ulimit there")
def test_a_limit_on_the_size_of_files_is_named(folder: Path) -> None:
    command = f"ulimit -f 8; exec {sys.executable} -m dq run app:square 1 --journal j -w 1"
    done = sh("sh", "-c", command, cwd=folder)
    assert done.returncode == 4
    assert done.stderr.startswith("dq: cannot use the journal j: disk I/O error (no file may be ")
    assert done.stderr.endswith("here: ulimit -f)\n")


def test_jsonl_comes_again_as_it_was(folder: Path) -> None:
    args = ("1", "2", "3", "--format", "jsonl")
    first = run(folder, *args, task="switch:work", code=1)
    assert run(folder, *args, task="switch:work", code=1).stdout == first.stdout


# Failures


def test_a_failure_is_not_run_again(folder: Path) -> None:
    first = run(folder, "1", "2", "3", task="switch:work", code=1)
    (folder / "mended").touch()
    again = run(folder, "1", "2", "3", task="switch:work", code=1)
    assert (again.stdout, runs(folder)) == (first.stdout, ["1", "2", "3"])
    assert "task 1 (2) failed: ValueError: no 2 today" in again.stderr


def test_retry_failed_runs_the_failures_again_and_nothing_else(folder: Path) -> None:
    numbers = [str(x) for x in range(8)]
    run(folder, *numbers, task="switch:work", code=1)
    (folder / "mended").touch()
    again = run(folder, *numbers, "--retry-failed", task="switch:work")
    assert again.stdout.split() == [str(x * 10) for x in range(8)]
    assert runs(folder)[8:] == ["2", "5"]


def test_retry_failed_needs_a_journal(folder: Path) -> None:
    done = dq("run", "app:square", "1", "--retry-failed", cwd=folder)
    assert (done.returncode, done.stderr) == (2, "dq: --retry-failed goes with --journal FILE\n")


def test_attempts_are_those_of_the_first_run(folder: Path) -> None:
    args = ("2", "--retries", "2", "--format", "jsonl")
    run(folder, *args, task="switch:work", code=1)
    again = run(folder, *args, task="switch:work", code=1)
    assert json.loads(again.stdout)["attempts"] == 3
    assert "failed after 3 attempts" in again.stderr


def test_fail_fast_ends_again_where_it_ended(folder: Path) -> None:
    args = ("1", "2", "3", "4", "--fail-fast", "--batch", "1")
    run(folder, *args, task="switch:work", code=4)
    ran = runs(folder)
    assert "1 task(s) failed" in run(folder, *args, task="switch:work", code=4).stderr
    assert runs(folder) == ran


def test_a_bad_line_is_skipped_again(folder: Path) -> None:
    (folder / "in.jsonl").write_text("1\n{\n3\n")
    args = ("--input", "in.jsonl", "--skip-bad", "--format", "jsonl")
    first = run(folder, *args)
    again = run(folder, *args)
    assert again.stdout == first.stdout
    assert "skipped in.jsonl line 2 is not JSON" in again.stderr
    assert ", 1 skipped" in again.stderr


def test_a_bad_line_that_ended_a_run_can_be_skipped_by_the_next(folder: Path) -> None:
    (folder / "in.jsonl").write_text("1\n{\n3\n")
    run(folder, "--input", "in.jsonl", code=2)
    assert run(folder, "--input", "in.jsonl", "--skip-bad").stdout == "1\n9\n"


# dq journal


def test_a_summary_has_counts_and_failures(folder: Path) -> None:
    run(folder, "1", "2", "3", task="switch:work", code=1)
    assert journal(folder, "j").stdout == (
        "switch:work, with lines in and text out\n"
        "2 done, 1 failed\n"
        "tasks 0-2\n"
        "task 1 (2) failed: ValueError: no 2 today\n"
        "1 x ValueError in work (switch.py:8): task 1 (2)\n"
    )


def test_failures_are_listed_with_their_inputs(folder: Path) -> None:
    (folder / "in.csv").write_text("x,y\n1,a\n2,b\n3,c\n")
    source = "def f(row):\n    if row['x'] == 2: raise ValueError('no 2')\n    return 1\n"
    (folder / "table.py").write_text(source)
    args = ("--input", "in.csv", "--failures", "failed.jsonl")
    done = run(folder, *args, task="table:f", code=1)
    assert 'dq: task 1 (in.csv line 3: {"x": 2, "y": "b"}) failed: ValueError: no 2' in done.stderr
    assert journal(folder, "j", "--failed").stdout == (
        'task 1 ({"x": 2, "y": "b"}) failed: ValueError: no 2\n'
    )
    listed = journal(folder, "j", "--failed", "--format", "jsonl").stdout
    assert listed == (folder / "failed.jsonl").read_text()
    assert json.loads(listed)["input"] == {"x": 2, "y": "b"}


def test_a_summary_shows_ten_failures_and_each_group(folder: Path) -> None:
    run(folder, *map(str, range(40)), task="app:fail", code=1)
    shown = journal(folder, "j").stdout.splitlines()
    assert len([line for line in shown if " failed: " in line]) == 10
    assert "30 more failed; --failed lists each of them" in shown
    assert shown[-1].startswith("40 x ValueError in fail (")
    assert shown[-1].endswith("): task 0 (0), task 1 (1), task 2 (2), ...")
    assert len(journal(folder, "j", "--failed").stdout.splitlines()) == 40


def test_what_could_not_be_read_has_not_failed(folder: Path) -> None:
    (folder / "in.jsonl").write_text("1\n{\n3\n")
    run(folder, "--input", "in.jsonl", "--skip-bad")
    assert "\n2 done, 0 failed, 1 unreadable\n" in journal(folder, "j").stdout
    assert journal(folder, "j", "--failed").stdout == ""


def test_failures_that_are_run_again_are_not_listed(folder: Path) -> None:
    run(folder, "1", "2", "3", task="switch:work", code=1)
    (folder / "mended").touch()
    run(folder, "1", "2", "3", "--retry-failed", task="switch:work")
    assert journal(folder, "j", "--failed").stdout == ""


def test_a_journal_from_before_inputs_were_kept_is_shown_and_continued(folder: Path) -> None:
    run(folder, "1", "2", "3", task="switch:work", code=1)
    with closing(sqlite3.connect(folder / "j")) as db:
        db.execute("DROP TABLE failed_inputs")
        db.commit()
    (folder / "j-wal").unlink(missing_ok=True)
    assert journal(folder, "j", "--failed").stdout == "task 1 failed: ValueError: no 2 today\n"
    again = run(folder, "1", "2", "3", "4", task="switch:work", code=1)
    assert again.stdout == "10\n30\n40\n"
    assert "dq: task 1 (2) failed: ValueError: no 2 today" in again.stderr


def test_a_changed_input_of_a_failure_is_refused(folder: Path) -> None:
    run(folder, "1", "2", "3", task="switch:work", code=1)
    with closing(sqlite3.connect(folder / "j")) as db:
        db.execute("UPDATE failed_inputs SET input = '3'")
        db.commit()
    assert "j is damaged" in journal(folder, "j", code=2).stderr


def test_inputs_of_failures_are_saved_from_a_damaged_journal(folder: Path) -> None:
    run(folder, "1", "2", "3", task="switch:work", code=1)
    journal(folder, "j", "--recover", "new")
    listed = journal(folder, "new", "--failed").stdout
    assert listed == "task 1 (2) failed: ValueError: no 2 today\n"


def test_records_of_a_jsonl_run_are_those_that_it_printed(folder: Path) -> None:
    done = run(folder, "1", "3", "--format", "jsonl", task="switch:work")
    assert journal(folder, "j", "--format", "jsonl").stdout == done.stdout


def test_records_of_a_text_run_have_what_is_there(folder: Path) -> None:
    run(folder, "1", "2", task="switch:work", code=1)
    one, two = map(json.loads, journal(folder, "j", "--format", "jsonl").stdout.splitlines())
    assert (one["id"], one["result"], one["attempts"]) == (0, "10", 1)
    assert (two["id"], two["error"]["message"]) == (1, "no 2 today")
    assert "Traceback" in two["error"]["traceback"]


def test_values_of_more_than_a_line_are_left_out_where_they_cannot_be_told_apart(
    folder: Path,
) -> None:
    run(folder, '"a\\nb"', '"c"', "--batch", "2", task="app:echo")
    records = [json.loads(x) for x in journal(folder, "j", "--format", "jsonl").stdout.splitlines()]
    assert [record["id"] for record in records] == [0, 1]
    assert [record.get("result") for record in records] in ([None, None], ["a\nb", "c"])


def test_looking_changes_nothing(folder: Path) -> None:
    run(folder, "1", "2")
    before = (folder / "j").read_bytes()
    names = sorted(os.listdir(folder))
    journal(folder, "j")
    journal(folder, "j", "--format", "jsonl")
    assert (folder / "j").read_bytes() == before
    assert sorted(os.listdir(folder)) == names


@pytest.mark.parametrize("args", [(), ("--format", "jsonl"), ("--recover", "new")])
def test_a_journal_that_is_not_there_is_said_and_not_made(
    folder: Path, args: tuple[str, ...]
) -> None:
    done = journal(folder, "j", *args, code=2)
    assert done.stderr == "dq: cannot open the journal j: no such file\n"
    assert not (folder / "j").exists()


def test_a_damaged_journal_is_saved_and_goes_on(folder: Path) -> None:
    numbers = [str(x) for x in range(10, 400)]
    whole = run(folder, *numbers, "--batch", "1", task="switch:work").stdout
    data = bytearray((folder / "j").read_bytes())
    data[5 * 4096 : 6 * 4096] = bytes(4096)
    (folder / "j").write_bytes(data)
    assert "`dq journal j --recover NEW` saves" in journal(folder, "j", code=2).stderr
    said = journal(folder, "j", "--recover", "new").stdout
    assert "saved the outcomes of " in said
    assert "lost: those of tasks " in said
    (folder / "j").unlink()
    (folder / "new").rename(folder / "j")
    assert run(folder, *numbers, task="switch:work").stdout == whole
    assert 390 < len(runs(folder)) < 500


@pytest.mark.parametrize(
    ("args", "shown"),
    [
        ((), "1 done, 0 failed"),
        (("--format", "jsonl"), '"result": "1"'),
        (("--recover", "new"), "saved the outcomes of 1 task"),
    ],
)
def test_a_link_shows_what_the_log_beside_its_file_has(
    folder: Path, args: tuple[str, ...], shown: str
) -> None:
    """A master that was killed has left all of it in the log."""
    (folder / "elsewhere").mkdir()
    (folder / "link").symlink_to("elsewhere/j")
    argv = (*DQ, "run", "app:echo", "-i", "-", "--journal", "link", "-w", "1")
    with Running(*argv, cwd=folder, stdin=subprocess.PIPE) as running:
        running.write("1\n")
        running.wait_for("^1$", stream="stdout")
    assert shown in journal(folder, "link", *args).stdout


def test_what_is_no_file_is_no_journal(folder: Path) -> None:
    said = "dq: cannot open the journal .: it is no regular file\n"
    assert journal(folder, ".", code=2).stderr == said


@pytest.mark.parametrize("args", [(), ("--format", "jsonl")])
def test_an_empty_file_is_a_journal_of_no_outcomes(folder: Path, args: tuple[str, ...]) -> None:
    (folder / "j").touch()
    shown = journal(folder, "j", *args).stdout
    assert shown == ("" if args else "empty: no input has an outcome yet\n")
    assert run(folder, "3").stdout == "9\n"


def test_recover_writes_over_nothing(folder: Path) -> None:
    run(folder, "1")
    (folder / "new").write_text("mine")
    assert "new exists" in journal(folder, "j", "--recover", "new", code=2).stderr
    assert (folder / "new").read_text() == "mine"


def test_recover_of_garbage_leaves_nothing(folder: Path) -> None:
    (folder / "j").write_bytes(os.urandom(50_000))
    assert "nothing can be saved" in journal(folder, "j", "--recover", "new", code=2).stderr
    assert not list(folder.glob("new*"))


def test_other_inputs_end_a_run_with_one_line(project: Path) -> None:
    for inputs in ("1\n2\n", "2\n3\n"):
        (project / "in.txt").write_text(inputs)
        done = dq("run", "app:square", "-i", "in.txt", "--journal", "j", "-w", "1", cwd=project)
    assert done.returncode == 2
    assert done.stderr == (
        "dq: in.txt line 1 is not what it was when the journal was written; give another"
        " --journal\n"
    )


def test_a_changed_function_is_said_and_its_results_stay(project: Path) -> None:
    (project / "work.py").write_text("def f(x):\n    return x\n")
    run = ("run", "work:f", "1", "2", "--journal", "j", "-w", "1", "-q")
    assert dq(*run, cwd=project).stderr == ""
    assert dq(*run, cwd=project).stderr == ""
    (project / "work.py").write_text("def f(x):\n    return -x\n")
    done = dq(*run, cwd=project)
    assert (done.returncode, done.stdout) == (0, "1\n2\n")
    assert "work.py is not what it was when the journal j was begun: the results" in done.stderr


def test_a_line_that_was_mended_is_run_with_retry_failed(project: Path) -> None:
    (project / "in.jsonl").write_text("1\nno\n3\n")
    run = ("run", "app:square", "-i", "in.jsonl", "--journal", "j", "-w", "1", "-q")
    done = dq(*run, cwd=project)
    assert done.returncode == 2
    assert "once it can be read, the same command with --retry-failed goes on" in done.stderr
    (project / "in.jsonl").write_text("1\n2\n3\n")
    assert dq(*run, "--retry-failed", cwd=project).stdout == "1\n4\n9\n"
