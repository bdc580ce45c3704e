"""Huey's application, as its consumer imports it: on Redis, or on an SQLite file."""

from __future__ import annotations

import os
from typing import Any

from huey import RedisHuey, SqliteHuey

from benchmarks import functions
from benchmarks.peers.brokers import URL

if "BENCHMARKS_SQLITE" in os.environ:
    huey = SqliteHuey("benchmarks", filename=os.environ["BENCHMARKS_SQLITE"], timeout=60)
else:
    huey = RedisHuey("benchmarks", url=os.environ[URL])


@huey.task()
def square(x: Any) -> Any:
    return functions.square(x)
