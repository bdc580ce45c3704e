"""`--dry-run`: says what would run where, or what is wrong, and runs and writes nothing."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import dq as package
from support import DQ, Running, serving, wait_until
from support.warm import dq

KEY = "k" * 16
SOURCE = """

open("imported", "a").close()

def trace(x, *, y=1):
    open("ran", "a").close()
    return x

def prepare():
    open("prepared", "a").close()
"""


@pytest.fixture
def folder(project: Path) -> Path:
    (project / "trace.py").write_text(SOURCE)
    (project / "in.txt").write_text("".join(f"{number}\n" for number in range(250)))
    return project


def check(folder: Path, *args: str, code: int = 0, command: str = "run", **kw: Any) -> Any:
    before = content(folder)
    done = dq(command, *args, "--dry-run", cwd=folder, **kw)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert content(folder) == before, "nothing is written"
    return done


def content(folder: Path) -> dict[str, bytes]:
    ignored = {"imported", "__pycache__"}
    return {
        str(path): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not ignored & set(path.relative_to(folder).parts)
    }


def shown(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    """The lines by their first word."""
    lines = [line.split(maxsplit=1) for line in done.stdout.splitlines()]
    return {words[0]: words[1] for words in lines}


def test_it_says_what_would_run_where(folder: Path) -> None:
    done = check(
        folder, "trace:trace", "--input", "in.txt", "-o", "out.jsonl", "-w", "3", "-t", "2",
        "--failures", "failed.jsonl", "--init", "trace:prepare",
    )  # fmt: skip
    lines = shown(done)
    path = folder / "trace.py"
    assert lines["task"] == f"trace:trace in {path}"
    assert lines["digest"] == hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
    python = ".".join(map(str, sys.version_info[:3]))
    assert lines["with"] == f"dq {package.__version__} and Python {python}"
    assert lines["workers"] == "3 processes on this machine with 2 threads each"
    assert lines["inputs"] == (
        "in.txt: 250; the first 100 checked; they fit trace:trace(x, *, y=1)"
    )
    assert lines["output"] == "out.jsonl, as jsonl"
    assert lines["failures"] == "failed.jsonl"
    assert done.stderr == ""
    assert (folder / "imported").exists()


def test_arguments_are_all_checked(folder: Path) -> None:
    numbers = list(map(str, range(150)))
    lines = shown(check(folder, "app:square", *numbers, "--here"))
    assert lines["inputs"].startswith("arguments: 150; they fit app:square")
    assert "the command's own process" in lines["workers"]


def test_only_the_first_lines_of_standard_input_are_read(folder: Path) -> None:
    argv = (*DQ, "run", "app:square", "--input", "-", "--dry-run")
    with Running(*argv, cwd=folder, stdin=subprocess.PIPE) as running:
        running.write("1\n" * 100)
        assert running.wait() == 0  # though standard input is still open
        assert "standard input: an unknown number; the first 100 checked" in running.stdout_text
        assert "standard input has been read as far as that" in running.stdout_text


def test_an_input_that_does_not_fit_is_named(folder: Path) -> None:
    (folder / "in.csv").write_text("a,b\n1,2\n\n3,4\n")
    done = check(folder, "trace:trace", "--input", "in.csv", "--unpack", code=1)
    assert done.stderr == (
        'dq: task 0 (in.csv line 2: {"a": 1, "b": 2}) would fail: it does not fit'
        " trace:trace(x, *, y=1): missing a required argument: 'x'\n"
    )
    done = check(folder, "app:add", "--unpack", "[1, 2]", "[1]", "5", code=1)
    assert "task 1 ([1]) would fail: it does not fit app:add" in done.stderr
    assert (
        "--unpack needs a list or a mapping, not int"
        in check(folder, "app:add", "--unpack", "5", code=1).stderr
    )


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (["app:square", "--input", "bad.jsonl"], 2, "bad.jsonl line 2 is not JSON"),
        (["app:square", "--input", "missing.txt"], 2, "cannot read missing.txt"),
        (["app:nope", "1"], 2, "app has no 'nope'"),
        (["nope:nope", "1"], 2, "no module 'nope'"),
        (["app:add", "1"], 2, "cannot be called with one input"),
        (["app:square", "1", "--init", "app:nope"], 2, "app has no 'nope'"),
        (["app:square", "1", "-o", "no/out"], 2, "cannot write no/out: there is no folder"),
        (["app:square", "1", "-o", "."], 2, "cannot write .: it is a folder"),
        (["app:square", "1", "--journal", "no/j"], 2, "cannot write no/j"),
        (["app:square", "1", "-o", "app.py"], 2, "would replace the code"),
        (["app:square", "1", "--retry-failed"], 2, "--retry-failed goes with --journal"),
        (["app:square", "1", "--only", "1"], 2, "--only 1: there is 1 input"),
        (["app:square", "1", "--here", "--timeout", "3"], 2, "--timeout goes with worker"),
        (["app:square", "x" * 99, "--max-message", "50"], 1, "task 0 would fail: InputTooLarge"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else None,
)
def test_what_would_go_wrong_is_said(folder: Path, args: list[str], code: int, said: str) -> None:
    (folder / "bad.jsonl").write_text("1\nnonsense\n")
    done = check(folder, *args, code=code)
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_lines_that_would_be_skipped_are_counted(folder: Path) -> None:
    (folder / "bad.jsonl").write_text("1\nnonsense\n3\n")
    lines = shown(check(folder, "app:square", "--input", "bad.jsonl", "--skip-bad"))
    assert lines["inputs"].startswith("bad.jsonl: 3; 1 of these cannot be read, and are skipped")


def test_selected_inputs_are_checked_under_their_numbers(folder: Path) -> None:
    (folder / "in.jsonl").write_text("[1]\n[2]\n[1, 2, 3]\n")
    args = ("app:add", "--unpack", "--input", "in.jsonl", "--only", "2")
    done = check(folder, *args, code=1)
    assert "task 2 (in.jsonl line 3: [1, 2, 3]) would fail" in done.stderr
    assert shown(done)["inputs"] == "in.jsonl: 1 of them (--only)"


def test_a_function_without_a_signature_is_not_guessed_at(folder: Path) -> None:
    lines = shown(check(folder, "builtins:max", "[1]"))
    assert "the function has no signature to compare them with" in lines["inputs"]


def test_it_says_where_a_journal_continues(folder: Path) -> None:
    args = ("app:boom_at_7", "6", "7", "8", "9", "--journal", "j")
    assert shown(check(folder, *args))["journal"] == "j, which is made"
    stopped = dq("run", *args, "--here", "--fail-fast", cwd=folder)
    assert stopped.returncode == 4
    assert shown(check(folder, *args))["journal"] == "j: continues with 2 of 4 done; 1 failed"
    again = shown(check(folder, *args, "--retry-failed"))["journal"]
    assert again == "j: continues with 1 of 4 done; 1 failed and run again"
    other = check(folder, "app:square", *args[1:], code=2)
    assert "j is the journal of another run" in other.stderr


def test_a_journal_of_other_inputs_is_refused_as_by_the_run(folder: Path) -> None:
    args = ("app:echo", "--input", "in.txt", "--journal", "j")
    assert dq("run", *args, "-w", "1", cwd=folder).returncode == 0
    assert shown(check(folder, *args))["journal"] == "j: continues with 250 of 250 done"
    lines = (folder / "in.txt").read_text().splitlines(keepends=True)
    for now, said in [
        (["0\n", "one\n", *lines[2:]], "in.txt line 2 is not what it was"),
        (lines[:200], "there are 200 inputs, and the journal j has 250; give another --journal"),
    ]:
        (folder / "in.txt").write_text("".join(now))
        assert said in check(folder, *args, code=2).stderr
        assert said in dq("run", *args, "-w", "1", cwd=folder).stderr


def test_a_master_says_who_may_connect_and_serves_nothing(folder: Path) -> None:
    args = ("--port", "0", "--authkey", KEY)
    lines = shown(check(folder, "app:square", "1", "2", "-w", "1", *args, command="master"))
    assert lines["workers"] == (
        "1 process on this machine, and those that connect to a free port of all addresses"
    )
    assert lines["inputs"].startswith("arguments: 2; they fit")
    assert shown(check(folder, *args, command="master"))["task"].startswith("none: workers call")


def test_a_master_without_the_libraries_says_what_it_could_not_check(folder: Path) -> None:
    (folder / "needs.py").write_text("import a_library_of_the_workers\ndef f(x): pass\n")
    args = ("needs:f", "1", "--authkey", KEY, "--port", "0")
    lines = shown(check(folder, *args, command="master"))
    assert lines["task"].startswith("needs:f, which is not checked: cannot import needs")
    assert lines["inputs"] == "arguments: 1"
    assert check(folder, *args, "-w", "1", command="master", code=2)


@pytest.mark.skipif(sys.platform != "linux", reason="only there the check runs in a fork")
def test_a_module_that_ends_the_process_is_reported(folder: Path) -> None:
    (folder / "ends.py").write_text("import os\nos._exit(0)\ndef f(x): pass\n")
    assert "cannot import" in check(folder, "ends:f", "1", code=2).stderr


def test_the_key_is_in_no_line_of_it(folder: Path) -> None:
    done = check(folder, "app:square", "1", "--authkey", KEY, "--port", "0", command="master")
    assert KEY not in done.stdout + done.stderr


# Of a job


@pytest.fixture
def serving_jobs(project: Path) -> Iterator[dict[str, str | None]]:
    """The environment of commands for a master with one worker."""
    env: dict[str, str | None] = {"DQ_AUTHKEY": "a key for tests only"}
    with serving("-w", "1", "--host", "127.0.0.1", cwd=project, env=env) as (_, port):
        env |= {"DQ_SERVER": f"127.0.0.1:{port}"}
        wait_until(lambda: "0/1" in dq("workers", env=env).stdout)
        yield env


def test_a_job_is_checked_and_workers_are_asked_before_it_is_submitted(
    project: Path, serving_jobs: dict[str, str | None]
) -> None:
    done = dq("submit", "app:square", "1", "2", "--dry-run", cwd=project, env=serving_jobs)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("task     app:square in ")
    [worker] = [line for line in lines if line.startswith("worker ")]
    assert f"has it in {project / 'app.py'}; dq " in worker
    assert lines[-1] == "nothing was submitted"
    assert dq("jobs", "--json", env=serving_jobs).stdout == "[]\n"


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A folder that the workers do not have."""
    path = tmp_path / "elsewhere"
    path.mkdir()
    return path


