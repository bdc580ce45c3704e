"""What `dq master` says of who works for it, and each end of what is missing."""

from __future__ import annotations

import re
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from dq import QueueManager
from interop.plain import plain, plain_running
from support import DQ, Running, serving
from support.process import dq_with

KEY = "known to both of these ends"
ENV = {"DQ_AUTHKEY": KEY}
HOST = re.escape(socket.gethostname())
#: A master that says much sooner that there is nobody.
SOON = dq_with("dq.dispatch.roster.NO_WORKER_NOTICE_S", 0.3)


@contextmanager
def working(port: int, *argv: str, cwd: Path) -> Iterator[Running]:
    """A `dq worker` that has said that it is connected."""
    where = ("worker", "-s", f"127.0.0.1:{port}", "-p", "2", "-t", "2")
    with Running(*DQ, *where, *argv, cwd=cwd, env=ENV) as worker:
        worker.wait_for("connected")
        yield worker


# Who comes and goes


def test_a_worker_that_joins_and_leaves_is_told(project: Path) -> None:
    with (
        serving("app:square", cwd=project, env=ENV) as (master, port),
        working(port, cwd=project) as worker,
    ):
        master.wait_for(rf"^dq: worker {HOST}:{worker.pid} joined: 4 slots, (not )?encrypted.*$")
        worker.send_signal(signal.SIGTERM)
        master.wait_for(rf"^dq: worker {HOST}:{worker.pid} left; it was the last one$")
        assert worker.wait() == 0, worker.printed


def test_a_worker_that_is_killed_is_told_with_what_others_get(project: Path) -> None:
    with serving("app:sleepy", "600", cwd=project, env=ENV) as (master, port):
        with working(port, cwd=project) as worker:
            plain(port, "while tasks.qsize(): time.sleep(0.01)", key=KEY)
            worker.send_signal(signal.SIGKILL)
            left = (
                rf"^dq: worker {HOST}:{worker.pid} left with 1 task unfinished, for others to do;"
            )
            master.wait_for(left)
        master.signal_group(signal.SIGKILL)


def test_a_plain_worker_is_told_too(project: Path) -> None:
    with serving("app:square", "3", cwd=project, env=ENV) as (master, port):
        plain(port, "results.put(tasks.get() ** 2)", key=KEY)
        assert master.wait() == 0, master.printed
    joined = "dq: plain worker on 127.0.0.1 joined: 1 slot, not encrypted"
    assert joined in master.stderr_text.splitlines()


def test_a_client_that_gets_no_tasks_is_not_told(project: Path) -> None:
    with serving("app:square", "-w", "1", cwd=project, env=ENV) as (master, port):
        assert plain(port, "tasks.put(3); print(results.get(timeout=30))", key=KEY) == "9"
        assert "joined" not in master.stderr_text


def test_quiet_leaves_that_out(project: Path) -> None:
    with serving("app:square", "-q", cwd=project, env=ENV) as (master, port):
        with working(port, cwd=project):
            assert plain(port, "tasks.put(3); print(results.get(timeout=30))", key=KEY) == "9"
        assert "joined" not in master.stderr_text


@pytest.mark.parametrize("command", ["run", "master"])
def test_the_masters_own_workers_are_not_told(command: str, project: Path) -> None:
    argv = (command, "app:square", "2", "-w", "1", "--host", "127.0.0.1", "--port", "0")
    with Running(*DQ, *argv, cwd=project, env=ENV) as running:
        assert running.wait() == 0, running.printed
        assert running.stdout_text == "4\n"
        assert re.fullmatch(r"dq: serving on 127\.0\.0\.1:\d+\n", running.stderr_text)


# Nobody


def nobody(*argv: str, cwd: Path, env: dict[str, str]) -> str:
    """What a master says that waits for its first worker, but for its port."""
    with serving(*argv, cwd=cwd, env=env, dq=SOON) as (master, port):
        said = master.wait_for(r"^dq: no worker has come yet\..*$")[0]
    assert KEY not in master.printed
    return said.replace(str(port), "PORT")


def test_without_a_worker_the_command_that_starts_one_is_told(project: Path) -> None:
    said = nobody("app:square", "2", "-q", "--host", "127.0.0.1", cwd=project, env=ENV)
    assert said == (
        "dq: no worker has come yet. Start one: dq worker --server 127.0.0.1:PORT"
        " (with the same --authkey or DQ_AUTHKEY)"
    )


def test_the_command_names_an_address_that_others_can_reach(project: Path) -> None:
    said = nobody(cwd=project, env=ENV)
    host = said.partition("--server ")[2].partition(":PORT")[0]
    assert host not in ("0.0.0.0", "[::]", "", "127.0.0.1")
    assert said.endswith(f"{host}:PORT (with the same --authkey or DQ_AUTHKEY)")


