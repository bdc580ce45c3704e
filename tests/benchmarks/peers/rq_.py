"""RQ on Redis: its default worker forks for each job, its simple worker does not."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from benchmarks import peers
from benchmarks.measure import Contender, Function, Run
from benchmarks.peers import brokers
from benchmarks.report import version as installed


def available() -> str | None:
    return peers.missing("rq", "redis") or brokers.no_redis()


def version() -> str:
    return f"{installed('rq')} on Redis {brokers.redis_version()}"


@contextmanager
def session(function: Function, workers: int, kind: str) -> Iterator[Run]:
    import redis
    from rq import Queue
    from rq.job import Job

    with brokers.redis() as url, ExitStack() as stack:
        connection = redis.Redis.from_url(url)
        stack.callback(connection.close)
        jobs = Queue(connection=connection)
        for _ in range(workers):
            argv = brokers.module("benchmarks.peers.rq_app", kind)
            stack.enter_context(brokers.running(argv))

        def run(inputs: Iterable[Any]) -> Iterable[Any]:
            data = [Queue.prepare_data(function, (item,), result_ttl=600) for item in inputs]
            ids = [job.id for job in jobs.enqueue_many(data)]
            finished = jobs.finished_job_registry
            while finished.get_job_count(cleanup=False) < len(ids):
                time.sleep(0.005)
            found = [job.return_value() for job in Job.fetch_many(ids, connection) if job]
            for id in ids:
                connection.zrem(finished.key, id)
            return found

        list(run([1]))
        yield run


CONTENDERS = [
    Contender("rq", functools.partial(session, kind="forking"), 100, None, True),
    Contender("rq, SimpleWorker", functools.partial(session, kind="simple"), 500),
]
