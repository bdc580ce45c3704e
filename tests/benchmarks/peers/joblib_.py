"""joblib: processes of loky's, which size batches themselves unless told."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks import peers
from benchmarks.measure import Contender, Function, Run
from benchmarks.report import version as installed


def available() -> str | None:
    return peers.missing("joblib")


def version() -> str:
    return installed("joblib")


@contextmanager
def session(function: Function, workers: int, **options: Any) -> Iterator[Run]:
    from joblib import Parallel, delayed

    task = delayed(function)
    with Parallel(workers, return_as="generator_unordered", **options) as parallel:
        yield lambda inputs: parallel(task(item) for item in inputs)
    if options.get("backend") != "multiprocessing":
        from joblib.externals.loky import get_reusable_executor

        get_reusable_executor().shutdown(wait=True)


def contender(noops: int, default: bool = False, **options: Any) -> Contender:
    name = ", ".join(["joblib", *(f"{key}={value}" for key, value in options.items())])
    return Contender(name, functools.partial(session, **options), noops, None, default)


CONTENDERS = [
    contender(100_000, default=True),
    contender(300_000, batch_size=1000, pre_dispatch="8*n_jobs"),
]
