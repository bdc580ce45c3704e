"""How things are measured: who takes part, in which order, and for how long at most."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from types import FrameType
from typing import IO, Any

from benchmarks import stats

WORKERS = 2
PATIENCE = 300  # seconds that one sample may take

Function = Callable[[Any], Any]
Run = Callable[[Iterable[Any]], Iterable[Any]]  # inputs in, values out, in any order
Session = Callable[[Function, int], AbstractContextManager[Run]]
Sample = dict[str, float]


@dataclass(frozen=True)
class Options:
    """What the command was given."""

    size: str = "normal"  # "quick", "normal" or "full"
    repeats: int = 5
    peers: bool = True

    def pick(self, quick: int, normal: int, full: int | None = None) -> int:
        """A scenario's size."""
        return {"quick": quick, "normal": normal, "full": full or normal}[self.size]


@dataclass(frozen=True)
class Contender:
    """One way to get tasks done.

    Args:
        name: of the toolkit and the call, with the setting.
        session: starts workers, and stops them; within, inputs go in and values come out.
        noops: no-op tasks that it does in some seconds; what takes longer is not measured longer.
        whole: everything in one call, for what has one; else a session around a single run.
        default: whether the setting is what one gets without asking.
    """

    name: str
    session: Session
    noops: int = 1_000_000
    whole: Callable[[Function, Iterable[Any], int], Iterable[Any]] | None = None
    default: bool = False

    def run_whole(self, function: Function, inputs: Iterable[Any]) -> list[Any]:
        if self.whole is not None:
            return list(self.whole(function, inputs, WORKERS))
        with self.session(function, WORKERS) as run:
            return list(run(inputs))


@dataclass
class Samples:
    """Figures of each repeat, by who and what; and why somebody has none."""

    figures: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)

    def median(self, name: str, what: str) -> float:
        return stats.median(self.figures.get(name, {}).get(what, []))

    def best(self, names: Iterable[str], what: str, highest: bool = True) -> float:
        """The best median of several contenders; NaN where there is none."""
        known = [self.median(name, what) for name in names if what in self.figures.get(name, {})]
        return (max if highest else min)(known, default=float("nan"))


class TookTooLong(Exception):
    """Raised in a sample that has had its time."""


def collect(
    contenders: Sequence[tuple[str, Callable[[], Sample]]], repeats: int, patience: int = PATIENCE
) -> Samples:
    """Measure everybody in turn, as often as asked. Who fails is out, with the reason."""
    samples = Samples()
    for repeat, (name, measure) in stats.interleaved(contenders, repeats):
        if name in samples.reasons:
            continue
        progress(f"{repeat + 1}/{repeats} {name}")
        try:
            with time_limit(patience):
                sample = measure()
        except Exception as error:
            samples.reasons[name] = _reason(error)
            continue
        finally:
            gc.collect()
        for what, value in sample.items():
            samples.figures.setdefault(name, {}).setdefault(what, []).append(value)
    progress("")
    return samples


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"failed: {type(error).__name__}: {text}"[:200]


def progress(text: str) -> None:
    """What is being measured, for who watches."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


@contextlib.contextmanager
def time_limit(seconds: int) -> Iterator[None]:
    """Raise `TookTooLong` in what takes longer; where there is no SIGALRM, let it take longer."""

    def ring(number: int, frame: FrameType | None) -> None:
        raise TookTooLong(f"no end after {seconds} s")

    if not hasattr(signal, "SIGALRM") or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds that a call took, and what it returned."""
    started = time.perf_counter()
    value = call()
    return time.perf_counter() - started, value


def rss() -> int:
    """This process's resident memory in bytes; 0 where nobody says."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


class PeakMemory:
    """The most memory that this process has while in the block, beyond what it had before."""

    def __enter__(self) -> PeakMemory:
        self._before = self.peak = rss()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.05):
            self.peak = max(self.peak, rss())

    @property
    def growth(self) -> int:
        return self.peak - self._before


def check(values: Sequence[Any], expected: Callable[[], Iterable[Any]]) -> None:
    """Nothing counts that is not right: every value there, in whatever order."""
    wanted = sorted(expected())
    if sorted(values) != wanted:
        raise AssertionError(f"{len(values)} values, not the {len(wanted)} that were to come")


class Piped(subprocess.Popen[bytes]):
    """A process that is talked to."""

    stdin: IO[bytes]
    stdout: IO[bytes]


@contextlib.contextmanager
def piped(*argv: str) -> Iterator[Piped]:
    """A Python process with pipes; what still runs at the end of the block is ended."""
    pipe = subprocess.PIPE
    process = Piped([sys.executable, *argv], stdin=pipe, stdout=pipe)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()
