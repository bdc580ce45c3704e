"""`dq master` and `dq worker`, as the documentation writes them; both stages of Ctrl-C."""

from __future__ import annotations

import re
import signal
import subprocess
from pathlib import Path

import pytest

from dq import QueueManager
from support import DQ, Running, free_port, serving, wait_until
from support.process import dq_with
from support.warm import dq

KEY = {"DQ_AUTHKEY": "a key of 16 bytes"}


def test_master_and_worker_work_as_they_are_written(project: Path) -> None:
    port = free_port()
    with Running(*DQ, "master", "--port", f"{port}", "--authkey", "abc", cwd=project) as master:
        master.wait_for(rf"^dq: serving on 0\.0\.0\.0:{port}( and \[::\]:{port})?$")
        argv = ("worker", "--server", f"127.0.0.1:{port}", "--authkey", "abc")
        with Running(*DQ, *argv, "--task", "app:square", cwd=project) as worker:
            worker.wait_for(rf"^dq: connected to 127\.0\.0\.1:{port}, working on")
            manager = QueueManager(("127.0.0.1", port), authkey=b"abc")
            manager.connect()
            manager.get_task_queue().put(12)
            assert manager.get_result_queue().get(timeout=30) == 144
            master.send_signal(signal.SIGTERM)
            assert master.wait() == 0
            assert worker.wait() == 0


def test_a_master_with_inputs_serves_until_every_one_has_a_result(project: Path) -> None:
    given = [str(n) for n in range(100)]
    argv = (*DQ, "master", "app:square", *given, "--port", "0", "--host", "127.0.0.1")
    with Running(*argv, cwd=project, env=KEY) as master:
        port = master.wait_for(r"^dq: serving on 127\.0\.0\.1:(\d+)$")[1]
        # One: a second might come when the first has done everything, to nobody.
        worker = ("worker", "-s", f"127.0.0.1:{port}", "-p", "2")
        with Running(*DQ, *worker, cwd=project, env=KEY) as one:
            assert master.wait() == 0
            assert one.wait() == 0
    assert master.stdout_text == "".join(f"{n * n}\n" for n in range(100))


def test_a_masters_task_is_what_is_called_with_what_clients_put(project: Path) -> None:
    argv = ("app:square", "-w", "1", "--host", "127.0.0.1")
    with serving(*argv, cwd=project, env=KEY) as (master, port):
        manager = QueueManager(("127.0.0.1", port), authkey=KEY["DQ_AUTHKEY"].encode())
        manager.connect()
        manager.get_task_queue().put(5)
        assert manager.get_result_queue().get(timeout=30) == 25
        master.send_signal(signal.SIGINT)
        assert master.wait() == 130


def test_run_with_a_port_lets_others_join_in(gates: Path) -> None:
    argv = ("run", "gates:wait", "a", "b", "-w", "1", "--port", "0", "--host", "127.0.0.1")
    with Running(*DQ, *argv, cwd=gates, env=KEY) as running:
        port = running.wait_for(r"^dq: serving on 127\.0\.0\.1:(\d+)$")[1]
        worker = ("worker", "-s", f"127.0.0.1:{port}", "-p", "1")
        with Running(*DQ, *worker, cwd=gates, env=KEY) as joined:
            wait_until(lambda: len(list(gates.glob("*.started"))) == 2)
            (gates / "a.go").touch()
            (gates / "b.go").touch()
            assert running.wait() == 0
            assert joined.wait() == 0
    assert running.stdout_text == "a\nb\n"


def test_a_server_is_named_by_host_alone_where_the_port_is_5000(project: Path) -> None:
    shown = dq("worker", "--server", "127.0.0.1", "--reconnect", "0", cwd=project, env=KEY)
    if shown.returncode == 0 or "5000" not in shown.stderr:
        pytest.skip("somebody listens on port 5000 here")
    assert "127.0.0.1:5000" in shown.stderr


