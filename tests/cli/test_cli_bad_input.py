"""A user's mistakes: each is one line, the right exit code, and nothing served."""

from __future__ import annotations

import os
import shutil
import socket
import sys
from pathlib import Path

import pytest
from refusals import assert_refused

from support import DQ, Running, free_port, run, serving
from support.warm import dq

KEY = {"DQ_AUTHKEY": "a key of 16 bytes"}

#: Modules with something wrong, and what the line says of it.
MODULES = [
    ("raise ValueError('at work')\n", "cannot import work: work.py line 1: ValueError: at work"),
    ("\n\ndef f(:\n", "cannot import work: work.py line 3: SyntaxError"),
    ("import no_such_thing\n", "work.py line 1: ModuleNotFoundError: No module named"),
    ("import sys\nsys.exit('bye')\n", "cannot import work: work.py line 2: SystemExit: bye"),
    ("raise KeyboardInterrupt\n", "cannot import work: work.py line 1: KeyboardInterrupt"),
    ("raise OSError('two\\nlines')\n", "cannot import work: work.py line 1: OSError: two lines"),
    ("def g(x): ...\n", "work has no 'f'; it has g"),
    ("f = 12\n", "work:f is not a function but an int"),
    ("def f(): ...\n", "work:f() cannot be called with one input"),
    ("def f(a, b): ...\n", "work:f(a, b) cannot be called with one input"),
    ("def f(*, a): ...\n", "work:f(*, a) cannot be called with one input"),
]


@pytest.mark.parametrize("command", ["run", "master"])
@pytest.mark.parametrize(("source", "message"), MODULES)
def test_a_bad_task_is_refused(project: Path, command: str, source: str, message: str) -> None:
    (project / "work.py").write_text(source)
    assert_refused(dq(command, "work:f", "1", "-w", "1", cwd=project, env=KEY), 2, message)


@pytest.mark.parametrize(("source", "message"), MODULES[:-3])
def test_a_bad_task_of_a_worker_is_refused(project: Path, source: str, message: str) -> None:
    (project / "work.py").write_text(source)
    assert_refused(dq("worker", "--task", "work:f", cwd=project, env=KEY), 2, message)


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("app", "TASK 'app' is neither package.module:function nor path/to/file.py:function"),
        ("app", "; name a function of it: app:square, "),
        ("app.py", "; name a function of it: app.py:square, "),
        ("app:", "; name a function of it: app:square, "),
        ("app.square", "; did you mean app:square?"),
        ("os.path.join", "; did you mean os.path:join?"),
        ("sub/app:f", "which is neither a module's name nor a .py file"),
        ("./app:square", "; did you mean ./app.py:square?"),
        ("square", "TASK 'square' is neither package.module:function nor path/to/file.py:function"),
        ("ap:square", "no module 'ap'"),
        ("ap:square", "; did you mean app?"),
        ("app:sqare", "app has no 'sqare'; it has square"),
        ("app.py:sqare", "app.py has no 'sqare'; it has square"),
        ("app:square.nope", "app has no 'nope'"),
        ("gone.py:f", "no file gone.py"),
        ("app:os", "app:os is not a function but a module"),
    ],
)
def test_a_task_that_is_not_there_is_refused(project: Path, task: str, message: str) -> None:
    assert_refused(dq("run", task, "1", cwd=project), 2, message)


@pytest.mark.parametrize("task", ["app:nope", "nope:f", "app:square"])
def test_an_init_that_cannot_be_called_is_refused(project: Path, task: str) -> None:
    assert_refused(dq("run", "app:square", "1", "--init", task, cwd=project), 2)


def test_an_init_that_raises_is_one_line(project: Path) -> None:
    (project / "work.py").write_text("def start():\n    raise OSError('no licence')\n")
    done = dq("run", "app:square", "1", "--init", "work:start", "-w", "2", cwd=project)
    assert_refused(done, 2, "--init work:start failed: OSError: no licence")


