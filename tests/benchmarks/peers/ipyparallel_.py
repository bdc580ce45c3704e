"""ipyparallel: engines behind a controller, load-balanced or dealt out beforehand."""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks import peers
from benchmarks.measure import Contender, Function, Run
from benchmarks.report import version as installed


def available() -> str | None:
    return peers.missing("ipyparallel")


def version() -> str:
    return installed("ipyparallel")


@contextmanager
def _client(workers: int) -> Iterator[Any]:
    import ipyparallel

    with ipyparallel.Cluster(n=workers, log_level=logging.ERROR) as client:
        client.wait_for_engines(workers)
        yield client


@contextmanager
def balanced(function: Function, workers: int, chunk: int) -> Iterator[Run]:
    with _client(workers) as client:
        view = client.load_balanced_view()
        yield lambda inputs: view.map_sync(function, list(inputs), chunksize=chunk)


@contextmanager
def direct(function: Function, workers: int) -> Iterator[Run]:
    with _client(workers) as client:
        view = client[:]
        yield lambda inputs: view.map_sync(function, list(inputs))


CONTENDERS = [
    Contender("ipyparallel, balanced", functools.partial(balanced, chunk=1), 500, None, True),
    Contender(
        "ipyparallel, balanced, chunksize=1000", functools.partial(balanced, chunk=1000), 200_000
    ),
    Contender("ipyparallel, direct view", direct, 500_000),
]
