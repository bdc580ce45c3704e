"""`concurrent.futures.ProcessPoolExecutor.map`."""

from __future__ import annotations

import functools
import platform
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager

from benchmarks.measure import Contender, Function, Run

CHUNKS = {1: 10_000, 100: 500_000}


def available() -> str | None:
    return None


def version() -> str:
    return f"concurrent.futures of Python {platform.python_version()}"


@contextmanager
def session(function: Function, workers: int, chunk: int) -> Iterator[Run]:
    with ProcessPoolExecutor(workers) as pool:
        yield lambda inputs: pool.map(function, inputs, chunksize=chunk)


def contender(chunk: int, noops: int = 1_000_000) -> Contender:
    whole_session = functools.partial(session, chunk=chunk)
    name = f"ProcessPoolExecutor.map, chunk {chunk}"
    return Contender(name, whole_session, noops, None, chunk == 1)


CONTENDERS = [contender(chunk, noops) for chunk, noops in CHUNKS.items()]
