"""The standard library's recipe and dq, each as the other's master and worker."""

from __future__ import annotations

import os
import re
import shlex
import signal
import sys
from pathlib import Path

import pytest

from interop.plain import ENV, KEY, plain
from support import DQ, ROOT, Running, can_unshare, isolated, recipe, run, script, serving

HERE = Path(__file__).parent
OWN_MASTER, OWN_WORKER = HERE / "own_master.py", HERE / "own_worker.py"
NUMBERS = [3, 1, 4, 1, 5, 9, 2, 6, 5, 0]


def in_network_of_its_own(code: str, cwd: Path, *argv: object) -> str:
    """Run Python, with the helpers of `support`, where port 5000 is free; return its output."""
    code = "import sys\nfrom support import *\nfrom interop.plain import plain\n" + code
    command = shlex.join([sys.executable, "-c", code, *map(str, argv)])
    path = [str(ROOT / "tests"), *filter(None, [os.environ.get("PYTHONPATH")])]
    env = {"PYTHONPATH": os.pathsep.join(path)}
    done = run(*isolated(command), cwd=cwd, env=env, timeout=90)
    assert done.returncode == 0, done.stderr
    return done.stdout


#: Runs a script whose sleeps are so many times shorter: the recipe's worker has ten, of a second.
HURRIED = """
import runpy, sys, time
sleep = time.sleep
time.sleep = lambda seconds: sleep(seconds / float(sys.argv[1]))
runpy.run_path(sys.argv[2], run_name="__main__")
"""

#: How many times shorter.
pace = pytest.mark.parametrize("pace", [50, pytest.param(1, marks=pytest.mark.slow)])


@pytest.fixture
def folder() -> Path:
    """The recipe's own scripts, where they and a network for them can be had."""
    found = recipe()
    if found is None:
        pytest.skip("the recipe's scripts are not here; DQ_RECIPE may say where")
    if reason := can_unshare():
        pytest.skip(reason)
    return found


# The scripts as they are printed


@pace
def test_recipe_worker_serves_what_a_plain_client_put(
    folder: Path, project: Path, pace: int
) -> None:
    code = """if True:
        with serving("--port", "5000", "--authkey", "abc"):
            plain(5000, f"for n in range(10): tasks.put(n)", key="abc")
            worker = run(sys.executable, "-c", *sys.argv[1:4])
            assert worker.returncode == 0, worker.stderr
            print(plain(5000, "for _ in range(10): print(results.get(timeout=5))", key="abc"))
    """
    out = in_network_of_its_own(code, project, HURRIED, pace, folder / "task_worker.py")
    assert out.splitlines() == [f"{n} * {n} = {n * n}" for n in range(10)]


@pace
def test_recipe_workers_strings_are_the_outputs_of_a_masters_own_inputs(
    folder: Path, project: Path, pace: int
) -> None:
    code = """if True:
        task = ["app:square", *sys.argv[4:]]
        with serving("--port", "5000", "--authkey", "abc", *task) as (master, port):
            worker = run(sys.executable, "-c", *sys.argv[1:4])
            assert worker.returncode == 0, worker.stderr
            assert master.wait() == 0, master.printed
            print(master.stdout_text)
    """
    out = in_network_of_its_own(code, project, HURRIED, pace, folder / "task_worker.py", *NUMBERS)
    assert out.split("\n")[:10] == [f"{n} * {n} = {n * n}" for n in NUMBERS]


def test_dq_worker_serves_the_recipe_master(folder: Path, project: Path) -> None:
    code = """if True:
        argv = ["--server", "127.0.0.1:5000", "--authkey", "abc", "--task", "app:square"]
        with Running(*DQ, "worker", *argv, "-p", "2", "--reconnect", "20"):
            master = script(sys.argv[1])
        assert master.returncode == 0, master.stderr
        print(master.stdout)
    """
    lines = in_network_of_its_own(code, project, folder / "task_master.py").splitlines()
    put = [int(line.split()[2].rstrip(".")) for line in lines if line.startswith("Put task")]
    results = [int(line.split()[1]) for line in lines if line.startswith("Result:")]
    assert len(put) == 10
    assert sorted(results) == sorted(n * n for n in put)


# Scripts of this project that make the same calls


def test_plain_worker_serves_what_a_plain_client_put() -> None:
    with serving(env=ENV) as (_, port):
        plain(port, "for n in range(10): tasks.put(n)")
        worker = script(OWN_WORKER, str(port), KEY, "10")
        assert (worker.returncode, worker.stdout) == (0, "done\n"), worker.stderr
        out = plain(port, "for _ in range(10): print(results.get(timeout=5))")
    assert out.splitlines() == [f"{n} squared is {n * n}" for n in range(10)]


@pytest.mark.parametrize("round", range(3))
def test_plain_workers_values_are_the_outputs_of_a_masters_own_inputs(
    project: Path, round: int
) -> None:
    with serving("app:square", *map(str, NUMBERS), cwd=project, env=ENV) as (master, port):
        worker = script(OWN_WORKER, str(port), KEY, "10")
        # The answer to its last put has to reach it, though the master has all it wants by then.
        assert (worker.returncode, worker.stdout) == (0, "done\n"), worker.stderr
        assert master.wait() == 0, master.printed
        assert master.stdout_text.splitlines() == [f"{n} squared is {n * n}" for n in NUMBERS]


