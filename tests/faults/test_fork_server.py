"""The fork server: killed itself, and what it leaves to the processes that it makes."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

import dq
from dq._support import platform
from faults.scene import Hazards, gone, kill
from support import descendants, python, stop, task_processes, wait_until
from support import dq as run_dq
from support.procfs import look, name
from tasks.fork_server import parent, started, surroundings, where

pytestmark = pytest.mark.skipif(not platform.can_fork(), reason="no fork server here")

PATIENT = ("--max-deaths", "1000", "--batch", "5")


def servers(pid: int) -> list[int]:
    return [child for child in descendants(pid) if name(child) == "dq-fork-server"]


def test_a_run_goes_on_with_another_server_if_one_is_killed(hazards: Hazards) -> None:
    inputs = [*range(300), "last"]
    with hazards.running("gated_if_last", inputs, "-w", "2", *PATIENT) as run:
        for count in (5, 80):
            hazards.wait_for_executions(count)
            [server] = wait_until(lambda: servers(run.pid))  # the next one may be on its way
            processes = task_processes(run.pid)
            kill(server)
            gone(*processes)  # they end with it
        hazards.open_gate()
        assert run.wait() == 0, run.printed
    history = hazards.history(inputs, run.stdout_text).check()
    assert history.extra <= 2 * 2 * 5


def test_nothing_is_left_of_a_run_that_is_killed(hazards: Hazards) -> None:
    with hazards.running("gated", [1, 2], "-w", "2") as run:
        hazards.wait_for_executions()
        family = descendants(run.pid)
        assert len(family) == 3
        run.send_signal(signal.SIGKILL)
        run.wait()
        gone(*family)


def test_a_replacement_is_forked_by_the_same_server(hazards: Hazards) -> None:
    with hazards.running("gated", [1, 2], "-w", "1", *PATIENT) as run:
        hazards.wait_for_executions()
        [server], [first] = servers(run.pid), task_processes(run.pid)
        kill(first)
        wait_until(lambda: task_processes(run.pid) not in ([], [first]))
        [second] = task_processes(run.pid)
        found = look(second)
        assert found is not None
        assert found.parent == server
        assert found.session == second
        hazards.open_gate()
        assert run.wait() == 0, run.printed


def test_a_process_has_no_descriptors_of_another() -> None:
    found = {}
    with dq.Master(workers=3, max_tasks=2) as master:
        for pid, links, slot, program, drawn in master.map(surroundings, range(24)):
            found[pid] = links, slot, program, drawn
    assert len(found) > 6  # replacements among them
    assert {slot for _, slot, _, _ in found.values()} == {"0", "1", "2"}
    assert {program for _, _, program, _ in found.values()} == {sys.argv[0]}
    assert len({drawn for _, _, _, drawn in found.values()}) == len(found)
    assert len({len(links) for links, _, _, _ in found.values()}) == 1
    inherited = {os.readlink(f"/proc/self/fd/{fd}") for fd in (1, 2)}
    own = [set(links) - inherited for links, *_ in found.values()]
    shared = [link for links in own for link in links if ":[" in link]
    assert len(shared) == len(set(shared))


def test_a_process_starts_in_the_current_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with dq.Master(workers=1, max_tasks=1) as master:
        assert list(master.map(where, range(2))) == [os.getcwd()] * 2
        monkeypatch.chdir(tmp_path)
        # One process has been started before.
        assert list(master.map(where, range(2)))[1] == str(tmp_path)


def test_without_fork_each_process_is_a_fresh_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "can_fork", lambda: False)
    with dq.Master(workers=2, max_tasks=5) as master:
        parents = set(master.map(parent, range(20)))
        assert not servers(os.getpid())
    assert parents == {os.getpid()}


def test_a_program_that_a_task_starts_is_no_task_process() -> None:
    assert dq.run(started, [1], workers=1) == ["False"]


def test_signals_that_the_program_has_blocked_are_none_of_the_processes_concern() -> None:
    code = (
        "import signal, dq\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD, signal.SIGTERM})\n"
        "print(dq.run('math:sqrt', [4, 9], workers=2))\n"
    )
    done = python(code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[2.0, 3.0]\n", "")


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    "deed",
    [
        "subprocess.Popen(['true'])",
        "subprocess.Popen(['sleep', '0.3'])",
        "signal.signal(signal.SIGCHLD, signal.SIG_IGN)",
        "os.closerange(3, 50)",
    ],
)
def test_what_a_preloaded_module_does_to_the_server_hurts_nobody(tmp_path: Path, deed: str) -> None:
    (tmp_path / "odd.py").write_text(f"import os, signal, subprocess\n{deed}\n")
    inputs = [*map(str, range(10))]
    more = ("-w", "2", "--max-tasks", "1", "--preload", "odd")
    done = run_dq("run", "math:sqrt", *inputs, *more, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 10


def test_a_second_signal_ends_a_run_whose_server_is_stopped(hazards: Hazards) -> None:
    with hazards.running("gated", [1, 2, 3], "-w", "1", *PATIENT) as run:
        hazards.wait_for_executions()
        [server] = servers(run.pid)
        stop(server)
        for line in ("finishing", None):
            run.send_signal(signal.SIGINT)
            if line:
                run.wait_for(line)
        assert run.wait() == 130, run.printed
        gone(server)


def test_a_script_without_standard_error_has_task_processes() -> None:
    code = "import os, dq\nos.close(2)\nprint(dq.run('math:sqrt', [4, 9], workers=2), flush=True)\n"
    assert python(code).stdout == "[2.0, 3.0]\n"
