"""Dramatiq's application, as its workers import it."""

from __future__ import annotations

import os
from typing import Any

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

from benchmarks import functions
from benchmarks.peers.brokers import URL

broker = RedisBroker(url=os.environ[URL])
broker.add_middleware(Results(backend=RedisBackend(url=os.environ[URL])))
dramatiq.set_broker(broker)


@dramatiq.actor(store_results=True)
def square(x: Any) -> Any:
    return functions.square(x)
