"""`dq journal` for the file of a master that keeps jobs, with the master and without it."""

from __future__ import annotations

import json

from support.jobs import JobsMaster
from support.warm import dq


def test_a_masters_file_is_shown_while_it_is_written_and_afterwards(master: JobsMaster) -> None:
    number = master.submit("app:boom_at_7", "6", "7", "8", "--name", "seven")
    master.submit("app:square", "1", "2", "--needs", "gpu")
    master.dq("wait", number)
    beside = master.dq("journal", "jobs.dq")
    assert beside.returncode == 0, beside.stderr
    head, first, second, state = beside.stdout.splitlines()
    assert head.split() == ["JOB", "NAME", "STATE", "DONE", "FAILED", "AGE", "TASK"]
    assert first.split()[:5] == ["1", "seven", "failed", "2/3", "1"]
    assert second.split()[:3] == ["2", "open", "0/2"]
    assert state.startswith("open: a master is writing it")
    results = master.dq("results", number, "-f", "jsonl").stdout
    assert master.dq("journal", "jobs.dq", "seven", "-f", "jsonl").stdout == results
    master.kill()
    assert master.dq("journal", "jobs.dq", "1", "-f", "jsonl").stdout == results
    failed = master.dq("journal", "jobs.dq", "1", "--failed").stdout
    assert failed == "task 1 (7) failed: ValueError: seven\n"
    in_full = master.dq("journal", "jobs.dq", "1").stdout
    assert "tasks      3 of 3, 1 failed" in in_full
    assert "1 x ValueError in boom_at_7" in in_full
    listed = map(json.loads, master.dq("journal", "jobs.dq", "-f", "jsonl").stdout.splitlines())
    assert [(one["number"], one["state"]) for one in listed] == [(1, "failed"), (2, "open")]


def test_what_does_not_go_with_a_masters_file_is_said_on_one_line(master: JobsMaster) -> None:
    master.submit("app:square", "1")
    run = dq("run", "app:square", "1", "--journal", "run.journal", cwd=master.folder)
    assert run.returncode == 0
    for argv, said in [
        (("jobs.dq", "--failed"), "name the one whose failed tasks you want"),
        (("jobs.dq", "--recover", "new"), "is for the journal of a run"),
        (("jobs.dq", "7"), "there is no job 7"),
        (("run.journal", "1"), "has no jobs"),
        (("no.file",), "no such file"),
        (("app.py",), "app.py"),
    ]:
        done = master.dq("journal", *argv)
        assert (done.returncode, done.stdout) == (2, ""), argv
        assert said in done.stderr
        assert done.stderr.count("\n") == 1
