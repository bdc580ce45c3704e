"""`--only`: some of the inputs, with the numbers that they have among all."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from support import DQ, Running
from support.warm import dq

KEY = "k" * 16
HOW = [["-w", "2"], ["--here"]]


def run(folder: Path, *args: str, code: int = 0, task: str = "app:echo", **kw: Any) -> Any:
    done = dq("run", task, *args, cwd=folder, **kw)
    assert done.returncode == code, done.stderr
    return done


@pytest.fixture
def folder(project: Path) -> Path:
    (project / "in.txt").write_text("".join(f"{number}\n" for number in range(100, 120)))
    (project / "in.csv").write_text("a,b\n1,2\n\n3,4\n5,6\n")
    return project


@pytest.mark.parametrize("how", HOW, ids=["workers", "here"])
@pytest.mark.parametrize(
    ("only", "ids"),
    [("17", [17]), ("0", [0]), ("17,2-4,3", [2, 3, 4, 17]), ("0-19", range(20)), ("19,0", [0, 19])],
)
def test_only_these_are_run_and_have_their_own_numbers(
    folder: Path, how: list[str], only: str, ids: list[int]
) -> None:
    done = run(folder, "--input", "in.txt", "--only", only, "-f", "jsonl", *how)
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(one["id"], one["result"]) for one in records] == [(id, 100 + id) for id in ids]


def test_arguments_and_rows_have_numbers_too(folder: Path) -> None:
    assert run(folder, "a", "b", "c", "--only", "0,2").stdout == "a\nc\n"
    assert run(folder, "--input", "in.csv", "--only", "1").stdout == "{'a': 3, 'b': 4}\n"


def test_a_failed_task_is_named_with_its_number_and_line(folder: Path) -> None:
    done = run(folder, "--input", "in.csv", "--only", "1", task="app:fail", code=1)
    assert "task 1 (in.csv line 4: " in done.stderr


def test_the_bar_and_the_summary_count_only_these(folder: Path) -> None:
    done = run(folder, "--input", "in.txt", "--only", "3,17", task="app:fail", code=1)
    assert "0 done in" in done.stderr
    assert "2 failed" in done.stderr


def test_no_more_is_read_than_that_takes(folder: Path) -> None:
    argv = (*DQ, "run", "app:echo", "--input", "-", "--only", "1")
    with Running(*argv, cwd=folder, stdin=subprocess.PIPE) as running:
        running.write("a\nb\n")
        assert running.wait() == 0  # though standard input is still open
        assert running.stdout_text == "b\n"


def test_a_master_can_be_told_too(folder: Path) -> None:
    argv = ("master", "app:echo", "a", "b", "--only", "1", "-w", "1", "--port", "0")
    done = dq(*argv, "--authkey", KEY, cwd=folder)
    assert (done.returncode, done.stdout) == (0, "b\n"), done.stderr


@pytest.mark.parametrize("how", HOW, ids=["workers", "here"])
@pytest.mark.parametrize(
    ("args", "results", "said"),
    [
        (["--input", "in.txt", "--only", "20"], "", "--only 20: there are 20 inputs, from 0 to 19"),
        (["--input", "in.txt", "--only", "3,25-30"], "103\n", "--only 25: there are 20 inputs"),
        (["--input", "in.txt", "--only", "18-30"], "118\n119\n", "--only 20: there are 20 inputs"),
        (["a", "b", "--only", "0,2"], "", "--only 2: there are 2 inputs, from 0 to 1"),
        (["a", "--only", "1"], "", "--only 1: there is 1 input, number 0"),
        (["--input", "empty.txt", "--only", "0"], "", "--only 0: there is no input"),
    ],
    ids=["file", "some", "the end", "arguments", "one", "none"],
)
def test_numbers_beyond_the_inputs_are_an_error(
    folder: Path, how: list[str], args: list[str], results: str, said: str
) -> None:
    (folder / "empty.txt").touch()
    done = run(folder, *args, *how, code=2)
    assert done.stdout == results
    assert said in done.stderr
    assert "journal" not in done.stderr


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--only", "x"], "'x' is neither a number nor two, as in 17 or 3,5-8"),
        (["--only", ""], "'' is neither a number nor two"),
        (["--only", "-1"], "neither a number nor two"),
        (["--only", "5-3"], "'5-3' ends before it begins"),
        (["--only", "1", "--journal", "j"], "--only goes with no journal"),
    ],
)
def test_what_cannot_be_selected_is_refused(folder: Path, args: list[str], said: str) -> None:
    done = run(folder, "--input", "in.txt", *args, code=2)
    assert said in done.stderr
    assert not (folder / "j").exists()


def test_a_master_without_inputs_has_nothing_to_select_from(folder: Path) -> None:
    done = dq("master", "app:echo", "--only", "1", "--authkey", KEY, cwd=folder)
    assert done.returncode == 2
    assert "--only without inputs" in done.stderr
