"""Huey, on SQLite and on Redis."""

from __future__ import annotations

import importlib
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks import peers
from benchmarks.measure import Contender, Function, Run
from benchmarks.peers import brokers
from benchmarks.report import version as installed


def available() -> str | None:
    return peers.missing("huey")


def version() -> str:
    return installed("huey")


@contextmanager
def on_sqlite(function: Function, workers: int) -> Iterator[Run]:
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "huey.db")
        with brokers.environment({"BENCHMARKS_SQLITE": path}), _consumer(workers) as run:
            yield run


@contextmanager
def on_redis(function: Function, workers: int) -> Iterator[Run]:
    reason = peers.missing("redis") or brokers.no_redis()
    if reason:
        raise RuntimeError(reason)
    with brokers.redis(), _consumer(workers) as run:
        yield run


@contextmanager
def _consumer(workers: int) -> Iterator[Run]:
    sys.modules.pop("benchmarks.peers.huey_app", None)  # made anew, for another storage
    app = importlib.import_module("benchmarks.peers.huey_app")
    # A delay of 10 ms is what its documentation has for those in a hurry; the default is 100.
    options = ["-w", str(workers), "-k", "process", "-d", "0.01", "-m", "0.01", "-q", "-n"]
    argv = brokers.module("huey.bin.huey_consumer", "benchmarks.peers.huey_app.huey", *options)
    with brokers.running(argv):
        app.square(1).get(blocking=True, timeout=brokers.PATIENCE)

        def run(inputs: Iterable[Any]) -> Iterable[Any]:
            handles = [app.square(item) for item in inputs]
            return [handle.get(blocking=True, backoff=1.0, max_delay=0.01) for handle in handles]

        yield run


CONTENDERS = [
    Contender("huey, SQLite", on_sqlite, 300),
    Contender("huey, Redis", on_redis, 1_000),
]
