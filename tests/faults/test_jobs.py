"""Masters that keep jobs, those who submit and those who read, killed at every kind of moment."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import dq
from faults.scene import make_room
from support import DQ, Running, free_port, wait_until
from support.jobs import KEY, KeepingMaster, outcomes, wait_for_outcomes

WORK = """
import os, time

def log(x):
    fd = os.open("log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(fd, b"%d\\n" % x)
    os.close(fd)

def work(x):
    log(x)
    time.sleep(0.001 * (x % 4))
    if x % 50 == 49:
        raise ValueError(f"no {x} today")
    return x * x

def large(x):
    log(x)
    time.sleep(0.02)
    return str(x).ljust(20_000, ".")
"""
STRACE = shutil.which("strace")
# Submits as many inputs as it is told, and says the number of the job.
SUBMIT = f"""
import sys, dq
with dq.connect("127.0.0.1", int(sys.argv[1]), authkey={KEY!r}) as client:
    inputs = range(int(sys.argv[2]))
    print("submitting", flush=True)
    print("job", client.submit("work:work", inputs, name=sys.argv[3]).number, flush=True)
"""
# Submits inputs that never end.
ENDLESS = f"""
import sys, dq, itertools
with dq.connect("127.0.0.1", int(sys.argv[1]), authkey={KEY!r}) as client:
    client.submit("work:work", itertools.count())
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the module `work`, which can be imported here too."""
    (tmp_path / "work.py").write_text(WORK)
    monkeypatch.syspath_prepend(tmp_path)  # a task is checked where it is submitted
    yield tmp_path
    sys.modules.pop("work", None)


@pytest.fixture
def master(folder: Path) -> Iterator[KeepingMaster]:
    with KeepingMaster(folder, free_port(), workers=2) as found:
        yield found


def expected(count: int) -> list[tuple[int, object, object]]:
    return [(x, x, f"ValueError: no {x} today" if x % 50 == 49 else x * x) for x in range(count)]


def found(job: dq.SubmittedJob[object]) -> list[tuple[int, object, object]]:
    return [(id, given, value) for id, given, value, _ in outcomes(job)]


def test_a_killed_master_goes_on_when_it_is_started_again(master: KeepingMaster) -> None:
    with master.connect() as client:
        job = client.submit("work:work", range(400))
        results = job.rows(ordered=True, follow=True, inputs=False)
        first = next(results)
        wait_for_outcomes(job, 200)
        master.kill()
        master.start()
        # The reader, who was in the midst, misses nothing and gets nothing twice.
        rows = [first, *results]
        assert [row[0] for row in rows[1:]] == [row[0] + row[1] for row in rows[:-1]]
        assert job.wait(60).state == "failed"
        assert found(job) == expected(400)
        before = outcomes(job)
        master.kill()
        master.start()
        assert outcomes(client.job(1)) == before
    runs = [int(line) for line in (master.folder / "log").read_text().split()]
    assert {*runs} == {*range(400)}


def test_a_submission_is_taken_up_again_by_the_master_that_comes_back(
    master: KeepingMaster,
) -> None:
    with master.connect() as client:

        def inputs() -> Iterator[int]:
            for x in range(100_000):
                if x == 50_000:
                    master.kill()
                    master.start()
                yield x % 40

        job = client.submit("math:sqrt", inputs())
        assert job.wait(60).done == 100_000
        assert len(client.jobs()) == 1


def test_a_killed_submitter_leaves_a_job_that_is_not_begun(master: KeepingMaster) -> None:
    with Running(sys.executable, "-c", ENDLESS, str(master.port), cwd=master.folder):
        jobs = master.folder / "jobs-wal"
        wait_until(lambda: jobs.stat().st_size > 1_000_000)
    with master.connect() as client:
        assert client.jobs() == []
        assert client.submit("work:work", [1]).wait(60).number == 1
    assert (master.folder / "log").read_text() == "1\n"


def test_readers_that_are_killed_hold_nobody_up(master: KeepingMaster) -> None:
    read = f"""
import sys, dq
with dq.connect("127.0.0.1", int(sys.argv[1]), authkey={KEY!r}) as client:
    for result in client.job(1).results():
        print(result.id, flush=True)
    input()
"""
    with master.connect() as client:
        job = client.submit("work:work", range(300))
        for _ in range(2):
            with Running(sys.executable, "-c", read, str(master.port)) as reader:
                reader.wait_for("1", stream="stdout")
        assert job.wait(60).has_ended
        assert found(job) == expected(300)


def test_a_worker_that_is_killed_loses_nothing_of_a_job(master: KeepingMaster) -> None:
    with master.connect() as client:
        job = client.submit("work:work", range(300))
        argv = (*DQ, "worker", "--server", f"127.0.0.1:{master.port}", "-p", "2")
        for _ in range(2):
            with Running(*argv, cwd=master.folder, env={"DQ_AUTHKEY": KEY}) as worker:
                worker.wait_for("working on")
        assert job.wait(60).has_ended
        assert found(job) == expected(300)


# A disk that is full, or fails


@pytest.fixture
def on_small_disk(folder: Path, small_disk: Path) -> Iterator[KeepingMaster]:
    with KeepingMaster(folder, free_port(), workers=1, journal=small_disk / "jobs") as found:
        yield found


def test_a_job_that_the_disk_has_no_room_for_is_refused_and_others_go_on(
    on_small_disk: KeepingMaster, small_disk: Path
) -> None:
    with on_small_disk.connect() as client:
        small = client.submit("work:work", [1, 2])
        assert small.wait(60).done == 2
        with pytest.raises(dq.OutputError, match="no space left for"):
            client.submit("work:work", range(2_000_000))
        assert [status.number for status in client.jobs()] == [1]
        assert list(small.values()) == [1, 4]
        make_room(small_disk)
        assert list(client.submit("work:work", [3]).values()) == [9]


def test_outcomes_wait_for_room_and_no_more_tasks_are_started(
    on_small_disk: KeepingMaster, small_disk: Path
) -> None:
    log = on_small_disk.folder / "log"
    with on_small_disk.connect() as client:
        job = client.submit("work:large", range(150), batch=1)
        on_small_disk.running.wait_for("no space left for")
        seen = [-1]

        def is_quiet() -> bool:
            seen.append(len(log.read_text().split()))
            return len(seen) > 20 and len({*seen[-20:]}) == 1

        wait_until(is_quiet, interval=0.05)
        assert seen[-1] < 150
        make_room(small_disk)
        assert job.wait(60).state == "done"
        assert [len(value) for value in job.values()] == [20_000] * 150
    assert sorted(map(int, log.read_text().split())) == [*range(150)]


@pytest.mark.skipif(STRACE is None, reason="needs strace")
def test_a_disk_that_fails_ends_the_master_with_one_line(folder: Path) -> None:
    inject = "--inject=fdatasync,fsync:error=EIO:when=12+"
    before = (str(STRACE), "-f", "-qq", "-o", "/dev/null", "-P", str(folder / "jobs-wal"), inject)
    with KeepingMaster(folder, free_port(), workers=1, before=before) as master:
        with master.connect(patience=0.0) as client:
            job = client.submit("work:work", range(400), batch=1)
            with pytest.raises(dq.DqError):
                job.wait(60)
        assert master.running.wait(30) == 4
        said = master.running.stderr_text
        assert "dq: cannot write jobs: disk I/O error" in said
        assert "Traceback" not in said
    with KeepingMaster(folder, master.port, workers=1) as master, master.connect() as client:
        assert found(client.job(1)) == expected(400)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_whoever_is_killed_no_job_is_lost_or_begun_in_part(
    master: KeepingMaster, seed: int
) -> None:
    rng = random.Random(seed)
    acknowledged: dict[int, int] = {}
    for turn in range(10):
        count = rng.choice([5, 300, 3_000])
        argv = (sys.executable, "-c", SUBMIT, str(master.port), str(count), f"n{turn}")
        submitter = subprocess.Popen(argv, cwd=master.folder, stdout=subprocess.PIPE, text=True)
        assert submitter.stdout is not None
        submitter.stdout.readline()
        what = rng.choice(["master", "master", "submitter", "nobody"])
        if what == "master":
            master.kill()
            master.start()
        elif what == "submitter":
            submitter.kill()
        said, _ = submitter.communicate(timeout=60)
        if said:
            acknowledged[int(said.split()[1])] = count
    with master.connect() as client:
        jobs = {status.number: status for status in client.jobs()}
        assert acknowledged.keys() <= jobs.keys()
        for number, status in jobs.items():
            assert status.total == acknowledged.get(number, status.total) in (5, 300, 3_000)
            job = client.job(number)
            job.wait(240)
            assert found(job) == expected(status.total)
