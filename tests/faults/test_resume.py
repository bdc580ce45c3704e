"""The master dies, or its disk fails, at every kind of moment; the same command again goes on."""

from __future__ import annotations

import json
import math
import os
import random
import re
import shutil
import signal
import subprocess
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

from dq.journal import inspect
from dq.journal.writer import Journal
from faults.scene import KEY, gone, make_room
from support import DQ, Running, descendants, serving, stop, task_processes, wait_until
from support.warm import dq

WORK = """
import os, time

def work(x):
    fd = os.open(os.environ["DQ_TEST_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(fd, b"%d\\n" % x)
    os.close(fd)
    time.sleep(float(os.environ.get("DQ_TEST_SLEEP", "0.002")))
    return x * x

def large(x):
    return str(work(x)).ljust(20_000, ".")
"""
STRACE = shutil.which("strace")
SYNCS = "fdatasync,fsync"


@dataclass
class Scene:
    """A folder with a task that writes down its executions, and numbers to call it with."""

    folder: Path
    journal: Path
    count: int = 400
    task: str = "work"
    sleep: float = 0.002

    def prepare(self) -> Scene:
        self.folder.mkdir(exist_ok=True)
        (self.folder / "work.py").write_text(WORK)
        (self.folder / "in.txt").write_text("".join(f"{x}\n" for x in range(self.count)))
        return self

    @property
    def env(self) -> dict[str, str | None]:
        log = str(self.folder / "log")
        return {"DQ_TEST_LOG": log, "DQ_TEST_SLEEP": str(self.sleep), "DQ_AUTHKEY": KEY}

    @property
    def job(self) -> list[str]:
        return [f"work:{self.task}", "--input", "in.txt", "--journal", str(self.journal)]

    @property
    def undisturbed(self) -> str:
        return "".join(f"{x * x}\n" for x in range(self.count))

    @property
    def executions(self) -> Counter[int]:
        log = self.folder / "log"
        return Counter(map(int, log.read_text().split())) if log.exists() else Counter()

    @property
    def executed(self) -> int:
        return sum(self.executions.values())

    def wait_for(self, executions: int, run: Running) -> None:
        """Until so many have begun, or the run is over."""
        wait_until(
            lambda: run.process.poll() is not None or self.executed >= executions, interval=0.0005
        )

    def run(self, *args: str, before: tuple[str, ...] = ()) -> Running:
        """`dq run` in the background."""
        argv = [*before, *DQ, "run", *self.job, "-w", "2", *args]
        return Running(*argv, cwd=self.folder, env=self.env)

    def finish(self, *args: str) -> str:
        """The same command to its end; what it prints."""
        recorded, before = self.recorded, self.executions
        done = dq("run", *self.job, "-w", "2", *args, cwd=self.folder, env=self.env)
        assert done.returncode == 0, done.stderr
        again = {x for x in recorded if self.executions[x] != before[x]}
        assert not again, f"finished, and run again: {again}"
        self.said = done.stderr
        return done.stdout

    @property
    def recorded(self) -> set[int]:
        """The tasks that have an outcome in the journal."""
        if not self.journal.exists() or not self.journal.stat().st_size:
            return set()
        done = dq("journal", self.journal, "--format", "jsonl")
        assert done.returncode == 0, done.stderr
        return {json.loads(line)["id"] for line in done.stdout.splitlines()}

    def check_shown(self, printed: str) -> None:
        """What was shown before the end is what an undisturbed run begins with, and on record."""
        whole = printed[: printed.rfind("\n") + 1]
        assert self.undisturbed.startswith(whole)
        assert self.recorded >= set(range(whole.count("\n")))

    def check_shown_with_gaps(self, printed: str) -> None:
        """The same for a run that leaves in order: results that waited for an earlier one are
        shown as well, each in its place."""
        places = {line: place for place, line in enumerate(self.undisturbed.splitlines())}
        shown = [places[line] for line in printed.splitlines()]
        assert shown == sorted(set(shown))
        assert self.recorded >= set(shown)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path / "project", tmp_path / "project" / "j").prepare()