# -- Ctrl-C


@pytest.mark.parametrize(
    ("sig", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 4)], ids=["SIGINT", "SIGTERM"]
)
def test_the_first_signal_lets_running_tasks_finish(
    gates: Path, sig: signal.Signals, code: int
) -> None:
    with Running(*DQ, "run", "gates:wait", "a", "b", "-w", "1", cwd=gates) as running:
        wait_until(lambda: (gates / "a.started").exists())
        running.signal_group(sig)
        running.wait_for("^dq: finishing running tasks; once more to leave now$")
        (gates / "a.go").touch()
        assert running.wait() == code
    assert running.stdout_text == "a\n"
    assert not (gates / "b.started").exists()
    assert running.stderr_text.splitlines()[-1] == (
        "dq: stopped before the end; 1 result is on standard output; with --journal FILE the same"
        " command would have gone on from there"
    )


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM])
def test_where_nothing_runs_nothing_is_said_to_be_finishing(
    project: Path, sig: signal.Signals
) -> None:
    argv = (*DQ, "master", "--port", "0", "--host", "127.0.0.1")
    with Running(*argv, cwd=project, env=KEY) as master:
        port = master.wait_for(r"^dq: serving on 127\.0\.0\.1:(\d+)$")[1]
        # A process that takes its time to leave may be in a task: on a busy machine each does.
        patient = dq_with("dq.worker.supervisor.PROMPT_EXIT_S", 60)
        worker = (*patient, "worker", "-s", f"127.0.0.1:{port}", "-p", "1", "--task", "app:square")
        with Running(*worker, cwd=project, env=KEY) as idle:
            idle.wait_for("working on 1 task")
            idle.send_signal(sig)
            idle.wait()
        master.send_signal(sig)
        master.wait()
    assert "finishing" not in idle.stderr_text + master.stderr_text


def test_the_second_signal_leaves_now(gates: Path) -> None:
    with Running(*DQ, "run", "gates:wait", "a", "-w", "1", cwd=gates) as running:
        wait_until(lambda: (gates / "a.started").exists())
        running.signal_group(signal.SIGINT)
        running.wait_for("finishing running tasks")
        running.signal_group(signal.SIGINT)
        assert running.wait() == 130
    assert running.stdout_text == ""
    assert "Traceback" not in running.stderr_text


def test_a_worker_that_is_interrupted_finishes_its_task_and_others_do_the_rest(
    gates: Path,
) -> None:
    argv = (*DQ, "master", "gates:wait", "a", "b", "--port", "0", "--host", "127.0.0.1")
    with Running(*argv, cwd=gates, env=KEY) as master:
        port = master.wait_for(r"^dq: serving on 127\.0\.0\.1:(\d+)$")[1]
        worker = (*DQ, "worker", "-s", f"127.0.0.1:{port}", "-p", "1")
        with Running(*worker, cwd=gates, env=KEY) as first:
            wait_until(lambda: (gates / "a.started").exists())
            first.signal_group(signal.SIGINT)
            first.wait_for("finishing running tasks")
            (gates / "a.go").touch()
            assert first.wait() == 130
        (gates / "b.go").touch()
        with Running(*worker, cwd=gates, env=KEY) as second:
            assert master.wait() == 0
            assert second.wait() == 0
    assert master.stdout_text == "a\nb\n"


def test_an_interrupted_run_leaves_no_output_file(gates: Path) -> None:
    argv = (*DQ, "run", "gates:wait", "a", "b", "-w", "1", "-o", "out.txt")
    with Running(*argv, cwd=gates) as running:
        wait_until(lambda: (gates / "a.started").exists())
        running.send_signal(signal.SIGINT)
        running.wait_for("finishing running tasks")
        (gates / "a.go").touch()
        assert running.wait() == 130
    assert not (gates / "out.txt").exists()
    assert (gates / "out.txt.part").read_text() == "a\n"


