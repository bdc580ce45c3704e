"""A master that keeps jobs, for tests: in this process, or as a process that can be killed, with
commands that go to it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dq
from dq.master.master import Master
from support.process import DQ, SERVING, Running, StrPath, free_port, wait_until
from support.warm import dq as command

KEY = "a key for tests only"


@contextmanager
def keeping_jobs(journal: Path | None = None, workers: int = 1) -> Iterator[dq.Client]:
    """A client of a master in this process."""
    master = Master(host="127.0.0.1", port=0, authkey=KEY, workers=workers)
    master.runtime.keep_jobs(None if journal is None else str(journal))
    with master, dq.connect(*_host_and_port(master), authkey=KEY) as client:
        yield client


def _host_and_port(master: Master) -> tuple[str, int]:
    assert not isinstance(master.address, str)
    return master.address


class KeepingMaster:
    """`dq master` without inputs as a process, which can be killed and started again.

    Args:
        folder: where it runs, with the modules of its tasks.
        port: a free one, which it has again when it is started again.
        workers: how many processes it has.
        journal: its file; None for one that goes with it.
        before: what comes before the command.
    """

    def __init__(
        self,
        folder: Path,
        port: int,
        workers: int = 1,
        journal: Path | None = Path("jobs"),
        before: Sequence[str] = (),
    ) -> None:
        self.folder, self.port = folder, port
        self._before = before
        kept = () if journal is None else ("--journal", str(journal))
        own = ("-w", str(workers)) if workers else ()
        self._args = ("--host", "127.0.0.1", *kept, *own)
        self.running = self._start()

    def _start(self) -> Running:
        argv = (*self._before, *DQ, "master", "--port", str(self.port), *self._args)
        running = Running(*argv, cwd=self.folder, env={"DQ_AUTHKEY": KEY})
        running.wait_for(SERVING)
        return running

    def kill(self) -> None:
        self.running.close()

    def start(self) -> None:
        self.running = self._start()

    def restart(self) -> None:
        self.kill()
        self.start()

    def connect(self, patience: float = 60.0) -> dq.Client:
        return dq.connect("127.0.0.1", self.port, authkey=KEY, patience=patience)

    def __enter__(self) -> KeepingMaster:
        return self

    def __exit__(self, *_: object) -> None:
        self.running.close()


class JobsMaster(KeepingMaster):
    """The same with commands that go to it. Its journal is `jobs.dq`.

    Args:
        folder: where it runs, and commands too.
        workers: how many processes it has.
        is_kept: whether it has a journal at all.
    """

    def __init__(self, folder: Path, workers: int = 1, *, is_kept: bool = True) -> None:
        super().__init__(folder, free_port(), workers, Path("jobs.dq") if is_kept else None)
        self.env = {"DQ_AUTHKEY": KEY, "DQ_SERVER": f"127.0.0.1:{self.port}"}

    @property
    def where(self) -> dict[str, Any]:
        """The keywords that have a command go to it."""
        return {"cwd": self.folder, "env": self.env}

    def dq(self, *args: StrPath, **kw: Any) -> subprocess.CompletedProcess[str]:
        """Run `dq ARGS` to its end."""
        return command(*args, **self.where, **kw)

    def begin(self, *args: StrPath, dq: Sequence[str] = DQ, **kw: Any) -> Running:
        """Run `dq ARGS` in the background."""
        return Running(*dq, *args, **self.where, **kw)

    def submit(self, *args: StrPath, **kw: Any) -> str:
        """Submit a job, and return its number."""
        done = self.dq("submit", *args, **kw)
        assert done.returncode == 0, done.stderr
        return done.stdout.rstrip("\n")

    def __enter__(self) -> JobsMaster:
        return self


def outcomes(job: dq.SubmittedJob[object]) -> list[tuple[int, object, object, int]]:
    """All that there is of a job's tasks but for times and workers."""
    return [(r.id, r.input, r.value if r.ok else str(r.error), r.attempts) for r in job.results()]


def wait_for_outcomes(job: dq.SubmittedJob[object], count: int) -> None:
    wait_until(lambda: (now := job.status()).done + now.failed >= count)