def kill(run: Running) -> bool:
    """SIGKILL the master, whose task processes end by themselves; false if it was over before."""
    orphans = descendants(run.pid)
    run.send_signal(signal.SIGKILL)
    code = run.wait()
    gone(*orphans)
    return code == -signal.SIGKILL


# kill -9


def kill_and_go_on(scene: Scene, chance: random.Random, times: int, *args: str) -> int:
    """Kill it so many times, if it is not over before; how often that was."""
    kills = 0
    for _ in range(times):
        more = scene.executed + chance.randrange(1, 120)
        with scene.run(*args) as run:
            scene.wait_for(more, run)
            kills += kill(run)
        scene.check_shown(run.stdout_text)
    return kills


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 7])
def test_a_master_killed_at_random_moments_goes_on_as_if_undisturbed(
    scene: Scene, seeded: random.Random, batch: int
) -> None:
    batches = ("--batch", str(batch))
    assert kill_and_go_on(scene, seeded, 4, *batches)
    assert scene.finish(*batches) == scene.undisturbed


def test_an_unordered_run_goes_on_too(scene: Scene, seeded: random.Random) -> None:
    with scene.run("--unordered", "--batch", "3") as run:
        more = seeded.randrange(1, 300)
        scene.wait_for(more, run)
        kill(run)
    shown = run.stdout_text[: run.stdout_text.rfind("\n") + 1].split()
    assert len(shown) <= len(scene.recorded)
    assert sorted(map(int, scene.finish("--unordered").split())) == [x * x for x in range(400)]


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_a_thousand_kills_of_the_master_lose_nothing(scene: Scene, seeded: random.Random) -> None:
    kills = 0
    while kills < int(os.environ.get("DQ_TEST_SOAK_KILLS", "1000")):
        kills += kill_and_go_on(scene, seeded, 5, "--batch", str(seeded.choice([1, 5, 20])))
        assert scene.finish() == scene.undisturbed
        scene.journal.unlink()
        (scene.folder / "log").unlink()


def test_a_file_that_was_being_written_appears_whole(scene: Scene) -> None:
    with scene.run("-o", "out.txt") as run:
        scene.wait_for(100, run)
        kill(run)
    assert not (scene.folder / "out.txt").exists()
    scene.finish("-o", "out.txt")
    assert (scene.folder / "out.txt").read_text() == scene.undisturbed


def strace(*options: str) -> tuple[str, ...]:
    """What to run a command under; skips where it cannot be."""
    if STRACE is None:
        pytest.skip("there is no strace")
    tried = subprocess.run([STRACE, "-f", "-o", os.devnull, "true"], capture_output=True)
    if tried.returncode:
        pytest.skip(f"strace cannot trace here: {tried.stderr.decode()}")
    return (STRACE, "-f", "-qq", "-o", os.devnull, *options)


CALLS = [("pwrite64", n) for n in (1, 2, 3, 9, 20, 35)] + [(SYNCS, n) for n in (1, 2, 4, 6, 9)]


@pytest.mark.slow
@pytest.mark.parametrize(("calls", "nth"), CALLS)
def test_a_master_killed_at_a_write_or_sync_goes_on_as_if_undisturbed(
    scene: Scene, calls: str, nth: int
) -> None:
    inject = strace("-e", f"trace={calls}", f"--inject={calls}:signal=SIGKILL:when={nth}")
    with scene.run("--batch", "5", before=inject) as run:
        assert run.wait(60) in (-signal.SIGKILL, 128 + signal.SIGKILL), run.printed
        scene.check_shown(run.stdout_text)
    assert scene.finish("--batch", "5") == scene.undisturbed


@pytest.mark.slow
@pytest.mark.parametrize("left", [None, b"", b"x" * 20], ids=["deleted", "emptied", "cut"])
def test_a_log_that_was_lost_is_said_and_its_tasks_run_again(
    scene: Scene, left: bytes | None
) -> None:
    with scene.run() as run:
        run.wait_for("^1$", stream="stdout")
        kill(run)
    log = Path(f"{scene.journal}-wal")
    log.unlink()
    if left is not None:
        log.write_bytes(left)
    assert scene.finish() == scene.undisturbed
    assert "has lost its -wal file: tasks whose outcomes were in it run again" in scene.said