def test_the_command_works_as_it_is_told(project: Path) -> None:
    with serving("app:square", "3", cwd=project, env=ENV, dq=SOON) as (master, _):
        command = master.wait_for(r"Start one: dq (.*) \(with")[1].split()
        with Running(*DQ, *command, "-p", "1", cwd=project, env=ENV) as worker:
            assert master.wait() == 0, master.printed
            assert worker.wait() == 0, worker.printed
    assert master.stdout_text == "9\n"


@pytest.mark.parametrize("how", ["option", "variable", "own"])
def test_the_key_file_is_named(how: str, project: Path) -> None:
    file = project / ("dq/authkey" if how == "own" else "the key")
    file.parent.mkdir(exist_ok=True)
    file.write_text(KEY)
    file.chmod(0o600)
    option = ("--authkey-file", "the key") if how == "option" else ()
    env = {"DQ_AUTHKEY_FILE": str(file)} if how == "variable" else {}
    env["XDG_CONFIG_HOME"] = str(project)
    said = nobody("app:square", *option, cwd=project, env=env)
    assert said.endswith(f"(with the key file {file} or a copy of it)")


@pytest.mark.slow
def test_once_the_last_worker_has_left_it_is_told_again(project: Path) -> None:
    with serving("app:square", cwd=project, env=ENV) as (master, port):
        with working(port, cwd=project) as worker:
            worker.send_signal(signal.SIGTERM)
            assert worker.wait() == 0, worker.printed
        master.wait_for(r"^dq: no worker is left\. Start one: dq worker --server ")
        assert "has come yet" not in master.stderr_text


@pytest.mark.slow
def test_who_is_there_keeps_it_from_being_told(project: Path) -> None:
    with ExitStack() as stack:
        served, port = stack.enter_context(serving("app:square", cwd=project, env=ENV))
        client = stack.enter_context(plain_running(port, "say('here'); tasks.get()"))
        client.wait_for("here", stream="stdout")
        own, _ = stack.enter_context(serving("app:square", "-w", "1", cwd=project, env=ENV))
        alone, _ = stack.enter_context(serving("app:square", cwd=project, env=ENV))
        alone.wait_for("no worker has come yet")
        for master in (own, served):  # which have been there for longer
            assert "no worker" not in master.stderr_text


# Nothing to call

AT_MASTER = (
    r"^dq: worker \S+ has nothing to call: it has no --task, this master no TASK;"
    " start dq master with a TASK, or dq worker with --task TASK$"
)
AT_WORKER = (
    "^dq: nothing to call: the master has no TASK, and this worker no --task;"
    " start either of them with one$"
)


@pytest.mark.parametrize("quiet", [(), ("-q",)])
def test_both_ends_say_that_there_is_no_task(quiet: tuple[str, ...], project: Path) -> None:
    with serving(*quiet, cwd=project, env=ENV) as (master, port):
        plain(port, "tasks.put(3)", key=KEY)  # until then there might be jobs for the worker
        argv = ("worker", "-s", f"127.0.0.1:{port}", "-p", "1", *quiet)
        with Running(*DQ, *argv, cwd=project, env=ENV) as worker:
            master.wait_for(AT_MASTER)
            worker.wait_for(AT_WORKER)


@pytest.mark.parametrize("which", ["master", "worker"])
def test_a_task_at_either_end_will_do(which: str, project: Path) -> None:
    task = {"master": ("app:square",), "worker": ("--task", "app:square")}
    with serving(*task[which][: which == "master"], cwd=project, env=ENV) as (master, port):
        with working(port, *task[which][: 2 * (which == "worker")], cwd=project) as worker:
            assert plain(port, "tasks.put(3); print(results.get(timeout=30))", key=KEY) == "9"
        assert "nothing to call" not in master.stderr_text + worker.stderr_text


def test_tasks_that_nobody_knows_what_to_do_with_are_told(project: Path) -> None:
    with serving("-w", "1", cwd=project, env=ENV) as (master, port):
        plain(port, "tasks.put(3)", key=KEY)
        master.wait_for(
            "^dq: nothing says what to call with the tasks that clients have put; start dq master"
            " with a TASK, or dq worker with --task TASK$"
        )


def test_a_worker_of_a_queue_manager_says_it_too(project: Path) -> None:
    with QueueManager(("127.0.0.1", 0), authkey=KEY.encode()) as manager:
        argv = ("worker", "-s", f"127.0.0.1:{manager.address[1]}", "-p", "1")
        with Running(*DQ, *argv, cwd=project, env=ENV) as worker:
            worker.wait_for(AT_WORKER)
