"""Commands for jobs on a master that stays."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import wait_until
from support.jobs import JobsMaster
from support.process import dq_with
from support.warm import dq


@pytest.fixture
def gated(gates: Path) -> Iterator[JobsMaster]:
    """A master whose task waits for a file."""
    with JobsMaster(gates) as running:
        yield running


def test_submit_prints_the_jobs_number_and_results_prints_its_results(master: JobsMaster) -> None:
    assert master.dq("submit", "app:square", "1", "2", "3").stdout == "1\n"
    assert master.submit("app:square", "4") == "2"
    assert master.dq("wait", "1", "2").returncode == 0
    assert master.dq("results", "1").stdout == "1\n4\n9\n"
    assert master.dq("results", "last").stdout == "16\n"
    assert master.dq("results", "1").stdout == "1\n4\n9\n"


def test_submit_waits_on_request_and_prints_what_run_would(master: JobsMaster) -> None:
    done = master.dq("submit", "app:square", "1", "2", "--wait")
    assert (done.returncode, done.stdout) == (0, "1\n4\n")
    assert "this is job 1" in done.stderr


def test_inputs_may_come_from_files_and_standard_input(master: JobsMaster) -> None:
    (master.folder / "in.csv").write_text("a,b\n1,2\n3,4\n")
    done = master.dq("submit", "app:add", "-i", "in.csv", "--unpack", "--wait")
    assert (done.returncode, done.stdout) == (0, "3\n7\n")
    done = master.dq("submit", "app:square", "-i", "-", "--wait", input="5\n6\n")
    assert (done.returncode, done.stdout) == (0, "25\n36\n")


def test_a_job_without_inputs_is_done_at_once(master: JobsMaster) -> None:
    done = master.dq("submit", "app:square", "-i", "-", "--wait", input="")
    assert (done.returncode, done.stdout) == (0, "")
    assert "done" in master.dq("jobs").stdout


def test_results_are_the_same_whoever_asks_and_after_the_master_was_killed(
    master: JobsMaster,
) -> None:
    number = master.submit("app:square", *map(str, range(50)))
    master.restart()
    expected = "".join(f"{n * n}\n" for n in range(50))
    done = master.dq("results", number, "--follow")
    assert (done.returncode, done.stdout) == (0, expected)
    master.restart()
    assert master.dq("results", number).stdout == expected


def test_several_clients_read_the_same_results_while_they_come(gated: JobsMaster) -> None:
    number = gated.submit("gates:wait", "a", "b", "--batch", "1")
    argv = ("results", number, "--follow")
    with gated.begin(*argv) as one, gated.begin(*argv) as other:
        (gated.folder / "a.go").touch()
        one.wait_for("^a$", stream="stdout")
        other.wait_for("^a$", stream="stdout")
        one.kill_group()
        (gated.folder / "b.go").touch()
        assert other.wait() == 0
        assert other.stdout_text == "a\nb\n"
    assert gated.dq(*argv).stdout == "a\nb\n"


def test_a_submission_goes_on_when_its_master_is_started_again(master: JobsMaster) -> None:
    with master.begin("submit", "app:square", "-i", "-", stdin=subprocess.PIPE) as submitting:
        submitting.write("".join(f"{n}\n" for n in range(30_000)))
        master.restart()
        submitting.write("".join(f"{n}\n" for n in range(30_000, 60_000)))
        submitting.close_stdin()
        assert submitting.wait() == 0
        number = submitting.stdout_text.strip()
    done = master.dq("results", number, "--follow")
    assert done.stdout == "".join(f"{n * n}\n" for n in range(60_000))


def test_a_command_goes_on_when_its_master_is_started_again(gated: JobsMaster) -> None:
    number = gated.submit("gates:wait", "a", "b", "--batch", "1")
    (gated.folder / "a.go").touch()
    impatient = dq_with("dq.service.connection.NOTICE_S", 0.1)
    with gated.begin("results", number, "--follow", dq=impatient) as following:
        following.wait_for("^a$", stream="stdout")
        gated.kill()
        following.wait_for("^dq: lost the master at 127.0.0.1")
        (gated.folder / "b.go").touch()
        gated.start()
        assert following.wait() == 0
        assert following.stdout_text == "a\nb\n"
        assert following.stderr_text.count("lost the master") == 1
        assert following.stderr_text.count("is back") == 1


def test_a_master_that_does_not_answer_is_not_waited_for_in_silence(gated: JobsMaster) -> None:
    number = gated.submit("gates:wait", "a", "b", "--batch", "1")
    (gated.folder / "a.go").touch()
    impatient = dq_with("dq.service.connection.SILENCE_S", 0.2)
    with gated.begin("results", number, "--follow", dq=impatient) as following:
        following.wait_for("^a$", stream="stdout")
        gated.running.send_signal(signal.SIGSTOP)
        following.wait_for("^dq: the master at 127.0.0.1:.* has not answered for 0.2 s")
        gated.running.send_signal(signal.SIGCONT)
        (gated.folder / "b.go").touch()
        assert following.wait() == 0
        assert following.stdout_text == "a\nb\n"


def test_ctrl_c_leaves_the_job_running(gated: JobsMaster) -> None:
    with gated.begin("submit", "gates:wait", "a", "--wait", "-o", "out.txt") as waiting:
        waiting.wait_for("^dq: this is job 1$")
        waiting.send_signal(signal.SIGINT)
        assert waiting.wait() == 130
        assert "job 1 goes on; dq results 1 --follow" in waiting.stderr_text
    (gated.folder / "a.go").touch()
    done = gated.dq("results", "1", "--follow", "-o", "out.txt")
    assert done.returncode == 0, done.stderr
    assert (gated.folder / "out.txt").read_text() == "a\n"


def test_results_of_a_job_that_goes_on_are_those_that_are_there(gated: JobsMaster) -> None:
    number = gated.submit("gates:wait", "a", "b", "--batch", "1")
    (gated.folder / "a.go").touch()
    wait_until(lambda: '"done": 1' in gated.dq("jobs", "--json").stdout)
    done = gated.dq("results", number, "-o", "out.txt")
    assert done.returncode == 4
    assert "1 of 2 tasks have an outcome; --follow waits" in done.stderr
    assert "1 result is in out.txt.part" in done.stderr
    assert not (gated.folder / "out.txt").exists()
    assert gated.dq("results", number).stdout == "a\n"
    assert gated.dq("cancel", number).stdout == "job 1 is cancelled\n"
    done = gated.dq("results", number)
    assert (done.returncode, done.stdout) == (4, "a\n")
    assert "job 1 was cancelled" in done.stderr
    assert gated.dq("wait", number).returncode == 4
    done = gated.dq("cancel", number)
    assert (done.returncode, done.stdout) == (0, "")
    assert "had ended already: cancelled" in done.stderr


def test_a_job_in_which_tasks_failed_ends_as_a_run_would(master: JobsMaster) -> None:
    number = master.submit("app:boom_at_7", *map(str, range(5, 10)), "--name", "seven")
    assert master.dq("wait", "seven").returncode == 1
    done = master.dq("results", number)
    assert (done.returncode, done.stdout) == (1, "5\n6\n8\n9\n")
    assert "dq: task 2 (7) failed: ValueError: seven" in done.stderr
    filled = master.dq("results", number, "--fill", "-", "-0")
    assert filled.stdout == "5\x006\x00-\x008\x009\x00"


def test_fail_fast_stops_a_job(master: JobsMaster) -> None:
    number = master.submit("app:fail", "1", "2", "3", "--fail-fast", "--batch", "1")
    assert master.dq("wait", number).returncode == 4
    assert master.dq("results", number).returncode == 4


def test_failures_are_shown_in_groups_and_run_again_on_request(master: JobsMaster) -> None:
    (master.folder / "moody.py").write_text(
        "import os\n"
        "def f(x):\n"
        "    if x == 3:\n        raise KeyError(x)\n"
        "    if x > 3 and not os.path.exists('ok'):\n        raise ValueError(f'no {x}')\n"
        "    return x\n"
    )
    number = master.submit("moody:f", *map(str, range(7)))
    assert master.dq("wait", number).returncode == 1
    shown = master.dq("failures", number).stdout.splitlines()
    assert shown == [
        "1: 3 x ValueError in f (moody.py:6)",
        "   task 4 (4): no 4",
        "   tasks 4-6",
        "2: 1 x KeyError in f (moody.py:4)",
        "   task 3 (3): 3",
    ]
    assert "Traceback" in master.dq("failures", number, "--group", "2").stdout
    listed = json.loads(master.dq("failures", number, "--json").stdout)
    assert [(one["count"], one["ids"], one["input"]) for one in listed] == [
        (3, [4, 5, 6], 4),
        (1, [3], 3),
    ]
    (master.folder / "ok").touch()
    done = master.dq("retry", number, "--only", "2-3")
    assert (done.returncode, done.stdout) == (2, "")
    assert "task 2 of job 1 has not failed" in done.stderr
    assert master.dq("retry", number, "--only", "5").stdout == "1\n"
    assert master.dq("retry", number, "--group", "1").stdout == "2\n"
    master.dq("wait", number)
    assert master.dq("results", number).stdout == "0\n1\n2\n4\n5\n6\n"
    assert master.dq("retry", number).stdout == "1\n"
    assert master.dq("wait", number).returncode == 1
    assert master.dq("failures", number, "--group", "7").returncode == 2


def test_jobs_lists_only_columns_that_say_something(master: JobsMaster) -> None:
    assert master.dq("jobs").stdout == "no jobs\n"
    master.submit("app:square", "1", "2")
    master.dq("wait", "all")
    head, row = master.dq("jobs").stdout.splitlines()
    assert head.split() == ["JOB", "STATE", "DONE", "AGE", "TASK"]
    assert row.split()[:3] == ["1", "done", "2/2"]
    master.submit("app:square", "3", "--name", "x" * 300)
    assert all(len(line) < 80 for line in master.dq("jobs").stdout.splitlines())
    listed = json.loads(master.dq("jobs", "--json").stdout)
    assert [(job["number"], job["total"]) for job in listed] == [(1, 2), (2, 1)]


def test_status_says_why_a_job_does_not_run(project: Path) -> None:
    with JobsMaster(project, workers=0) as master:
        number = master.submit("app:square", "1", "--name", "lonely", "--priority", "3")
        shown = master.dq("status", number).stdout
        assert "waits      no worker is connected" in shown
        assert "1 (lonely)" in shown
        assert json.loads(master.dq("status", "--json").stdout)["priority"] == 3


def test_all_jobs_may_be_none(master: JobsMaster) -> None:
    assert (master.dq("wait", "all").returncode, master.dq("forget", "all").returncode) == (0, 0)
    assert master.dq("cancel", "all").stderr == "dq: no job is left to be cancelled\n"
    assert master.dq("wait", "2-3").stderr == "dq: there are no jobs 2-3: there are none yet\n"


def test_cancelling_all_jobs_is_about_those_that_go_on(master: JobsMaster) -> None:
    master.submit("app:square", "1")
    master.dq("wait", "1")
    master.submit("app:square", "1", "--needs", "gpu")
    done = master.dq("cancel", "all")
    assert (done.stdout, done.stderr) == ("job 2 is cancelled\n", "")
    assert "job 1 had ended already: done" in master.dq("cancel", "1").stderr


def test_status_says_which_tags_are_missing(master: JobsMaster) -> None:
    wait_until(lambda: "0/1" in master.dq("workers").stdout)
    number = master.submit("app:square", "1", "--needs", "gpu,eu")
    assert (
        "waits      no worker that is connected has eu, gpu" in master.dq("status", number).stdout
    )


def test_workers_are_listed_with_what_they_run_and_drained(gates: Path) -> None:
    with JobsMaster(gates, workers=0) as master, master.begin("worker", "-p", "2") as worker:
        master.submit("gates:wait", "a", "b", "--batch", "1")
        wait_until(lambda: (gates / "b.started").exists())
        listed = wait_until(
            lambda: [w for w in json.loads(master.dq("workers", "--json").stdout) if w["running"]]
        )
        [name] = [one["name"] for one in listed]
        shown = master.dq("workers").stdout
        assert "2/2" in shown
        assert re.search(r"job 1 task [01], ", shown)
        assert master.dq("drain", name).stdout == f"{name} leaves\n"
        (gates / "a.go").touch()
        (gates / "b.go").touch()
        assert worker.wait() == 0
        assert master.dq("results", "1", "--follow").stdout == "a\nb\n"
        done = master.dq("drain", "nobody:1")
        assert (done.returncode, done.stdout) == (2, "")
        assert "there is no worker 'nobody:1': there are none" in done.stderr


def test_the_masters_own_workers_cannot_be_drained(master: JobsMaster) -> None:
    [own] = wait_until(lambda: json.loads(master.dq("workers", "--json").stdout))
    done = master.dq("drain", own["name"])
    assert done.returncode == 2
    assert "is the master's own" in done.stderr


def test_status_says_where_one_task_is(gated: JobsMaster) -> None:
    (gated.folder / "more.py").write_text(
        "from gates import wait\n"
        "def f(x):\n    if x == 'bad':\n        raise ValueError('no')\n    return wait(x)\n"
    )
    argv = ("more:f", "good", "bad", "slow", "next", "last", "--batch", "1")
    (gated.folder / "good.go").touch()
    number = gated.submit(*argv, "--retries", "1", "--retry-delay", "1h")
    wait_until(lambda: (gated.folder / "slow.started").exists())

    def why(index: int) -> str:
        return gated.dq("status", number, "--why", f"{index}").stdout

    wait_until(lambda: re.match(r"it has returned at \S+:\d+\n$", why(0)))
    assert re.match(r"it has failed once, and is tried again in (1h|59m)", why(1))
    assert re.match(r"it runs at \S+:\d+, ", why(2))
    assert why(4) == "it waits behind 1 other task of its job\n"
    refused = gated.dq("status", number, "--why", "5")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "job 1 has tasks 0 to 4" in refused.stderr
    gated.dq("cancel", number)
    assert why(4) == "it was not run: the job was cancelled: on request\n"


def test_what_tasks_print_is_kept_and_followed(gated: JobsMaster) -> None:
    (gated.folder / "loud.py").write_text(
        "from gates import wait\ndef f(x):\n    print('begin', x)\n    return wait(x)\n"
    )
    number = gated.submit("loud:f", "a")
    with gated.begin("logs", number, "--follow") as following:
        following.wait_for(r"^\S+:\d+ task 0: begin a$", stream="stdout")
        (gated.folder / "a.go").touch()
        assert following.wait() == 0
        assert gated.dq("logs", number).stdout == following.stdout_text


def test_a_cancelled_job_says_what_it_goes_on_with(gated: JobsMaster) -> None:
    number = gated.submit("gates:wait", "a", "b")
    assert gated.dq("cancel", number).returncode == 0
    assert gated.dq("wait", number).returncode == 4
    done = gated.dq("retry", number)
    assert (done.returncode, done.stdout) == (0, "0\n")
    assert done.stderr == "dq: job 1 goes on with what it had left, too: 2 tasks\n"


def test_a_job_runs_after_another(gated: JobsMaster) -> None:
    first = gated.submit("gates:wait", "a")
    second = gated.submit("gates:wait", "b", "--after", first)
    assert "it waits for job 1" in gated.dq("status", second).stdout
    (gated.folder / "a.go").touch()
    (gated.folder / "b.go").touch()
    assert gated.dq("wait", second).returncode == 0


def test_jobs_are_forgotten_once_they_have_ended(gated: JobsMaster) -> None:
    (gated.folder / "a.go").touch()
    gated.submit("gates:wait", "a", "--wait")
    gated.submit("gates:wait", "b")
    done = gated.dq("forget", "all")
    assert (done.returncode, done.stdout) == (2, "")
    assert "job 2 has not ended" in done.stderr
    assert gated.dq("forget", "1").stdout == "job 1 is forgotten\n"
    assert gated.dq("results", "1").returncode == 2


REFUSALS = [
    (("results", "8"), "there is no job 8: there is only job 1"),
    (("results", "nobody"), "there is no job 'nobody'"),
    (("wait", "4-9"), "there are no jobs 4-9"),
    (("cancel", "0"), "there is no job 0"),
    (("submit", "app:square", "1", "--name", "7up"), "cannot be called '7up'"),
    (("submit", "app:square", "1", "--after", "12"), "there is no job 12"),
    (("submit", "app:nothing", "1"), "nothing"),
    (("submit", "app:square"), "no input"),
    (("submit", "app:square", "1", "-o", "out.txt"), "--output goes with --wait"),
    (("jobs", "--watch"), "--watch goes with a terminal"),
]


def test_what_cannot_be_is_said_on_one_line(master: JobsMaster) -> None:
    master.submit("app:square", "1")
    for argv, said in REFUSALS:
        done = master.dq(*argv)
        assert (done.returncode, done.stdout) == (2, ""), argv
        assert said in done.stderr
        assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("command", ["jobs", "results last", "wait 1", "cancel all", "stop"])
def test_no_master_is_said_at_once(project: Path, command: str) -> None:
    env = {"DQ_AUTHKEY": "a key of 16 bytes", "DQ_SERVER": "127.0.0.1:1"}
    done = dq(*command.split(), cwd=project, env=env)
    assert done.returncode == 3
    assert "nobody listens at 127.0.0.1:1; is the master running?" in done.stderr


def test_stop_ends_the_master_once_its_tasks_have_ended(gated: JobsMaster) -> None:
    gated.submit("gates:wait", "a", "b", "--batch", "1")
    wait_until(lambda: (gated.folder / "a.started").exists())
    with gated.begin("stop") as stopping:
        gated.running.wait_for("finishing running tasks")
        (gated.folder / "a.go").touch()
        assert stopping.wait() == 0
        assert gated.running.wait() == 0
    (gated.folder / "b.go").touch()
    gated.start()
    assert gated.dq("results", "1", "--follow").stdout == "a\nb\n"


def test_stop_now_does_not_wait(gated: JobsMaster) -> None:
    gated.submit("gates:wait", "a")
    wait_until(lambda: (gated.folder / "a.started").exists())
    assert gated.dq("stop", "--now").returncode == 0
    gated.running.wait()


def test_a_job_is_not_taken_for_another_of_its_number(gates: Path) -> None:
    with JobsMaster(gates, is_kept=False) as master:  # without a file that outlives it
        master.submit("gates:wait", "a", "b", "--batch", "1")
        (gates / "a.go").touch()
        with master.begin("results", "1", "--follow") as following:
            following.wait_for("^a$", stream="stdout")
            master.restart()
            assert master.submit("app:square", "3") == "1"
            assert following.wait() == 2
            assert following.stdout_text == "a\n"
            assert "there is no such job" in following.stderr_text