def test_a_look_at_a_journal_with_a_damaged_log_says_so(scene: Scene) -> None:
    with scene.run("--batch", "1") as run:
        run.wait_for("^400$", stream="stdout")
        kill(run)
    log = Path(f"{scene.journal}-wal")
    data = bytearray(log.read_bytes())
    data[len(data) // 3] ^= 255
    log.write_bytes(data)
    for form in ("text", "jsonl"):
        done = dq("journal", scene.journal, "--format", form)
        assert done.returncode == 2, done.stdout
        assert "its -wal cannot be read to the end" in done.stderr
        assert "--recover" in done.stderr


@pytest.mark.slow
def test_a_restarted_master_has_its_workers_back_and_goes_on(scene: Scene) -> None:
    scene.sleep = 0.01
    serve = ("-q", "--batch", "2")
    with serving(*scene.job, *serve, cwd=scene.folder, env=scene.env) as (first, port):
        argv = (*DQ, "worker", "--server", f"127.0.0.1:{port}", "-p", "2")
        with Running(*argv, cwd=scene.folder, env=scene.env) as worker:
            scene.wait_for(50, first)
            processes = task_processes(worker.pid)
            kill(first)
            scene.check_shown(first.stdout_text)
            recorded, before = scene.recorded, scene.executions
            again = (*DQ, "master", *scene.job, *serve, "--port", str(port))
            with Running(*again, cwd=scene.folder, env=scene.env) as second:
                assert second.wait() == 0, second.printed
            assert worker.wait() == 0, worker.printed
    assert second.stdout_text == scene.undisturbed
    assert processes
    assert not [x for x in recorded if scene.executions[x] != before[x]]


# Other masters


def test_a_second_master_on_the_journal_is_refused(scene: Scene) -> None:
    scene.sleep = 0.05
    with scene.run() as first:
        wait_until(lambda: scene.executions)
        second = dq("run", *scene.job, cwd=scene.folder, env=scene.env)
        assert second.returncode == 2
        assert second.stderr == f"dq: the journal {scene.journal} is in use by another master\n"
        kill(first)
    scene.sleep = 0.0
    assert scene.finish() == scene.undisturbed


def test_a_journal_can_be_looked_at_while_a_master_writes_it(scene: Scene) -> None:
    with scene.run("--batch", "5") as run:
        run.wait_for("^1$", stream="stdout")
        printed = run.stdout_text.count("\n")
        assert scene.recorded >= set(range(printed))
        assert run.wait() == 0, run.printed
    assert scene.finish() == scene.undisturbed


def test_a_journal_is_free_once_its_master_was_killed_though_a_worker_lives(scene: Scene) -> None:
    scene.sleep = 5
    with scene.run() as first:
        wait_until(lambda: scene.executions)
        first.send_signal(signal.SIGKILL)
        first.wait()
        scene.sleep = 0.0
        assert scene.finish() == scene.undisturbed


# A disk that fails


def test_a_disk_that_fails_ends_the_run_with_one_line(scene: Scene) -> None:
    inject = strace("-P", f"{scene.journal}-wal", f"--inject={SYNCS}:error=EIO:when=6+")
    with scene.run("--batch", "5", before=inject) as run:
        assert run.wait(60) == 4, run.printed
    said = f"dq: cannot write the journal {scene.journal}: disk I/O error\n"
    assert run.stderr_text.startswith(said.rstrip())
    assert run.stderr_text.count("\n") == 1
    scene.check_shown_with_gaps(run.stdout_text)
    assert scene.finish() == scene.undisturbed


@pytest.fixture
def full(tmp_path: Path, small_disk: Path) -> Scene:
    """A run that needs eight times the disk that its journal has."""
    return Scene(tmp_path / "project", small_disk / "j", task="large").prepare()


def until_full(run: Running, scene: Scene) -> None:
    """Until the disk is full, and what was running is done."""
    run.wait_for("^dq: no space left for")
    seen = [-1]

    def quiet() -> bool:
        seen.append(scene.executed)
        return len(seen) > 20 and len(set(seen[-20:])) == 1

    wait_until(quiet, interval=0.05)
    assert seen[-1] < scene.count


def shown(scene: Scene, printed: str) -> list[int]:
    """The results that were printed, without what fills them up."""
    return [int(line.rstrip(".")) for line in printed.splitlines()]


@pytest.mark.slow
def test_a_full_disk_stops_new_work_until_there_is_room(full: Scene) -> None:
    with full.run("--batch", "1") as run:
        until_full(run, full)
        make_room(full.journal.parent)
        assert run.wait(60) == 0, run.printed
    assert shown(full, run.stdout_text) == [x * x for x in range(400)]
    assert max(full.executions.values()) == 1
    assert [line.partition(full.journal.name)[2] for line in run.stderr_text.splitlines()] == [
        ": no more tasks are started until there is",
        "; going on",
    ]


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 4)])
def test_a_run_on_a_full_disk_can_be_stopped_and_continued(
    full: Scene, number: int, code: int
) -> None:
    with full.run("--batch", "1") as run:
        until_full(run, full)
        run.send_signal(number)
        assert run.wait(20) == code, run.printed
    # Not only the first ones: those that waited for one that is not on disk are shown, too.
    assert full.recorded >= {math.isqrt(value) for value in shown(full, run.stdout_text)}
    make_room(full.journal.parent)
    assert shown(full, full.finish()) == [x * x for x in range(400)]