def worked(project: Path, task: str, *given: str) -> tuple[Running, Running]:
    """A plain master that has had all its results from a dq worker, which was then stopped."""
    with Running(sys.executable, OWN_MASTER, KEY, *given) as master:
        port = master.wait_for(r"^port (\d+)", stream="stdout")[1]
        argv = ("--server", f"127.0.0.1:{port}", "--task", task, "-p", "1")
        with Running(*DQ, "worker", *argv, cwd=project, env=ENV) as worker:
            assert master.wait() == 0, master.printed
            worker.send_signal(signal.SIGTERM)
            assert worker.wait() == 0, worker.printed
    return master, worker


def test_dq_worker_serves_a_plain_master_until_it_is_stopped(project: Path) -> None:
    with Running(sys.executable, OWN_MASTER, KEY, "10") as master:
        port = master.wait_for(r"^port (\d+)", stream="stdout")[1]
        argv = ("--server", f"127.0.0.1:{port}", "--task", "app:square", "-p", "2")
        with Running(*DQ, "worker", *argv, cwd=project, env=ENV) as worker:
            assert master.wait() == 0, master.printed
            worker.send_signal(signal.SIGTERM)
            assert worker.wait() == 0, worker.printed
    results = [int(word) for word in master.stdout_text.split()[3::2]]
    assert sorted(results) == [n * n for n in range(10)]


def test_dq_worker_leaves_with_exit_code_4_when_a_plain_master_has_gone(project: Path) -> None:
    with Running(sys.executable, OWN_MASTER, KEY, "1") as master:
        port = master.wait_for(r"^port (\d+)", stream="stdout")[1]
        argv = ("--server", f"127.0.0.1:{port}", "--task", "app:square", "-p", "1")
        with Running(*DQ, "worker", *argv, "--reconnect", "1", cwd=project, env=ENV) as worker:
            assert master.wait() == 0, master.printed
            worker.wait_for(r"^dq: lost the master at .+; looking for it for 1 s$")
            assert worker.wait() == 4, worker.printed
            assert "it did not come back in 1 s" in worker.stderr_text


def test_dq_worker_ends_where_its_own_task_ends_each_process(project: Path) -> None:
    code = "import os\nif 'DQ_SLOT' in os.environ:\n    os._exit(7)\ndef f(x):\n    return x\n"
    (project / "abrupt.py").write_text(code)
    with Running(sys.executable, OWN_MASTER, KEY, "1") as master:
        port = master.wait_for(r"^port (\d+)", stream="stdout")[1]
        argv = ("--server", f"127.0.0.1:{port}", "--task", "abrupt:f", "-p", "1")
        with Running(*DQ, "worker", *argv, cwd=project, env=ENV) as worker:
            assert worker.wait() == 1, worker.printed
    assert "task processes end as soon as they start (5 in a row)" in worker.stderr_text


def test_failure_of_a_dq_workers_task_reaches_a_plain_master_as_runtime_error(
    project: Path,
) -> None:
    with Running(sys.executable, OWN_MASTER, KEY, "1") as master:
        port = master.wait_for(r"^port (\d+)", stream="stdout")[1]
        argv = ("--server", f"127.0.0.1:{port}", "--task", "app:fail", "-p", "1")
        with Running(*DQ, "worker", *argv, cwd=project, env=ENV):
            found = master.wait_for(r"^result (.+\))$", stream="stdout")
    assert found[1].startswith("('ValueError', 'no 0 today', 'Traceback")


def test_an_item_that_a_dq_worker_cannot_unpickle_has_a_result_too(project: Path) -> None:
    master, worker = worked(project, "app:square", "4", "own")
    results = [line for line in master.stdout_text.splitlines() if line.startswith("result")]
    failed = [line for line in results if "('AttributeError', \"Can't get attribute 'Job'" in line]
    assert sorted(set(results) - set(failed)) == ["result 0", "result 4"]
    assert len(failed) == 2
    assert "replacing it" not in worker.stderr_text


@pytest.mark.parametrize(
    ("task", "found"),
    [
        ("lambdas", r"cannot be sent: .*lambda"),
        ("own", r"\('ResultRefused', \"ModuleNotFoundError: No module named 'odd'"),
    ],
)
def test_a_result_that_a_plain_master_cannot_have_is_a_failure(
    project: Path, task: str, found: str
) -> None:
    (project / "odd.py").write_text(
        "class Own:\n    pass\n"
        "def lambdas(x):\n    return lambda: x\n"
        "def own(x):\n    return Own()\n"
    )
    master, _ = worked(project, f"odd:{task}", "2")
    results = [line for line in master.stdout_text.splitlines() if line.startswith("result")]
    assert len(results) == 2
    assert all(re.search(found, line) for line in results), results


def test_dq_worker_without_a_task_is_told_what_a_plain_master_needs(project: Path) -> None:
    with Running(sys.executable, OWN_MASTER, KEY, "1") as master:
        port = master.wait_for(r"^port (\d+)", stream="stdout")[1]
        server = ("--server", f"127.0.0.1:{port}")
        with Running(*DQ, "worker", *server, cwd=project, env=ENV) as worker:
            assert worker.wait() not in (0, None), worker.printed
    assert "--task" in worker.stderr_text
    assert "Traceback" not in worker.stderr_text
