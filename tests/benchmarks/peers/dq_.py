"""dq itself, with nothing set but the number of workers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import dq
from benchmarks.measure import Contender, Function, Run
from benchmarks.report import version as installed


def available() -> str | None:
    return None


def version() -> str:
    return installed("dq-toolkit")


@contextmanager
def mapping(function: Function, workers: int) -> Iterator[Run]:
    with dq.Master(workers=workers) as master:
        yield lambda inputs: master.map(function, inputs)


@contextmanager
def streaming(function: Function, workers: int) -> Iterator[Run]:
    with dq.Master(workers=workers) as master:
        yield lambda inputs: (result.value for result in master.stream(function, inputs))


@contextmanager
def as_they_come(function: Function, workers: int) -> Iterator[Run]:
    with dq.Master(workers=workers) as master:
        yield lambda inputs: master.map(function, inputs, ordered=False)


@contextmanager
def generated(function: Function, workers: int) -> Iterator[Run]:
    with dq.Master(workers=workers) as master:
        yield lambda inputs: master.map(function, (item for item in inputs))


def run(function: Function, inputs: Iterable[Any], workers: int) -> list[Any]:
    return dq.run(function, inputs, workers=workers)


MAP = Contender("dq (map; run)", mapping, whole=run, default=True)
UNORDERED = Contender("dq (map, as they come)", as_they_come)
STREAM = Contender("dq (stream)", streaming)
GENERATED = Contender("dq (map of a generator)", generated)
CONTENDERS = [MAP, UNORDERED, GENERATED, STREAM]