def test_what_no_worker_has_is_said_before_it_is_submitted(
    elsewhere: Path, serving_jobs: dict[str, str | None]
) -> None:
    (elsewhere / "other.py").write_text("def f(x): return x")
    done = dq("submit", "other:f", "1", "--dry-run", cwd=elsewhere, env=serving_jobs)
    assert done.returncode == 1
    assert "cannot run it: no module 'other'" in done.stdout
    assert "no worker could run it: no module 'other'" in done.stderr


def test_a_worker_with_another_version_of_the_module_is_named(
    elsewhere: Path, serving_jobs: dict[str, str | None]
) -> None:
    (elsewhere / "app.py").write_text("def square(x): return x ** 2")
    done = dq("submit", "app:square", "1", "--dry-run", cwd=elsewhere, env=serving_jobs)
    assert done.returncode == 0
    assert "which is another version than here" in done.stdout


def test_inputs_of_a_job_that_do_not_fit_are_named(
    project: Path, serving_jobs: dict[str, str | None]
) -> None:
    argv = ("submit", "app:add", "[1, 2]", "[1]", "--unpack", "--dry-run")
    done = dq(*argv, cwd=project, env=serving_jobs)
    assert done.returncode == 1
    assert "task 1 ([1]) would fail" in done.stderr
