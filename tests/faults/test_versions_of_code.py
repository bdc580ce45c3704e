"""A task's file that is edited while a run goes on, or another one on another machine."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

import dq as api
from support import DQ, Running, dq, serving, wait_until
from support.jobs import JobsMaster

KEY = "k" * 16
SOURCE = """
import os, time

def work(name):
    open(name, "w").close()
    while not os.path.exists("go"):
        time.sleep(0.01)
    return "{word}"
"""
SAID = r"worker \S+ has loaded another version of \S*changing\.py than this run began with"


def write(folder: Path, word: str) -> None:
    (folder / "changing.py").write_text(SOURCE.format(word=word))


def edited(project: Path, *options: str, task: str = "changing:work") -> Running:
    """A run in which each task has a process of its own, and the file is edited in the first."""
    write(project, "old")
    argv = (*DQ, "run", task, *"abc", "-w", "1", "--max-tasks", "1", *options)
    run = Running(*argv, cwd=project)
    wait_until((project / "a").exists)
    write(project, "new one")
    (project / "go").touch()
    return run


@pytest.mark.parametrize("task", ["changing:work", "changing.py:work"])
def test_a_file_that_is_edited_during_a_run_is_said_once(project: Path, task: str) -> None:
    with edited(project, task=task) as run:
        assert run.wait() == 0, run.printed
    assert run.stdout_text == "old\nnew one\nnew one\n"
    assert run.stderr_text.count("has loaded another version") == 1
    run.wait_for(f"^dq: {SAID}, and works with it; --strict-code refuses that$")


def test_strict_code_starts_nothing_with_an_edited_file(project: Path) -> None:
    with edited(project, "--strict-code") as run:
        assert run.wait() == 2, run.printed
    run.wait_for(r"changing\.py is not what it was when this run began \(--strict-code\)")
    assert run.stdout_text == "old\n"
    assert not (project / "b").exists()


def test_an_unchanged_file_is_not_spoken_of(project: Path) -> None:
    write(project, "old")
    (project / "go").touch()
    argv = ("run", "changing:work", *"abc", "-w", "2", "--max-tasks", "1", "--strict-code")
    done = dq(*argv, cwd=project)
    assert (done.returncode, done.stdout, done.stderr) == (0, "old\n" * 3, "")


@pytest.mark.parametrize("strict", [False, True])
def test_another_file_on_another_machine_is_said_on_both(
    project: Path, tmp_path: Path, strict: bool
) -> None:
    there = tmp_path / "there"
    there.mkdir()
    write(project, "here")
    write(there, "there")
    (there / "go").touch()
    options = ["--strict-code"] if strict else []
    env = {"DQ_AUTHKEY": KEY}
    with serving("changing:work", "a", *options, cwd=project, env=env) as (master, port):
        worker = (*DQ, "worker", "-s", f"127.0.0.1:{port}", "-p", "1")
        with Running(*worker, cwd=there, env=env) as other:
            other.wait_for(r"^dq: .*changing\.py is not what it was when this run began")
            if strict:
                master.wait_for(r"changing\.py is not what it was when this run began")
                assert not (there / "a").exists()
                return
            master.wait_for(SAID)
            assert [master.wait(), other.wait()] == [0, 0]
    assert master.stdout_text == "there\n"


def test_python_has_strict_code_too(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    monkeypatch.syspath_prepend(project)
    write(project, "old")
    with api.Master(workers=1, max_tasks=1, batch=1, strict_code=True) as master:
        values = master.map("changing:work", ["a", "b", "c"])
        wait_until((project / "a").exists)
        write(project, "new one")
        os.close(os.open(project / "go", os.O_CREAT))
        with pytest.raises(api.BadTask, match=r"is not what it was .* \(strict_code\)"):
            list(values)


def test_who_submits_a_job_is_told_that_a_worker_has_another_file(
    project: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    write(project, "old")
    write(elsewhere, "new one")
    (project / "go").touch()
    said = (
        r"has loaded another version of \S*changing\.py than the submitter has, and works with it"
    )
    with JobsMaster(project) as master:
        argv = ("submit", "changing:work", "a", "--wait")
        done = dq(*argv, cwd=elsewhere, env=master.where["env"])
        assert (done.returncode, done.stdout) == (0, "old\n")
        assert len(re.findall(said, done.stderr)) == 1, done.stderr
        for command in ("results", "wait", "status", "logs"):
            done = master.dq(command, "1")
            assert len(re.findall(said, done.stdout + done.stderr)) == 1, done
        done = dq(*argv, "--strict-code", "--timeout", "1", cwd=project, env=master.where["env"])
        assert (done.returncode, done.stdout, "version" in done.stderr) == (0, "old\n", False)