def test_a_journal_that_no_disk_has_room_for_is_refused_before_anything_runs(full: Scene) -> None:
    (full.journal.parent / "filler").write_bytes(bytes(2**20 - 4096))
    done = dq("run", *full.job, cwd=full.folder, env=full.env)
    assert done.returncode == 4
    assert done.stderr == f"dq: no room for the journal {full.journal}\n"
    assert not full.executions


# Ctrl-C


def test_what_was_running_at_ctrl_c_is_on_record(scene: Scene) -> None:
    scene.sleep = 0.05
    with scene.run("--batch", "1") as run:
        scene.wait_for(10, run)
        run.send_signal(signal.SIGINT)
        assert run.wait() == 130, run.printed
    assert scene.recorded == set(scene.executions)
    scene.sleep = 0.0
    assert scene.finish() == scene.undisturbed


def test_what_was_shown_at_a_second_ctrl_c_is_on_record(scene: Scene) -> None:
    scene.sleep = 0.05
    with scene.run("--batch", "1") as run:
        scene.wait_for(10, run)
        run.send_signal(signal.SIGINT)
        run.wait_for("once more to leave now")
        run.send_signal(signal.SIGINT)
        assert run.wait() == 130, run.printed
    scene.check_shown_with_gaps(run.stdout_text)
    scene.sleep = 0.0
    assert scene.finish() == scene.undisturbed


# Power


@pytest.mark.slow
def test_no_copy_of_the_files_at_any_moment_lacks_what_was_shown(
    scene: Scene, seeded: random.Random
) -> None:
    copies: list[tuple[int, Path]] = []
    with scene.run("--batch", "3") as run:
        run.wait_for("^1$", stream="stdout")
        for number in range(5):
            scene.wait_for(scene.executed + seeded.randrange(60), run)
            stop(run.pid)
            copies.append((run.stdout_text.count("\n"), copy_of(scene, number)))
            run.send_signal(signal.SIGCONT)
        assert run.wait() == 0, run.printed
    for count, copy in copies:
        scene.journal = copy
        assert scene.recorded >= set(range(count))
        assert scene.finish() == scene.undisturbed


def copy_of(scene: Scene, number: int) -> Path:
    copy = scene.folder / f"copy{number}"
    shutil.copy(scene.journal, copy)
    log = Path(f"{scene.journal}-wal")
    if log.exists():
        shutil.copy(log, f"{copy}-wal")
    return copy


def bytes_of(hexed: str) -> bytes:
    """What `strace -xx` shows."""
    return bytes.fromhex(hexed.replace("\\x", ""))