def test_a_run_that_waits_for_input_can_be_interrupted(project: Path) -> None:
    argv = (*DQ, "run", "app:square", "-i", "-", "-w", "1")
    with Running(*argv, cwd=project, stdin=subprocess.PIPE) as running:
        running.write("3\n")
        running.wait_for("^9$", stream="stdout")
        running.send_signal(signal.SIGINT)
        assert running.wait() == 130


TALK = """
import os, sys, time

def talk(x):
    print("print", x)
    print("standard error", x, file=sys.stderr)
    os.system(f"echo program {x}")
    return x

def talk_until_read(x):
    talk(x)
    while not os.path.exists(f"{x}.read"):
        time.sleep(0.01)
    return x

def flood(x):
    for number in range(20_000):
        print("line", number)
    return x
"""


def output_of(folder: Path, task: str, *inputs: str, here: str, there: str) -> tuple[str, str]:
    """What a master and its worker show, who are told where the output of tasks goes."""
    (folder / "talk.py").write_text(TALK)
    argv = ("--host", "127.0.0.1", "--task-output", here)
    with serving(f"talk:{task}", *inputs, *argv, cwd=folder, env=KEY) as (master, port):
        argv = ("-s", f"127.0.0.1:{port}", "-p", "1", "--task-output", there)
        with Running(*DQ, "worker", *argv, cwd=folder, env=KEY) as worker:
            assert [master.wait(), worker.wait()] == [0, 0]
    assert master.stdout_text.split() == [*inputs]
    return master.stderr_text, worker.stderr_text


def test_what_tasks_print_comes_to_who_waits_with_their_numbers(tmp_path: Path) -> None:
    (tmp_path / "talk.py").write_text(TALK)
    argv = ("talk:talk_until_read", "5", "6", "--host", "127.0.0.1", "--task-output", "master")
    with serving(*argv, cwd=tmp_path, env=KEY) as (master, port):
        argv = ("-s", f"127.0.0.1:{port}", "-p", "1", "--task-output", "both")
        with Running(*DQ, "worker", *argv, cwd=tmp_path, env=KEY) as worker:
            for number, value in ((0, "5"), (1, "6")):
                for what in ("print", "standard error", "program"):
                    master.wait_for(rf"^\S+:\d+ task {number}: {what} {value}$")
                    worker.wait_for(rf"^{what} {value}$")
                (tmp_path / f"{value}.read").touch()
            assert [master.wait(), worker.wait()] == [0, 0]


@pytest.mark.parametrize(
    ("here", "there", "shown"),
    [
        ("master", "master", (True, False)),
        ("master", "own", (False, True)),
        ("own", "both", (False, True)),
        ("master", "none", (False, False)),
    ],
)
def test_the_output_of_tasks_goes_where_it_is_told_to(
    tmp_path: Path, here: str, there: str, shown: tuple[bool, bool]
) -> None:
    at_master, at_worker = output_of(tmp_path, "talk", "5", here=here, there=there)
    assert ("program 5" in at_master, "program 5" in at_worker) == shown


def test_a_flood_is_cut_and_counted(tmp_path: Path) -> None:
    here, _ = output_of(tmp_path, "flood", "5", here="master", there="master")
    lines = re.findall(r"task 0: line \d+$", here, re.MULTILINE)
    cut = re.findall(r": \.\.\. ([\d,]+) lines cut$", here, re.MULTILINE)
    assert len(lines) + sum(int(count.replace(",", "")) for count in cut) == 20_000
    assert cut


def test_run_shows_nothing_of_what_its_tasks_print_if_told_so(tmp_path: Path) -> None:
    (tmp_path / "talk.py").write_text(TALK)
    done = dq("run", "talk:talk", "5", "-w", "1", "-q", "--task-output", "none", cwd=tmp_path)
    assert (done.stdout, done.stderr) == ("5\n", "")
