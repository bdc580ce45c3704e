"""Dask's distributed scheduler, with futures one by one and in batches, and with a bag."""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks import peers
from benchmarks.measure import Contender, Function, Run
from benchmarks.report import version as installed


def available() -> str | None:
    return peers.missing("distributed", "dask.bag")


def version() -> str:
    return installed("distributed")


@contextmanager
def _client(workers: int) -> Iterator[Any]:
    from distributed import Client, LocalCluster

    cluster = LocalCluster(
        n_workers=workers,
        threads_per_worker=1,
        dashboard_address=None,
        silence_logs=logging.ERROR,
    )
    with cluster, Client(cluster) as client:
        yield client


@contextmanager
def futures(function: Function, workers: int, **options: Any) -> Iterator[Run]:
    with _client(workers) as client:

        def run(inputs: Iterable[Any]) -> Iterable[Any]:
            # pure=False: otherwise it would know the results of the run before.
            found: Iterable[Any] = client.gather(
                client.map(function, list(inputs), pure=False, **options)
            )
            return found

        yield run


@contextmanager
def bag(function: Function, workers: int) -> Iterator[Run]:
    from dask import bag as bags

    with _client(workers):

        def run(inputs: Iterable[Any]) -> Iterable[Any]:
            items = list(inputs)
            found: Iterable[Any] = (
                bags.from_sequence(items, npartitions=4 * workers).map(function).compute()
            )
            return found

        yield run


CONTENDERS = [
    Contender("dask, Client.map", futures, 1_500, None, True),
    Contender(
        "dask, Client.map, batch_size=1000", functools.partial(futures, batch_size=1000), 3_000
    ),
    Contender("dask, bag, 4 partitions a worker", bag, 200_000),
]
