"""mpire: pools with pipes, chunked by the number of tasks or as told."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks import peers
from benchmarks.measure import Contender, Function, Run
from benchmarks.report import version as installed


def available() -> str | None:
    return peers.missing("mpire")


def version() -> str:
    return installed("mpire")


@contextmanager
def session(function: Function, workers: int, **options: Any) -> Iterator[Run]:
    from mpire import WorkerPool

    with WorkerPool(workers, keep_alive=True) as pool:
        yield lambda inputs: pool.imap_unordered(function, list(inputs), **options)


def contender(noops: int, default: bool = False, **options: Any) -> Contender:
    name = ", ".join(["mpire", *(f"{key}={value}" for key, value in options.items())])
    return Contender(name, functools.partial(session, **options), noops, None, default)


CONTENDERS = [contender(300_000, default=True), contender(300_000, chunk_size=1000)]
