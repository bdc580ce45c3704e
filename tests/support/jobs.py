"""A master that keeps jobs, for tests: in this process, or as a process that can be killed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import dq
from dq.master.master import Master
from support.process import DQ, SERVING, Running, wait_until

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
    """`dq master --journal` as a process, which can be killed and started again.

    Args:
        folder: where it runs, with the modules of its tasks.
        port: a free one, which it has again when it is started again.
        workers: how many processes it has.
        journal: its file.
        before: what comes before the command.
    """

    def __init__(
        self,
        folder: Path,
        port: int,
        workers: int = 1,
        journal: Path = Path("jobs"),
        before: Sequence[str] = (),
    ) -> None:
        self.folder, self.port = folder, port
        self._before = before
        self._args = ("--host", "127.0.0.1", "--journal", str(journal), "-w", str(workers))
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

    def connect(self, patience: float = 60.0) -> dq.Client:
        return dq.connect("127.0.0.1", self.port, authkey=KEY, patience=patience)

    def __enter__(self) -> KeepingMaster:
        return self

    def __exit__(self, *_: object) -> None:
        self.running.close()


def outcomes(job: dq.SubmittedJob[object]) -> list[tuple[int, object, object, int]]:
    """All that there is of a job's tasks but for times and workers."""
    return [(r.id, r.input, r.value if r.ok else str(r.error), r.attempts) for r in job.results()]


def wait_for_outcomes(job: dq.SubmittedJob[object], count: int) -> None:
    wait_until(lambda: (now := job.status()).done + now.failed >= count)
