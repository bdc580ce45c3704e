"""`dq run --here`: the tasks run in the command's own process, one after the other."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from support import DQ, Running, serving
from support import run as sh
from support.warm import dq

SOURCE = """
import asyncio, os, subprocess, sys, threading, time

def where(x):
    return os.getpid(), threading.current_thread() is threading.main_thread()

async def where_async(x):
    await asyncio.sleep(0)
    return where(x)

def noisy(x):
    print("printed", x)
    subprocess.run(["echo", "by a program"])
    return x

def inverse(x):
    return 1 / x

def wait(x):
    if x == "wait":
        print("waiting", flush=True)
        while True:
            time.sleep(0.01)
    return x

def flaky(x):
    with open("calls", "a") as file:
        file.write("x")
    if os.path.getsize("calls") < 3:
        raise ValueError("not yet")
    return x

def prepare():
    global ready
    ready = "ready"

def is_ready(x):
    return ready, os.environ["DQ_SLOT"]

def leave(x):
    sys.exit(0)

def fork(x):
    if os.fork() == 0:
        return "from the fork"
    os.wait()
    return x

def trailing(x):
    breakpoint()
    return x + 1
"""


@pytest.fixture
def folder(project: Path) -> Path:
    (project / "here.py").write_text(SOURCE)
    return project


def here(folder: Path, task: str, *args: str, code: int = 0, **kw: Any) -> Any:
    done = dq("run", f"here:{task}", "--here", *args, cwd=folder, **kw)
    assert done.returncode == code, done.stderr
    return done


@pytest.mark.parametrize("task", ["where", "where_async"])
def test_tasks_run_in_the_main_thread_of_the_command(folder: Path, task: str) -> None:
    with Running(*DQ, "run", f"here:{task}", "--here", "1", "2", cwd=folder) as running:
        assert running.wait() == 0, running.stderr_text
        assert running.stdout_text == f"({running.pid}, True)\n" * 2


@pytest.mark.sampled(8)
@pytest.mark.parametrize(
    "args",
    [
        ("app:square", "1", "2", "3"),
        ("app:add", "--unpack", "[1, 2]", '{"a": 3, "b": 4}', "5"),
        ("app:boom_at_7", "6", "7", "8", "--fill", "none"),
        ("app:echo", "--input", "in.csv", "--field", "b"),
        ("app:echo", "--input", "in.jsonl", "-0"),
        ("app:echo", "--input", "in.jsonl", "--skip-bad"),
        ("app:async_double", "1", "2"),
        ("app:nothing", "1"),
        ("app:square", "1", "--init", "app:nothing"),
        ("here:is_ready", "1", "--init", "here:prepare"),
        ("here:leave", "1"),
        ("here:fork", "1"),
        ("app:square", "a", "1"),
        ("app:echo", "x" * 100, "y", "--max-message", "50"),
    ],
    ids=lambda args: " ".join(args[:4])[:40],
)
def test_it_is_as_with_a_worker(folder: Path, args: tuple[str, ...]) -> None:
    (folder / "in.csv").write_text("a,b\n1,2\n3,x\n")
    (folder / "in.jsonl").write_text('1\nnonsense\n"x"\n')
    one = dq("run", *args, "-w", "1", cwd=folder)
    other = dq("run", *args, "--here", cwd=folder)
    assert (one.returncode, one.stdout) == (other.returncode, other.stdout), other.stderr
    lines = [sorted(without_time(done)) for done in (one, other)]
    if one.returncode != 2:  # a worker's name and path are in its refusals
        assert lines[0] == lines[1]


def without_time(done: subprocess.CompletedProcess[str]) -> list[str]:
    lines = [line for line in done.stderr.splitlines() if line.startswith("dq: ")]
    return [line.partition(" done in ")[0] for line in lines]


def test_records_have_their_details_and_failures_their_file(folder: Path) -> None:
    done = here(
        folder, "inverse", "2", "0", "-f", "jsonl", "--failures", "failed.jsonl", code=1
    )  # fmt: skip
    good, bad = map(json.loads, done.stdout.splitlines())
    assert (good["id"], good["input"], good["result"], good["attempts"]) == (0, 2, 0.5, 1)
    assert "here.py" in bad["error"]["traceback"]
    assert "dq/" not in bad["error"]["traceback"]
    assert json.loads((folder / "failed.jsonl").read_text())["input"] == 0


def test_a_failed_task_is_tried_again_after_its_delay(folder: Path) -> None:
    done = here(folder, "flaky", "1", "--retries", "2", "--retry-delay", "10ms", "-f", "jsonl")
    assert json.loads(done.stdout)["attempts"] == 3


@pytest.mark.parametrize(
    ("args", "results", "code"),
    [
        (["boom_at_7", "6", "7", "8", "--fail-fast"], "6\n", 4),
        (["fail", "1", "2", "3", "--max-failures", "2"], "", 4),
        (["boom_at_7", "6", "7", "--max-failures", "2"], "6\n", 1),
    ],
    ids=["at once", "after two", "never"],
)
def test_failures_stop_the_run(folder: Path, args: list[str], results: str, code: int) -> None:
    done = dq("run", f"app:{args[0]}", "--here", *args[1:], cwd=folder)
    assert (done.stdout, done.returncode) == (results, code), done.stderr


def test_what_tasks_print_is_not_among_the_results(folder: Path) -> None:
    done = here(folder, "noisy", "1", "2")
    assert done.stdout == "1\n2\n"
    assert done.stderr == "printed 1\nby a program\nprinted 2\nby a program\n"


def test_a_journal_goes_on_from_a_run_with_workers_and_back(folder: Path) -> None:
    args = ("app:boom_at_7", "5", "6", "7", "8", "--journal", "j")
    first = dq("run", *args, "--here", "--fail-fast", cwd=folder)
    assert first.stdout == "5\n6\n"
    again = dq("run", *args, "-w", "1", cwd=folder)
    assert again.stdout == "5\n6\n8\n"
    last = dq("run", *args, "--here", "--retry-failed", cwd=folder)
    assert (last.returncode, last.stdout) == (1, "5\n6\n8\n")


def test_a_result_is_shown_before_the_next_input_is_there(folder: Path) -> None:
    argv = (*DQ, "run", "app:square", "--here", "--input", "-")
    with Running(*argv, cwd=folder, stdin=subprocess.PIPE) as running:
        for number in (2, 3):
            running.write(f"{number}\n")
            running.wait_for(rf"(?m)^{number * number}$", stream="stdout")
        running.close_stdin()
        assert running.wait() == 0


# Interrupted


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 4)])
def test_a_signal_ends_the_run_within_its_task(folder: Path, number: int, code: int) -> None:
    argv = (*DQ, "run", "here:wait", "--here", "a", "wait", "b", "-o", "out")
    with Running(*argv, cwd=folder) as running:
        running.wait_for("waiting")
        running.send_signal(number)
        assert running.wait() == code
        assert "stopped before the end; 1 result is in out.part" in running.stderr_text
    assert (folder / "out.part").read_text() == "a\n"


def test_ctrl_c_works_where_a_shell_has_had_it_ignored(folder: Path) -> None:
    ignoring = ("sh", "-c", 'trap "" INT; exec "$@"', "sh")
    with Running(*ignoring, *DQ, "run", "here:wait", "--here", "wait", cwd=folder) as running:
        running.wait_for("waiting")
        running.send_signal(signal.SIGINT)
        assert running.wait() == 130


def test_an_interrupted_task_has_no_outcome_in_the_journal(folder: Path) -> None:
    argv = (*DQ, "run", "here:wait", "--here", "a", "wait", "b", "--journal", "j")
    with Running(*argv, cwd=folder) as running:
        running.wait_for("waiting")
        running.send_signal(signal.SIGINT)
        assert running.wait() == 130
    assert "1 done, 0 failed" in dq("journal", "j", cwd=folder).stdout


def test_a_signal_ends_a_run_that_waits_for_inputs(folder: Path) -> None:
    argv = (*DQ, "run", "app:square", "--here", "--input", "-")
    with Running(*argv, cwd=folder, stdin=subprocess.PIPE) as running:
        running.write("2\n")
        running.wait_for(r"(?m)^4$", stream="stdout")
        running.send_signal(signal.SIGINT)
        assert running.wait() == 130


# With a debugger, a profiler


@pytest.mark.skipif(sys.version_info[:3] == (3, 13, 0), reason="its pdb passes no options on")
def test_a_debugger_stops_at_the_first_exception(folder: Path) -> None:
    done = sh(
        DQ[0], "-m", "pdb", "-c", "continue", "-m", "dq", "run", "here:inverse", "--here",
        "--debug", "2", "0", "4", input="p 'x is', x\nq\n", cwd=folder,
    )  # fmt: skip
    assert "('x is', 0)" in done.stdout + done.stderr
    assert "0.25" not in done.stdout


def test_a_breakpoint_in_a_task_reads_what_is_typed(folder: Path) -> None:
    done = here(folder, "trailing", "1", input="up\nx = 41\ndown\np x\nx = 41\nc\n")
    assert done.stdout in ("2\n", "42\n")
    assert "(Pdb)" in done.stderr


def test_a_profiler_sees_the_tasks_and_the_end(folder: Path) -> None:
    done = sh(
        DQ[0], "-m", "cProfile", "-m", "dq", "run", "here:inverse", "--here", "2", cwd=folder
    )  # fmt: skip
    assert done.stdout.startswith("0.5\n")
    assert "(inverse)" in done.stdout


def test_with_debug_an_exception_ends_the_run_with_its_traceback(folder: Path) -> None:
    done = here(folder, "inverse", "1", "0", "2", "--debug", code=1)
    assert done.stdout == "1.0\n"
    assert done.stderr.endswith("ZeroDivisionError: division by zero\n")


def test_with_debug_a_task_that_exits_has_failed_all_the_same(folder: Path) -> None:
    assert "SystemExit" in here(folder, "leave", "1", "--debug", code=1).stderr


# Refused


@pytest.mark.parametrize(
    "option",
    [
        ("--timeout", "3"), ("--max-memory", "1G"), ("--max-tasks", "3"), ("-w", "2"),
        ("--port", "0"), ("-t", "2"), ("--preload", "json"), ("--batch", "3"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_options_of_worker_processes_are_refused(folder: Path, option: tuple[str, str]) -> None:
    done = here(folder, "inverse", "1", *option, code=2)
    assert "goes with worker processes" in done.stderr
    assert done.stderr.count("\n") == 1


def test_it_stops_where_the_reader_of_results_has_gone(folder: Path) -> None:
    command = "seq 100000 | python -m dq run app:echo --here --input - | head -n 1"
    done = sh("bash", "-c", f"set -o pipefail; {command.replace('python', DQ[0])}", cwd=folder)
    assert done.stdout == "1\n"
    assert "standard output was closed by its reader" in done.stderr
    assert done.returncode == 4


# A failed task of a job


def test_a_failed_task_of_a_job_is_run_again_here_and_the_job_stays_as_it_is(
    project: Path,
) -> None:
    env: dict[str, str | None] = {"DQ_AUTHKEY": "a key for tests only"}
    with serving("-w", "1", "--host", "127.0.0.1", cwd=project, env=env) as (_, port):
        env |= {"DQ_SERVER": f"127.0.0.1:{port}"}
        submit = ("submit", "app:boom_at_7", "5", "7", "9", "--wait")
        assert dq(*submit, cwd=project, env=env).returncode == 1
        again = ("retry", "last", "--only", "1", "--here")
        done = dq(*again, cwd=project, env=env)
        assert (done.returncode, done.stdout) == (1, "")
        assert "task 1 (7) failed: ValueError: seven" in done.stderr
        done = dq(*again, "--debug", cwd=project, env=env)
        assert "in boom_at_7" in done.stderr
        app = project / "app.py"
        app.write_text(app.read_text().replace("x == 7", "x == 777"))
        done = dq(*again, cwd=project, env=env)
        assert (done.returncode, done.stdout) == (0, "7\n")
        assert '"failed": 1' in dq("jobs", "--json", env=env).stdout
        done = dq("retry", "last", "--only", "2", "--here", cwd=project, env=env)
        assert done.returncode == 2
        assert "task 2 of job 1 has not failed" in done.stderr
