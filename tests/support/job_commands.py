"""A master that keeps jobs, and commands that go to it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.process import DQ, Running, StrPath, dq, free_port

KEY = "a key of 16 bytes"


class JobsMaster:
    """`dq master` without inputs in a folder, and commands for it.

    Args:
        folder: where it runs, and commands too.
        args: more of its arguments.
    """

    def __init__(self, folder: Path, *args: StrPath) -> None:
        self.folder = folder
        self.port = free_port()
        self.env = {"DQ_AUTHKEY": KEY, "DQ_SERVER": f"127.0.0.1:{self.port}"}
        self._args = args
        self.process = self._start()

    def _start(self) -> Running:
        argv = ("master", "--host", "127.0.0.1", "--port", f"{self.port}", *self._args)
        process = Running(*DQ, *argv, cwd=self.folder, env=self.env)
        process.wait_for(r"^dq: serving on ")
        return process

    def restart(self) -> None:
        """Kill it, with all of its processes, and start it again."""
        self.kill()
        self.start()

    def start(self) -> None:
        """Start it again, once it has ended."""
        self.process = self._start()

    def kill(self) -> None:
        """Kill it, with all of its processes."""
        self.process.kill_group()
        self.process.close()

    def close(self) -> None:
        self.process.close()

    def dq(self, *args: StrPath, **kw: Any) -> subprocess.CompletedProcess[str]:
        """Run `dq ARGS` to its end."""
        return dq(*args, cwd=self.folder, **{"env": self.env, **kw})

    @property
    def where(self) -> dict[str, Any]:
        """The keywords that have a command go to it."""
        return {"cwd": self.folder, "env": self.env}

    def begin(self, *args: StrPath, dq: Sequence[str] = DQ, **kw: Any) -> Running:
        """Run `dq ARGS` in the background."""
        return Running(*dq, *args, cwd=self.folder, env=self.env, **kw)

    def submit(self, *args: StrPath, **kw: Any) -> str:
        """Submit a job, and return its number."""
        done = self.dq("submit", *args, **kw)
        assert done.returncode == 0, done.stderr
        return done.stdout.rstrip("\n")


@contextmanager
def keeping_jobs(folder: Path, *args: StrPath) -> Iterator[JobsMaster]:
    """A master that keeps jobs, until the end of the block."""
    master = JobsMaster(folder, *args)
    try:
        yield master
    finally:
        master.close()
