"""Runs of `hazards.py`, who kills them, and what is left behind."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faults.history import History, lines
from support import DQ, Running, alive, command, serving, task_processes, wait_until
from support.warm import dq

KEY = "a key for tests only"


@dataclass
class Hazards:
    """A folder with `hazards.py`; runs it, and knows what was executed."""

    folder: Path
    log: Path
    gate: Path

    @property
    def env(self) -> dict[str, str | None]:
        return {
            "DQ_AUTHKEY": KEY,
            "DQ_TEST_LOG": str(self.log),
            "DQ_TEST_GATE": str(self.gate),
        }

    def run(self, task: str, inputs: list[Any], *args: str, code: int = 0, **kw: Any) -> History:
        """`dq run` to its end."""
        done = dq(*self.command(task, inputs, *args), cwd=self.folder, env=self.env, **kw)
        assert done.returncode == code, done.stderr
        self.stderr = done.stderr
        return self.history(inputs, done.stdout)

    def command(self, task: str, inputs: list[Any], *args: str) -> list[str]:
        return ["run", *self.job(task, inputs), *args]

    def job(self, task: str, inputs: list[Any]) -> list[str]:
        """TASK and its inputs, from a file."""
        path = self.folder / "inputs.txt"
        path.write_text("".join(f"{value}\n" for value in inputs))
        return [f"hazards:{task}", "--input", str(path), "--format", "jsonl"]

    def running(self, task: str, inputs: list[Any], *args: str, **kw: Any) -> Running:
        """`dq run` in the background."""
        argv = self.command(task, inputs, *args)
        return Running(*DQ, *argv, cwd=self.folder, env=self.env, **kw)

    @contextmanager
    def serving(
        self, task: str, inputs: list[Any], *args: str, **kw: Any
    ) -> Iterator[tuple[Running, int]]:
        """`dq master` in the background, and its port."""
        job = self.job(task, inputs)
        with serving(*job, *args, cwd=self.folder, env=self.env, **kw) as found:
            yield found

    def worker(self, port: int, *args: str) -> Running:
        """`dq worker` in the background."""
        server = ("--server", f"127.0.0.1:{port}")
        return Running(*DQ, "worker", *server, *args, cwd=self.folder, env=self.env)

    def history(self, inputs: list[Any], output: str) -> History:
        return History.read(inputs, output, self.log)

    @property
    def executions(self) -> list[dict[str, Any]]:
        return lines(self.log.read_text()) if self.log.exists() else []

    def wait_for_executions(self, count: int = 1, timeout: float = 60) -> list[dict[str, Any]]:
        """Until so many have begun."""
        wait_until(
            lambda: len(self.executions) >= count,
            timeout,
            message=lambda: f"{count} executions; there are {self.executions}",
        )
        return self.executions

    def open_gate(self) -> None:
        self.gate.touch()


def gone(*pids: int, timeout: float = 30) -> None:
    """Wait until none of them runs any more."""
    wait_until(
        lambda: not [pid for pid in pids if alive(pid)],
        timeout,
        message=lambda: f"still there: {[(pid, command(pid)) for pid in pids if alive(pid)]}",
    )


def kill(pid: int) -> bool:
    """SIGKILL; false where it has gone already."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def cpu_seconds(pid: int) -> float:
    """CPU time that a process has used, its ended threads' included."""
    stat = Path("/proc", str(pid), "stat").read_text()
    user, system = stat[stat.rindex(")") + 2 :].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


@dataclass
class Killer:
    """Kills task processes at random moments, most of them at work."""

    random: random.Random
    hazards: Hazards
    supervisors: list[int]
    kills: int = 0

    def until(self, ended: Callable[[], bool], most: int, pause: float, timeout: float) -> None:
        """Kill now and then, at most so often, until `ended`."""
        last = 0.0

        def step() -> bool:
            nonlocal last
            if self.kills < most and time.monotonic() >= last:
                last = time.monotonic() + self.random.uniform(0.2, 1.8) * pause
                self._one()
            return ended()

        wait_until(step, timeout, interval=0.002, message=f"the end, after {self.kills} kills")

    def _one(self) -> None:
        processes = [pid for root in self.supervisors for pid in task_processes(root)]
        # Those who have worked: five in a row that die while they start are a fault of their own,
        # at which a supervisor rightly stops.
        at_work = {entry["pid"] for entry in self.hazards.executions}
        victims = sorted(at_work.intersection(processes))
        if victims and kill(self.random.choice(victims)):
            self.kills += 1


def make_room(disk: Path) -> None:
    """Enlarge the file system of the fixture `small_disk`."""
    subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
