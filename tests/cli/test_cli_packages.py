"""A TASK in a package, and one whose libraries only workers have."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from refusals import assert_refused

from support import DQ, Running, run, serving
from support.warm import dq

KEY = {"DQ_AUTHKEY": "a key of 16 bytes"}

# Relative imports


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package and one in it, each with a task that imports its neighbour."""
    for folder in (tmp_path / "pkg", tmp_path / "pkg" / "sub"):
        folder.mkdir()
        (folder / "__init__.py").touch()
        (folder / "helper.py").write_text("def ten(x): return 10 * x\n")
        (folder / "jobs.py").write_text(
            "from .helper import ten\ndef work(x): return ten(x)\n"
            "class Shop:\n    @staticmethod\n    def work(x): return ten(x)\n"
        )
    return tmp_path


@pytest.mark.parametrize(
    ("folder", "task", "named"),
    [
        (".", "pkg/jobs.py:work", "pkg.jobs:work"),
        (".", "pkg/sub/jobs.py:Shop.work", "pkg.sub.jobs:Shop.work"),
        ("pkg", "jobs.py:work", "pkg.jobs:work"),
        ("pkg", "sub/jobs.py:work", "pkg.sub.jobs:work"),
    ],
)
def test_a_file_with_relative_imports_is_named_as_a_module(
    folder: str, task: str, named: str, package: Path
) -> None:
    done = dq("run", task, "1", cwd=package / folder)
    where = "" if folder == "." else f", in the folder {package}"
    assert_refused(done, 2, "relative import", f"give {named} as the TASK{where}\n".rstrip())
    assert dq("run", named, "1", "-w", "1", cwd=package).stdout == "10\n"


def test_a_file_beside_a_package_is_a_file_still(package: Path) -> None:
    (package / "top.py").write_text("from pkg.helper import ten\n")
    assert dq("run", "top.py:ten", "1", "-w", "1", cwd=package).stdout == "10\n"


# Libraries


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A task whose library is in the folder `lib`, which only some have on their path."""
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "onlythere.py").write_text("FACTOR = 5\n")
    (tmp_path / "app.py").write_text(
        "import onlythere\ndef times(x): return x * onlythere.FACTOR\ndef start(): pass\n"
    )
    return tmp_path


SAID = (
    "dq: cannot import app: app.py line 1: ModuleNotFoundError: No module named 'onlythere';"
    " going on, since only workers need it"
)


def test_a_master_without_the_libraries_of_its_workers_serves(elsewhere: Path) -> None:
    with serving("app:times", "2", "--init", "app:start", cwd=elsewhere, env=KEY) as (master, port):
        env = {**KEY, "PYTHONPATH": str(elsewhere / "lib")}
        argv = ("worker", "-s", f"127.0.0.1:{port}", "-p", "1")
        with Running(*DQ, *argv, cwd=elsewhere, env=env) as worker:
            assert master.wait() == 0, master.printed
            assert worker.wait() == 0, worker.printed
    assert master.stdout_text == "10\n"
    assert master.stderr_text.count("onlythere") == 1
    assert SAID in master.stderr_text.splitlines()


def test_a_worker_without_the_library_is_passed_over(elsewhere: Path) -> None:
    with serving("app:times", "2", cwd=elsewhere, env=KEY) as (master, port):
        argv = (*DQ, "worker", "-s", f"127.0.0.1:{port}", "-p", "1")
        with Running(*argv, cwd=elsewhere, env=KEY) as without:
            master.wait_for("^dq: worker .* cannot load this job: .*No module named 'onlythere'")
            env = {**KEY, "PYTHONPATH": str(elsewhere / "lib")}
            with Running(*argv, cwd=elsewhere, env=env) as worker:
                assert master.wait() == 0, master.printed
                assert (worker.wait(), without.wait()) == (0, 0)
    assert master.stdout_text == "10\n"


@pytest.mark.parametrize(
    "command", [("run",), ("master", "--port", "0", "-w", "1"), ("run", "--port", "0")]
)
def test_with_workers_here_a_missing_library_is_refused(
    command: tuple[str, ...], elsewhere: Path
) -> None:
    done = dq(command[0], "app:times", "2", *command[1:], cwd=elsewhere, env=KEY)
    assert_refused(done, 2, "No module named 'onlythere'")


def test_a_worker_refuses_a_task_of_its_own_without_its_library(elsewhere: Path) -> None:
    done = dq("worker", "--task", "app:times", cwd=elsewhere, env=KEY)
    assert_refused(done, 2, "No module named 'onlythere'")


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ("ap:times", "no module 'ap'"),
        ("app.sub:times", "no module 'app.sub'"),
        ("mine:times", "cannot import name 'nope' from 'helper'"),
        ("pkg.jobs:times", "No module named 'pkg.helpr'"),
        ("broken:times", "SyntaxError"),
        ("helper:times", "helper has no 'times'"),
        ("pkg.up:times", "relative import beyond top-level package"),
        ("circle:times", "circular import"),
    ],
)
def test_what_is_wrong_in_ones_own_code_is_refused(task: str, said: str, elsewhere: Path) -> None:
    (elsewhere / "app.py").write_text("def times(x): return x\n")
    (elsewhere / "helper.py").touch()
    (elsewhere / "mine.py").write_text("from helper import nope\n")
    (elsewhere / "broken.py").write_text("def times(x) return x\n")
    (elsewhere / "pkg").mkdir()
    (elsewhere / "pkg" / "jobs.py").write_text("from .helpr import times\n")
    (elsewhere / "pkg" / "up.py").write_text("from ..helper import times\n")
    (elsewhere / "circle.py").write_text("from circle import times\n")
    done = dq("master", task, "2", "--port", "0", cwd=elsewhere, env=KEY)
    assert_refused(done, 2, said)


def test_a_library_that_is_another_version_here_is_let_through(elsewhere: Path) -> None:
    installed = elsewhere / "venv" / "site-packages"
    installed.mkdir(parents=True)
    (installed / "onlythere.py").touch()
    (elsewhere / "app.py").write_text("from onlythere import FACTOR\ndef times(x): return x\n")
    env = {**KEY, "PYTHONPATH": str(installed)}
    with serving("app:times", "2", cwd=elsewhere, env=env) as (master, _):
        assert "cannot import name 'FACTOR' from 'onlythere'" in master.stderr_text


def test_a_library_that_says_itself_what_it_lacks_is_let_through(elsewhere: Path) -> None:
    (elsewhere / "app.py").write_text("raise ImportError('cannot open shared object file')\n")
    with serving("app:times", "2", cwd=elsewhere, env=KEY) as (master, _):
        assert "cannot open shared object file; going on" in master.stderr_text


SCRIPT = """
import sys, threading, dq
said = []
try:
    with dq.Master(host="127.0.0.1", port=0, authkey=b"a key of 16 bytes", report=said.append,
                   workers=int(sys.argv[1])) as master:
        values = master.map("app:times", [2])
        master.map("app:times", [3])
        print([line.partition(";")[0] for line in said if "onlythere" in line])
except dq.BadTask as error:
    print("refused", "onlythere" in str(error))
"""


@pytest.mark.parametrize(
    ("workers", "said"),
    [(0, [SAID.removeprefix("dq: ").partition(";")[0]]), (1, "refused True")],
)
def test_the_same_in_python(workers: int, said: object, elsewhere: Path) -> None:
    done = run(sys.executable, "-c", SCRIPT, f"{workers}", cwd=elsewhere)
    assert (done.returncode, done.stdout) == (0, f"{said}\n"), done.stderr
