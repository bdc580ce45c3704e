"""What peers with a broker need: a Redis of their own, and worker commands that are up."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping

from support import free_port

URL = "BENCHMARKS_REDIS"  # environment variable: where apps of peers find their broker
PATIENCE = 30.0


def no_redis() -> str | None:
    """Why there can be no Redis."""
    if shutil.which("redis-server") is None:
        return "no program redis-server here (Debian: redis-server)"
    return None


def redis_version() -> str:
    done = subprocess.run(["redis-server", "--version"], capture_output=True, text=True, check=True)
    return done.stdout.partition(" v=")[2].split(" ")[0]


@contextlib.contextmanager
def redis() -> Iterator[str]:
    """A Redis on a free port, in memory only; its URL, here and in what this process starts."""
    import redis as client

    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        memory_only = ["--save", "", "--appendonly", "no", "--dir", folder]
        argv = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", *memory_only]
        url = f"redis://127.0.0.1:{port}/0"
        with running(argv), environment({URL: url}):
            connection = client.Redis.from_url(url)
            wait_for(lambda: _answers(connection))
            connection.close()
            yield url


def _answers(connection: object) -> bool:
    try:
        return bool(connection.ping())  # type: ignore[attr-defined]
    except Exception:
        return False


@contextlib.contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextlib.contextmanager
def running(argv: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """A program in the background, ended with all of its own."""
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(argv, stdout=said, stderr=said, start_new_session=True)
        try:
            yield process
        finally:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def module(name: str, *args: str) -> list[str]:
    return [sys.executable, "-m", name, *args]


def wait_for(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not up within {PATIENCE:g} s")
        time.sleep(0.01)
