"""Celery's application, as its workers import it."""

from __future__ import annotations

import os
from typing import Any

from celery import Celery

from benchmarks import functions
from benchmarks.peers.brokers import URL

app = Celery("benchmarks", broker=os.environ[URL], backend=os.environ[URL])
app.conf.update(
    task_ignore_result=False,
    worker_prefetch_multiplier=int(os.environ.get("BENCHMARKS_PREFETCH", "4")),
    broker_connection_retry_on_startup=True,
)


@app.task(shared=False)  # not with other apps of the process that submits
def square(x: Any) -> Any:
    return functions.square(x)
