"""What is left of a run that ends early: all that was computed, and how much that is said."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from pathlib import Path

import pytest

from support import DQ, Running, python, wait_until
from support.warm import dq

# Waits for a file named after its input; some inputs fail.
GATES = """
import os, time

def wait(x):
    open(f"{x}.started", "w").close()
    while not os.path.exists(f"{x}.go"):
        time.sleep(0.01)
    if str(x).startswith("bad"):
        raise ValueError(x)
    return x
"""
RESUME = "with --journal FILE the same command would have gone on from there"


@pytest.fixture
def gates(project: Path) -> Path:
    (project / "gates.py").write_text(GATES)
    return project


def started(folder: Path, *names: str) -> None:
    wait_until(lambda: all((folder / f"{name}.started").exists() for name in names))


def go(folder: Path, *names: str) -> None:
    for name in names:
        (folder / f"{name}.go").touch()


def run_of(folder: Path, *args: str) -> Running:
    return Running(*DQ, "run", "gates:wait", "-o", "out", *args, cwd=folder)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_keeps_what_it_has_and_says_so(gates: Path, number: signal.Signals) -> None:
    go(gates, "a")
    with run_of(gates, "a", "b", "c", "-w", "1", "--batch", "1") as running:
        started(gates, "b")
        running.send_signal(number)
        running.wait_for("finishing running tasks")
        go(gates, "b")
        assert running.wait() == (130 if number == signal.SIGINT else 4)
    assert (gates / "out.part").read_text() == "a\nb\n"
    assert not (gates / "out").exists()
    assert running.stderr_text.splitlines()[-1] == (
        f"dq: stopped before the end; 2 results are in out.part; {RESUME}"
    )


def test_leaving_at_once_keeps_what_there_is(gates: Path) -> None:
    go(gates, "a")
    with run_of(gates, "a", "b", "-w", "1") as running:
        started(gates, "b")
        running.send_signal(signal.SIGINT)
        running.wait_for("finishing running tasks")
        running.send_signal(signal.SIGINT)
        assert running.wait() == 130
    assert (gates / "out.part").read_text() == "a\n"
    assert running.stderr_text.splitlines()[-1] == (
        "dq: stopped before the end, without waiting for running tasks; 1 result is in out.part;"
        f" {RESUME}"
    )


def test_kill_9_leaves_the_same(gates: Path) -> None:
    go(gates, "a")
    with run_of(gates, "a", "b", "-w", "1") as running:
        wait_until(lambda: (gates / "out.part").exists() and (gates / "out.part").read_text())
        running.process.kill()
        running.wait()
    assert (gates / "out.part").read_text() == "a\n"


@pytest.mark.parametrize("form", ["text", "jsonl"])
def test_results_that_waited_for_an_earlier_one_are_kept_as_well(gates: Path, form: str) -> None:
    """By the second signal the first of them has no result, and the others have."""
    go(gates, "b", "c")
    with run_of(gates, "a", "b", "c", "d", "-w", "2", "--batch", "1", "-f", form) as running:
        started(gates, "a", "d")
        running.send_signal(signal.SIGINT)
        running.wait_for("finishing running tasks")
        running.send_signal(signal.SIGINT)
        assert running.wait() == 130
    lines = (gates / "out.part").read_text().splitlines()
    if form == "text":
        assert lines == ["b", "c"]
    else:
        assert [json.loads(line)["id"] for line in lines] == [1, 2]
    assert "; 2 results are in out.part (of tasks 1-2); " in running.stderr_text


def test_a_failure_that_ends_the_run_leaves_the_results(gates: Path) -> None:
    go(gates, "a", "bad", "c")
    with run_of(gates, "a", "bad", "c", "-w", "1", "--batch", "1", "--fail-fast") as running:
        assert running.wait() == 4
    assert (gates / "out.part").read_text() == "a\n"
    assert f"1 task(s) failed; 1 result is in out.part; {RESUME}\n" in running.stderr_text


def test_an_input_that_cannot_be_read_leaves_the_results(project: Path) -> None:
    (project / "in.jsonl").write_text("1\n2\n{\n")
    done = dq("run", "app:square", "-i", "in.jsonl", "-o", "out", "-w", "1", cwd=project)
    assert done.returncode == 2
    assert (project / "out.part").read_text() == "1\n4\n"
    assert f"--skip-bad goes on without such lines; 2 results are in out.part; {RESUME}" in (
        done.stderr
    )


@pytest.mark.skipif(not os.path.exists("/proc/self/mem"), reason="there is no such file here")
def test_a_file_that_fails_when_read_is_one_line(project: Path) -> None:
    done = dq("run", "app:square", "-i", "/proc/self/mem", "-w", "1", cwd=project)
    assert done.returncode == 2
    assert done.stderr == "dq: cannot read /proc/self/mem: Input/output error\n"


@pytest.mark.slow
def test_workers_that_cannot_go_on_leave_the_results(project: Path) -> None:
    """They end as soon as they start, once the first task has been done."""
    (project / "once.py").write_text("def f(x):\n    open('been', 'w').close()\n    return x\n")
    (project / "sitecustomize.py").write_text(
        "import os\n"
        f"def end():\n    if os.path.exists({str(project / 'been')!r}): os._exit(3)\n"
        "end()\nos.register_at_fork(after_in_child=end)\n"
    )
    argv = ("run", "once:f", "1", "2", "-o", "out", "-w", "1", "--max-tasks", "1", "--batch", "1")
    path = [str(project), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = dq(*argv, cwd=project, env={"PYTHONPATH": os.pathsep.join(path)})
    assert done.returncode == 1, done.stderr
    assert (project / "out.part").read_text() == "1\n"
    assert "; 1 result is in out.part; " in done.stderr.splitlines()[-1]


def test_a_run_with_a_journal_says_that_it_goes_on(gates: Path) -> None:
    go(gates, "a")
    with run_of(gates, "a", "b", "-w", "1", "--journal", "j") as running:
        started(gates, "b")
        wait_until(lambda: (gates / "out.part").read_bytes() == b"a\n")
        running.send_signal(signal.SIGINT)
        running.wait_for("finishing running tasks")
        running.send_signal(signal.SIGINT)
        running.wait()
    assert running.stderr_text.endswith("in out.part; the same command goes on from there\n")
    go(gates, "b")
    argv = ("run", "gates:wait", "-o", "out", "a", "b", "-w", "1", "--journal", "j")
    assert dq(*argv, cwd=gates).returncode == 0
    assert (gates / "out").read_text() == "a\nb\n"
    assert not (gates / "out.part").exists()


def test_a_run_without_any_result_says_so_and_leaves_no_file(gates: Path) -> None:
    with run_of(gates, "a", "b", "-w", "1") as running:
        started(gates, "a")
        running.send_signal(signal.SIGINT)
        running.wait_for("finishing running tasks")
        running.send_signal(signal.SIGINT)
        running.wait()
    assert not list(gates.glob("out*"))
    assert running.stderr_text.splitlines()[-1] == (
        "dq: stopped before the first result, without waiting for running tasks"
    )


def test_a_run_that_is_stopped_in_its_last_tasks_is_complete(gates: Path) -> None:
    with run_of(gates, "a", "bad", "-w", "2") as running:
        started(gates, "a", "bad")
        running.send_signal(signal.SIGINT)
        running.wait_for("finishing running tasks")
        go(gates, "a", "bad")
        assert running.wait() == 1
    assert (gates / "out").read_text() == "a\n"
    assert not (gates / "out.part").exists()


def test_two_runs_never_write_one_file(gates: Path) -> None:
    go(gates, "b")
    with run_of(gates, "a", "-w", "1") as running:
        started(gates, "a")
        second = dq("run", "gates:wait", "b", "-o", "out", cwd=gates)
        assert second.returncode == 2
        assert second.stderr == (
            "dq: another run is writing out: wait for its end, or give another -o FILE\n"
        )
        go(gates, "a")
        assert running.wait() == 0
    assert (gates / "out").read_text() == "a\n"


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("-i", "out.part", "-o", "out"), "--input out.part and --output out are one file"),
        (("1", "-o", "app.py"), "--output app.py would replace the code of app:square"),
        (("1", "--failures", "app.py"), "--failures app.py would replace the code of app:square"),
        (("-i", "n", "-o", "out", "--failures", "out"), "--failures out and --output out are one"),
        (("-i", "n", "-o", "a.part", "--failures", "a"), "--failures a and --output a.part are"),
        (("-i", "n", "--failures", "j", "--journal", "j"), "--failures j is a file of the journal"),
        (("-i", "n", "--failures", "-"), "--failures - is where the results go"),
    ],
)
def test_one_file_for_two_things_is_refused(
    project: Path, args: tuple[str, ...], said: str
) -> None:
    for name in ("n", "out.part"):
        (project / name).write_text("1\n")
    before = sorted(os.listdir(project))
    done = dq("run", "app:square", *args, cwd=project)
    assert done.returncode == 2
    assert said in done.stderr
    assert sorted(set(os.listdir(project)) - {"__pycache__"}) == before
    assert (project / "out.part").read_text() == "1\n"


def test_nothing_waits_that_nothing_runs_for(project: Path) -> None:
    """ "finishing" is only said where something is running."""
    os.mkfifo(project / "pipe")
    with (
        Running(*DQ, "run", "app:square", "-i", "pipe", "-w", "1", cwd=project) as running,
        open(project / "pipe", "w") as pipe,
    ):
        pipe.write("3\n")
        pipe.flush()
        running.wait_for("^9$", stream="stdout")
        running.send_signal(signal.SIGINT)
        assert running.wait() == 130
    assert running.stderr_text == (
        f"dq: stopped before the end; 1 result is on standard output; {RESUME}\n"
    )


@pytest.mark.parametrize("milliseconds", range(20, 100, 10))
def test_an_interrupt_of_its_group_does_not_reach_the_fork_server(
    project: Path, milliseconds: int
) -> None:
    """A terminal sends it to the whole group, at any moment of the start."""
    with Running(*DQ, "run", "app:square", "3", "-w", "1", cwd=project) as run:
        time.sleep(milliseconds / 1000)
        with contextlib.suppress(ProcessLookupError):  # it has ended already
            os.killpg(run.pid, signal.SIGINT)
        run.wait()
    assert "fork_server" not in run.stderr_text


def test_a_deleted_directory_is_one_line(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    argv = [*DQ, "run", "math:sqrt", "4"]
    code = f"import os; os.rmdir({str(gone)!r}); os.execv({argv[0]!r}, {argv!r})"
    done = python(code, cwd=gone)
    assert (done.returncode, done.stdout, done.stderr) == (
        2, "", "dq: the current directory has been deleted: change to another\n"
    )  # fmt: skip
