"""Celery on Redis: tasks one by one, and in `chunks`, its canvas's way to make them cheap."""

from __future__ import annotations

import functools
import importlib
import itertools
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks import peers
from benchmarks.measure import Contender, Function, Run
from benchmarks.peers import brokers
from benchmarks.report import version as installed


def available() -> str | None:
    return peers.missing("celery", "redis") or brokers.no_redis()


def version() -> str:
    return f"{installed('celery')} on Redis {brokers.redis_version()}"


@contextmanager
def session(function: Function, workers: int, chunk: int, prefetch: int) -> Iterator[Run]:
    with brokers.redis(), brokers.environment({"BENCHMARKS_PREFETCH": str(prefetch)}):
        name = "benchmarks.peers.celery_app"
        sys.modules.pop(name, None)  # made anew, for another Redis
        square = importlib.import_module(name).square
        argv = ["-A", name, "worker", "-c", str(workers)]
        quiet = ["-l", "ERROR", "--without-gossip", "--without-mingle", "--without-heartbeat"]
        with brokers.running(brokers.module("celery", *argv, *quiet)):
            square.delay(1).get(timeout=brokers.PATIENCE)

            def run(inputs: Iterable[Any]) -> Iterable[Any]:
                pairs = [(item,) for item in inputs]
                if chunk == 1:
                    from celery import group

                    found: Iterable[Any] = group(square.s(*pair) for pair in pairs)().get()
                    return found
                parts = square.chunks(pairs, chunk).apply_async().get()
                return list(itertools.chain.from_iterable(parts))

            yield run


CONTENDERS = [
    Contender("celery", functools.partial(session, chunk=1, prefetch=4), 1_000, None, True),
    Contender(
        "celery, worker_prefetch_multiplier=128",
        functools.partial(session, chunk=1, prefetch=128),
        1_000,
    ),
    Contender(
        "celery, chunks of 1000", functools.partial(session, chunk=1000, prefetch=4), 100_000
    ),
]