def test_run_without_input_says_how_to_give_some(project: Path) -> None:
    assert_refused(dq("run", "app:square", cwd=project), 2, "no input", "--input FILE")
    for command in ("run", "submit"):  # an input may have been given in place of the TASK
        assert_refused(dq(command, "12", cwd=project), 2, "TASK '12' is neither")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["run"], "Missing argument 'TASK'"),
        (["run", "app:echo", "1", "-w", "0"], "at least 1"),
        (["run", "app:echo", "1", "-w", "many"], "not a number of processes"),
        (["run", "app:echo", "1", "-w", "10001"], "'10001' is more than 10000 processes"),
        (["worker", "-p", "2000000%"], "is more than 10000 processes: give fewer"),
        (
            ["run", "app:echo", "1", "-t", "1001"],
            "1001 is out of range: give a number from 1 to 1000",
        ),
        (["run", "app:echo", "1", "-t", "0"], "0 is out of range: give "),
        (["run", "app:echo", "1", "--timeout", "soon"], "not a duration"),
        (["run", "app:echo", "1", "--timeout", "0"], "give a longer timeout, or none"),
        (["run", "app:echo", "-1", "2"], "Put -- before inputs that begin with a dash"),
        (["run", "app:echo", "1", "--retries", "-1"], "-1 is out of range: give "),
        (["run", "app:echo", "1", "--max-memory", "much"], "not a size"),
        (["run", "app:echo", "1", "--max-memory", "1M"], "give 33554432 or more"),
        (["run", "app:echo", "1", "--max-message", "0"], "give 1 or more"),
        (["run", "app:echo", "1", "--host", "::1"], "--host goes with --port"),
        (["run", "app:echo", "1", "--skip-bad"], "--skip-bad goes with --input FILE"),
        (["run", "app:echo", "1", "--input-format", "csv"], "--input-format goes with --input"),
        (["run", "app:echo", "1", "-f", "xml"], "'xml' is not one of"),
        (["run", "app:echo", "1", "--batch", "0"], "0 is out of range: give "),
        (["run", "app:echo", "1", "--port", "99999"], "99999 is out of range: give "),
        (["run", "app:echo", "1", "--retry", "3"], "--retr"),
        (["run", "app:echo", "1", "-i", "app.py"], "INPUTs and --input together"),
        (["run", "app:echo", "-i", "gone.txt"], "cannot read gone.txt: No such file"),
        (["run", "app:echo", "-i", "."], "cannot read .: Is a directory"),
        (["run", "app:echo", "-i", "empty.csv"], "empty.csv has no header line"),
        (["run", "app:echo", "1", "-o", "gone/out"], "cannot write gone/out: No such file"),
        (["run", "app:echo", "1", "-o", "."], "cannot write .: Is a directory"),
        (["run", "app:echo", "-i", "-", "-i", "-"], "standard input can be read only once"),
        (["run", "app:echo", "-i", "app.py", "--delimiter", "||"], "'||' is not one character"),
        (["run", "app:echo", "-i", "app.py", "-0", "--input-format", "csv"], "--null and"),
        (["run", "app:echo", "1", "-o", ""], "'--output': it is empty: name a file"),
        (["run", "app:echo", "1", "--journal", ""], "'--journal': it is empty: name a file"),
        (["run", "app:echo", "1", "--port", "abc"], "'--port': 'abc' is not a whole number"),
        (["run", "app:echo", "1", "--keepalive", "4s"], "'4s' is not from 5 to 86400 seconds"),
        (["master", "--host", "127.0.0.1:5000"], "'127.0.0.1:5000' has a port in it: leave that"),
        (["worker", "-p", "0"], "at least 1"),
        (["worker", "-s", "here:port"], "'here:port' is not HOST or HOST:PORT"),
        (["worker", "-s", "here:0"], "with a port from 1 to 65535"),
        (["worker", "-s", ""], "is not HOST or HOST:PORT"),
        (["rum"], "no command 'rum'; did you mean run?"),
        (["sing"], "There are run, master, worker"),
        (["--loud"], "--loud"),
    ],
)
def test_a_mistake_on_the_command_line_is_refused(
    project: Path, args: list[str], message: str
) -> None:
    (project / "empty.csv").touch()
    assert_refused(dq(*args, cwd=project, env=KEY), 2, message)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read and write everything")
@pytest.mark.parametrize("args", [["-i", "secret"], ["1", "-o", "locked/out"]])
def test_a_file_without_permission_is_refused(project: Path, args: list[str]) -> None:
    (project / "secret").touch(0o000)
    (project / "locked").mkdir(0o500)
    assert_refused(dq("run", "app:echo", *args, cwd=project), 2, "Permission denied")


def test_inputs_without_a_task_are_refused(project: Path) -> None:
    (project / "in.txt").write_text("1\n")
    done = dq("master", "--port", "0", "-i", "in.txt", cwd=project, env=KEY)
    assert_refused(done, 2, "TASK")


