"""`multiprocessing.Pool.imap_unordered`, whose user has to name a chunk size."""

from __future__ import annotations

import functools
import multiprocessing
import platform
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.measure import Contender, Function, Run

CHUNKS = {1: 40_000, 10: 300_000, 100: 1_000_000, 1000: 1_000_000, 4096: 1_000_000}


def available() -> str | None:
    return None


def version() -> str:
    return f"multiprocessing of Python {platform.python_version()}"


@contextmanager
def session(function: Function, workers: int, chunk: int) -> Iterator[Run]:
    with multiprocessing.Pool(workers) as pool:
        yield lambda inputs: pool.imap_unordered(function, inputs, chunk)
        pool.close()
        pool.join()


def contender(chunk: int, noops: int = 1_000_000) -> Contender:
    whole_session = functools.partial(session, chunk=chunk)
    return Contender(f"Pool.imap_unordered, chunk {chunk}", whole_session, noops, None, chunk == 1)


CONTENDERS = [contender(chunk, noops) for chunk, noops in CHUNKS.items()]
