"""What RQ's workers run: a worker that does not fork for each job, RQ's fastest."""

from __future__ import annotations

import os
import sys

import redis
from rq import Queue, SimpleWorker, Worker

from benchmarks.peers.brokers import URL

if __name__ == "__main__":
    connection = redis.Redis.from_url(os.environ[URL])
    kind = SimpleWorker if sys.argv[1] == "simple" else Worker
    kind([Queue(connection=connection)], connection=connection).work(logging_level="ERROR")