def test_a_port_in_use_says_by_what_it_may_be(project: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        argv = ("master", "--host", "127.0.0.1", "--port", str(port))
        assert_refused(dq(*argv, cwd=project, env=KEY), 3, f"port {port} is in use", "by ")


def test_a_privileged_port_is_refused(project: Path) -> None:
    unprivileged: tuple[str, ...] = ()
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("root may have every port, and there is no setpriv here")
        unprivileged = ("setpriv", "--bounding-set=-net_bind_service", "--inh-caps=-all", "--")
    try:
        first = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    except OSError:
        first = 1024
    if first <= 7:
        pytest.skip("no port is privileged here")
    done = run(*unprivileged, *DQ, "master", "--port", "7", cwd=project, env=KEY)
    assert_refused(done, 3, "port 7 is privileged")


def test_an_address_that_is_not_this_machines_is_refused(project: Path) -> None:
    argv = ("master", "--host", "192.0.2.1", "--port", "0")  # TEST-NET-1: nobody's
    assert_refused(dq(*argv, cwd=project, env=KEY), 3, "this machine has no such address")


@pytest.mark.parametrize("args", [("worker", "-s"), ("master", "--port", "0", "--host")])
def test_a_host_that_cannot_be_resolved_is_refused(project: Path, args: tuple[str, ...]) -> None:
    """With a name that no resolver takes: two dots in a row."""
    done = dq(*args, "no..host", cwd=project, env=KEY, timeout=20)
    assert_refused(done, 3, "cannot resolve the host in no..host")


def test_a_worker_looks_for_a_master_and_says_so_once(project: Path) -> None:
    with socket.socket() as reserved:  # bound and not listening: the port is nobody else's
        reserved.bind(("127.0.0.1", 0))
        where = f"127.0.0.1:{reserved.getsockname()[1]}"
        argv = ("worker", "-s", where, "--reconnect", "1")
        done = dq(*argv, cwd=project, env=KEY)
    assert done.returncode == 3
    first, last = done.stderr.splitlines()
    assert first == f"dq: nobody listens at {where}; is the master running? Trying for 1 s."
    assert last == f"dq: nobody listens at {where}; is the master running?"


def test_a_worker_finds_a_master_that_starts_after_it(project: Path) -> None:
    port = str(free_port())
    worker_argv = (*DQ, "worker", "-s", f"127.0.0.1:{port}", "-p", "1")
    with Running(*worker_argv, cwd=project, env=KEY) as worker:
        worker.wait_for("is the master running")
        argv = ("master", "app:square", "3", "--host", "127.0.0.1", "--port", port)
        done = dq(*argv, cwd=project, env=KEY)
        assert (done.returncode, done.stdout) == (0, "9\n"), done.stderr
        assert worker.wait() == 0


def test_a_worker_with_another_key_is_refused_at_once(project: Path) -> None:
    with serving("--host", "127.0.0.1", cwd=project, env=KEY) as (_, port):
        argv = ("worker", "-s", f"127.0.0.1:{port}", "--authkey", "another key")
        assert_refused(dq(*argv, cwd=project), 3, f"127.0.0.1:{port} has another authkey")


def test_what_is_no_dq_master_is_said_to_be_none(project: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        argv = (*DQ, "worker", "-s", f"127.0.0.1:{port}", "--reconnect", "0")
        with Running(*argv, cwd=project, env=KEY) as worker:
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 64)
                assert worker.wait() == 3
    assert worker.stderr_text.count("\n") == 1
    assert worker.stderr_text.startswith("dq: ")


def test_the_debug_option_shows_the_traceback(project: Path) -> None:
    done = dq("run", "app:nope", "1", "--debug", cwd=project)
    assert done.returncode == 2
    assert "Traceback" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("dq: app has no 'nope'")


def test_a_task_that_cannot_be_loaded_by_a_remote_worker_names_its_path(project: Path) -> None:
    """The job goes on with the worker that can."""
    argv = (*DQ, "master", "app:square", "3", "4", "--host", "127.0.0.1", "--port", "0")
    empty = project / "empty"
    empty.mkdir()
    with Running(*argv, cwd=project, env=KEY) as master:
        where = f"127.0.0.1:{master.wait_for(r'^dq: serving on [^:]+:(.+)$')[1]}"
        worker = (*DQ, "worker", "-p", "1", "-s", where)
        with Running(*worker, cwd=empty, env=KEY) as poor:
            said = master.wait_for("cannot load this job: no module 'app'.*sys.path is")
            assert str(empty) in said.string
            poor.wait_for("^dq: cannot load this job: .*; this worker needs the same code")
            with Running(*worker, cwd=project, env=KEY):
                assert master.wait() == 0, master.printed
            assert poor.wait() == 0
    assert master.stdout_text == "9\n16\n"


def test_python_itself_is_not_hidden_by_a_users_module(project: Path) -> None:
    """`python -m` has the current directory before everything else."""
    for name in ("queue", "socket", "threading", "random"):
        (project / f"{name}.py").write_text("raise ImportError('the wrong one')\n")
    done = run(sys.executable, "-m", "dq", "run", "app.py:square", "3", cwd=project)
    assert (done.returncode, done.stdout) == (0, "9\n"), done.stderr
