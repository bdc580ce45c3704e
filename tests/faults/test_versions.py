"""A worker of another dq, of another Python, with another module of that name: it works, or is
refused with a sentence, and whoever else is there does the work."""

from __future__ import annotations

import datetime
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

import click
import pytest

import dq as api
from dq.manager.protocol import PROTOCOL
from faults.history import lines
from faults.scene import KEY, Hazards
from interop.plain import EVERY_PYTHON, pythons
from support import DQ, FaultProxy, Running, run, serving
from support.process import SERVING

INPUTS = list(range(30))
OURS, OTHER = PROTOCOL, PROTOCOL + 1


# Another dq


def altered(folder: Path, file: str, old: str, new: str) -> dict[str, str]:
    """An environment with a copy of dq in which one thing is different."""
    # Other processes may be writing bytecode meanwhile.
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(Path(api.__file__).parent, folder / "dq", ignore=ignored)
    source = (folder / "dq" / file).read_text()
    assert source.count(old) == 1, f"{file} has no longer one {old!r}"
    (folder / "dq" / file).write_text(source.replace(old, new))
    return {"PYTHONPATH": str(folder)}


@pytest.fixture
def newer(tmp_path: Path) -> dict[str, str]:
    """A dq of another version that speaks the same protocol."""
    version = f'__version__ = "{api.__version__}"'
    return altered(tmp_path / "newer", "__init__.py", version, '__version__ = "99.0"')


@pytest.fixture
def foreign(tmp_path: Path) -> dict[str, str]:
    """A dq that speaks another protocol."""
    return altered(
        tmp_path / "foreign",
        "manager/protocol.py",
        f"PROTOCOL = {OURS} ",
        f"PROTOCOL = {OTHER} ",
    )


def worker_of(port: int, command: tuple[str, ...] = DQ) -> list[str]:
    return [*command, "worker", "--server", f"127.0.0.1:{port}", "-p", "1"]


def both(
    hazards: Hazards, master_env: dict[str, str], worker_env: dict[str, str]
) -> tuple[Running, Running]:
    """A master with inputs and a worker, until that ends, and the master where it has succeeded."""
    job = hazards.job("short", INPUTS)
    how = {"cwd": hazards.folder}
    with (
        serving(*job, **how, env={**hazards.env, **master_env}) as (master, port),
        Running(*worker_of(port), **how, env={**hazards.env, **worker_env}) as worker,
    ):
        if worker.wait() == 0:
            master.wait()
    return master, worker


@pytest.mark.parametrize("which", ["master", "worker"])
def test_another_version_with_the_same_protocol_works(
    hazards: Hazards, newer: dict[str, str], which: str
) -> None:
    assert run(*DQ, "--version", env=newer).stdout == "dq 99.0\n"
    envs = (newer, {}) if which == "master" else ({}, newer)
    master, worker = both(hazards, *envs)
    assert (master.process.returncode, worker.process.returncode) == (0, 0), master.printed
    assert hazards.history(INPUTS, master.stdout_text).check().extra == 0


SENTENCE = "dq: this master speaks dq protocol {}, the worker {}; install the same dq on both\n"


@pytest.mark.parametrize(
    ("which", "spoken"), [("master", (OTHER, OURS)), ("worker", (OURS, OTHER))]
)
def test_another_protocol_is_refused_with_a_sentence(
    hazards: Hazards, foreign: dict[str, str], which: str, spoken: tuple[int, int]
) -> None:
    envs = (foreign, {}) if which == "master" else ({}, foreign)
    _, worker = both(hazards, *envs)
    assert worker.process.returncode == 3
    assert worker.stderr_text == SENTENCE.format(*spoken)
    assert not hazards.executions


def test_others_work_on_while_one_of_another_protocol_is_refused(
    hazards: Hazards, foreign: dict[str, str]
) -> None:
    with (
        hazards.serving("gated", INPUTS) as (master, port),
        hazards.worker(port, "-p", "1") as worker,
    ):
        hazards.wait_for_executions()
        refused = run(*worker_of(port), cwd=hazards.folder, env={**hazards.env, **foreign})
        assert refused.returncode == 3
        hazards.open_gate()
        assert [master.wait(), worker.wait()] == [0, 0], master.printed
    assert "protocol" not in master.stderr_text
    assert hazards.history(INPUTS, master.stdout_text).check().extra == 0


def test_a_worker_says_that_its_master_has_come_back_as_another_dq(
    hazards: Hazards, foreign: dict[str, str]
) -> None:
    job, how = hazards.job("gated", [1, 2]), {"cwd": hazards.folder}
    with (
        hazards.serving("gated", [1, 2]) as (before, port),
        FaultProxy(("127.0.0.1", port)) as proxy,
        hazards.worker(proxy.port, "-p", "1", "--reconnect", "2") as worker,
        serving(*job, **how, env={**hazards.env, **foreign}) as (_, after),
    ):
        hazards.wait_for_executions()
        proxy.target = ("127.0.0.1", after)
        before.kill_group()
        hazards.open_gate()
        assert worker.wait() == 4, worker.printed
    assert worker.stderr_text.count(SENTENCE.format(OTHER, OURS)) == 1


# Another Python


class Other(NamedTuple):
    """The dq of another CPython, and the environment that it needs."""

    command: tuple[str, ...]
    env: dict[str, str]


