"""Dramatiq on Redis: processes with the default of threads in each, and with one."""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks import peers
from benchmarks.measure import Contender, Function, Run
from benchmarks.peers import brokers
from benchmarks.report import version as installed


def available() -> str | None:
    return peers.missing("dramatiq", "redis") or brokers.no_redis()


def version() -> str:
    return f"{installed('dramatiq')} on Redis {brokers.redis_version()}"


@contextmanager
def session(function: Function, workers: int, threads: int) -> Iterator[Run]:
    with brokers.redis():
        name = "benchmarks.peers.dramatiq_app"
        sys.modules.pop(name, None)  # made anew, for another Redis
        app = importlib.import_module(name)
        options = ["-p", str(workers), "-t", str(threads)]
        with brokers.running(brokers.module("dramatiq", name, *options)):
            app.square.send(1).get_result(block=True, timeout=int(brokers.PATIENCE * 1000))

            def run(inputs: Iterable[Any]) -> Iterable[Any]:
                from dramatiq import group

                group_of = group([app.square.message(item) for item in inputs]).run()
                found: Iterable[Any] = group_of.get_results(block=True, timeout=300_000)
                return found

            yield run


CONTENDERS = [
    Contender("dramatiq, 8 threads", functools.partial(session, threads=8), 1_000, None, True),
    Contender("dramatiq, 1 thread", functools.partial(session, threads=1), 1_000),
]