def text_of(hexed: str) -> str:
    return os.fsdecode(bytes_of(hexed)) if hexed.startswith("\\x") else hexed


class Disk:
    """Two files as they may be after a power failure: what was synced, and of what was written
    since any part."""

    CALL = re.compile(
        r"(?P<name>pwrite64|ftruncate|fdatasync|fsync)\(\d+<(?P<path>[^>]*)>"
        r'(?:, "(?P<data>[^"]*)")?(?P<args>[^)<]*)'
    )

    def __init__(self, journal: Path) -> None:
        self.paths = [str(journal), f"{journal}-wal"]
        self.synced = {path: bytearray() for path in self.paths}
        self.pending: dict[str, list[tuple[int, bytes]]] = {path: [] for path in self.paths}
        self.shown = 0
        self._syncing: dict[str, str] = {}  # which file a thread waits for

    def load(self) -> None:
        for path, content in self.synced.items():
            content[:] = Path(path).read_bytes() if os.path.exists(path) else b""

    def take(self, line: str) -> None:
        """One line of strace: a write counts from its start, a sync from its end."""
        thread = line.split()[0]
        if "write(1<" in line:
            self.shown += line.count("\\x0a")
        elif "resumed>" in line and thread in self._syncing:
            self._sync(self._syncing.pop(thread))
        elif (call := self.CALL.search(line)) and (path := text_of(call["path"])) in self.paths:
            if not call["name"].endswith("sync"):
                self.pending[path].append(self._write(call))
            elif "unfinished" in line:
                self._syncing[thread] = path
            else:
                self._sync(path)

    @staticmethod
    def _write(call: re.Match[str]) -> tuple[int, bytes]:
        place = int(call["args"].rpartition(",")[2])
        if call["name"] == "ftruncate":
            return -1 - place, b""
        return place, bytes_of(call["data"])

    def _sync(self, path: str) -> None:
        for write in self.pending[path]:
            self._apply(self.synced[path], *write)
        self.pending[path].clear()

    @staticmethod
    def _apply(content: bytearray, place: int, data: bytes) -> None:
        if place < 0:
            del content[-1 - place :]
            return
        content.extend(bytes(max(place - len(content), 0)))
        content[place : place + len(data)] = data

    def fail(self, chance: random.Random, copy: Path) -> None:
        """Write what is left of the files."""
        for path, end in zip(self.paths, ("", "-wal"), strict=True):
            content = bytearray(self.synced[path])
            for write in self.pending[path]:
                if chance.random() < 0.5:
                    self._apply(content, *write)
            Path(f"{copy}{end}").write_bytes(content)


@pytest.mark.slow
def test_a_power_failure_at_any_write_loses_nothing_that_was_shown(
    scene: Scene, seeded: random.Random, tmp_path: Path
) -> None:
    scene.count = 3
    scene.prepare().finish()
    scene.count = 200
    scene.prepare()
    disk = Disk(scene.journal)
    disk.load()
    calls = "pwrite64,ftruncate,fdatasync,fsync,write"
    trace = [*strace("-y", "-xx", "-s", "1000000", "-e", f"trace={calls}")]
    trace[trace.index(os.devnull)] = str(tmp_path / "trace")
    with scene.run("--batch", "2", before=tuple(trace)) as run:
        assert run.wait(60) == 0, run.printed
    found = []
    for line in (tmp_path / "trace").read_text().splitlines():
        disk.take(line)
        if "write" in line or "sync" in line:
            disk.fail(seeded, tmp_path / "failed")
            found.append(len(tasks_in(tmp_path / "failed")))
            assert found[-1] >= disk.shown
    assert disk.shown == 200
    assert len(set(found)) > 5


def tasks_in(path: Path) -> set[int]:
    """What a run would have of a journal."""
    Path(f"{path}-shm").unlink(missing_ok=True)
    contents = inspect.look(str(path))
    journal = Journal(str(path), contents.facts)
    journal.close()
    return {index for start, stop in contents.spans for index in range(start, stop)}