@pytest.fixture(params=EVERY_PYTHON)
def other(request: pytest.FixtureRequest, tmp_path: Path) -> Other:
    """How to call the dq of another CPython, and in which environment."""
    ours = f"{sys.version_info[0]}.{sys.version_info[1]}"
    if request.param == ours:
        pytest.skip("this is the Python that the tests run in")
    if request.param not in pythons():
        pytest.skip(f"there is no CPython {request.param} on this machine")
    # All that dq needs besides the standard library, and pure Python.
    shutil.copytree(Path(click.__file__).parent, tmp_path / "packages" / "click")
    path = f"{Path(api.__file__).parents[1]}{os.pathsep}{tmp_path / 'packages'}"
    command = (pythons()[request.param], "-m", "dq")
    return Other(command, {"PYTHONPATH": path, "PYTHONNOUSERSITE": "1"})


def test_a_worker_of_another_python_works(hazards: Hazards, other: Other) -> None:
    with hazards.serving("short", INPUTS) as (master, port):
        argv = worker_of(port, other.command)
        with Running(*argv, cwd=hazards.folder, env={**hazards.env, **other.env}) as worker:
            assert [master.wait(), worker.wait()] == [0, 0], worker.printed
    assert hazards.history(INPUTS, master.stdout_text).check().extra == 0


def test_a_master_of_another_python_is_worked_for(hazards: Hazards, other: Other) -> None:
    argv = (*other.command, "master", "--port", "0", *hazards.job("short", INPUTS))
    with Running(*argv, cwd=hazards.folder, env={**hazards.env, **other.env}) as master:
        port = int(master.wait_for(SERVING)["port"])
        with hazards.worker(port, "-p", "1") as worker:
            assert [master.wait(), worker.wait()] == [0, 0], master.printed
    assert hazards.history(INPUTS, master.stdout_text).check().extra == 0


def test_values_and_failures_come_from_another_python(hazards: Hazards, other: Other) -> None:
    values = [1, 2.5, "three", (4, {5}), {6: b"seven"}, datetime.date(2026, 8, 9), Decimal("1.0")]
    with api.Master(host="127.0.0.1", port=0, authkey=KEY) as master:
        argv = worker_of(int(master.address[1]), other.command)
        with Running(*argv, cwd=hazards.folder, env={**hazards.env, **other.env}) as worker:
            assert list(master.map("hazards:same", values)) == values
            [failed] = master.stream("hazards:raises_ununpicklable", ["bad"])
            assert str(failed.error) == "TwoArguments: one and two"
            worker.send_signal(signal.SIGTERM)
            assert worker.wait() == 0, worker.printed


# Another byte of the task's module


def elsewhere(hazards: Hazards, change: Callable[[str], str]) -> Path:
    """A folder on another machine, as it were, with another `hazards.py`."""
    folder = hazards.folder.with_name("elsewhere")
    folder.mkdir()
    (folder / "hazards.py").write_text(change((hazards.folder / "hazards.py").read_text()))
    return folder


def test_each_worker_calls_what_its_own_folder_has(hazards: Hazards) -> None:
    folder = elsewhere(hazards, lambda text: f"{text}\n\ndef same(x):\n    return [x]\n")
    with (
        hazards.serving("same", [1, 2, 3]) as (master, port),
        Running(*worker_of(port), cwd=folder, env=hazards.env) as worker,
    ):
        assert [master.wait(), worker.wait()] == [0, 0], master.printed
    assert [record["result"] for record in lines(master.stdout_text)] == [[1], [2], [3]]


BROKEN: dict[str, tuple[Callable[[str], str], str]] = {
    "no function": (lambda text: text.replace("def gated(", "def gates("), "has no 'gated'; it"),
    "no module": (lambda _: "import no_such_module", "No module named 'no_such_module'"),
    "a syntax error": (lambda text: f"def (\n{text}", "hazards.py line 1: SyntaxError"),
    "an exit": (lambda _: "raise SystemExit(3)", "hazards.py line 1: SystemExit: 3"),
    "nothing": (lambda _: "", "it has no functions"),
}


@pytest.mark.sampled(2)
@pytest.mark.parametrize("how", BROKEN)
def test_a_worker_whose_module_does_not_do_is_refused_and_others_have_its_tasks(
    hazards: Hazards, how: str
) -> None:
    change, words = BROKEN[how]
    folder = elsewhere(hazards, change)
    with (
        hazards.serving("gated", INPUTS, "--batch", "5") as (master, port),
        Running(*worker_of(port), cwd=folder, env=hazards.env) as broken,
    ):
        said = master.wait_for("dq: worker .* cannot load this job: (.*); its sys.path is (.*)")
        assert words in said[1]
        assert str(folder) in said[2]
        broken.wait_for("dq: cannot load this job: ")
        hazards.open_gate()
        with hazards.worker(port, "-p", "1") as worker:
            codes = [master.wait(), worker.wait(), broken.wait()]
            assert codes == [0, 0, 0], master.printed
    history = hazards.history(INPUTS, master.stdout_text).check()
    assert history.extra == 0
    assert {record["attempts"] for record in history.records} == {1}


def test_a_process_keeps_the_module_that_it_began_with_and_the_next_one_has_the_new(
    hazards: Hazards,
) -> None:
    module = hazards.folder / "hazards.py"
    how = {"cwd": hazards.folder, "env": hazards.env}
    fed = ("--input", "-", "--format", "jsonl", "--batch", "1", "-q")
    with (
        serving("hazards:same", *fed, **how, stdin=subprocess.PIPE) as (master, port),
        Running(*worker_of(port), "--max-tasks", "2", **how) as worker,
    ):
        for id, change in enumerate(["", "\n\ndef same(x):\n    return [x]\n", ""]):
            module.write_text(module.read_text() + change)
            master.write(f"{id}\n")
            master.wait_for(f'"id": {id},', stream="stdout")
        master.close_stdin()
        assert [master.wait(), worker.wait()] == [0, 0], worker.printed
    assert [record["result"] for record in lines(master.stdout_text)] == [0, 1, [2]]
