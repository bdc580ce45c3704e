"""The standard library's recipe: two queues behind a `BaseManager` on a TCP port.

Master's queues, workers and the script that puts and gets are processes of their own, as in the
recipe; queues are made by functions of this module, so that every start method can serve them.
"""

from __future__ import annotations

import functools
import multiprocessing
import platform
import queue
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from multiprocessing.managers import BaseManager
from typing import Any

from benchmarks.measure import Contender, Function, Run

AUTHKEY = b"abc"
END = "the recipe's workers go home"


def available() -> str | None:
    return None


def version() -> str:
    return f"multiprocessing.managers of Python {platform.python_version()}"


@functools.cache
def task_queue() -> queue.Queue[Any]:
    return queue.Queue()


@functools.cache
def result_queue() -> queue.Queue[Any]:
    return queue.Queue()


class Master(BaseManager):
    """What holds the queues."""


class Client(BaseManager):
    """What uses them."""


Master.register("get_task_queue", callable=task_queue)
Master.register("get_result_queue", callable=result_queue)
Client.register("get_task_queue")
Client.register("get_result_queue")


def connect(address: Any, authkey: bytes = AUTHKEY) -> tuple[Any, Any]:
    """The two queues of a master, the recipe's or dq's."""
    client: Any = Client(address, authkey)
    client.connect()
    return client.get_task_queue(), client.get_result_queue()


def work(address: Any, function: Function) -> None:
    """The recipe's worker."""
    tasks, results = connect(address)
    while True:
        item = tasks.get()
        if isinstance(item, str) and item == END:
            return
        results.put(function(item))


@contextmanager
def serving() -> Iterator[Any]:
    """A recipe master; its address."""
    with Master(("127.0.0.1", 0), AUTHKEY) as master:
        yield master.address


@contextmanager
def session(function: Function, workers: int) -> Iterator[Run]:
    with serving() as address:
        tasks, results = connect(address)
        processes = [
            multiprocessing.Process(target=work, args=(address, function), daemon=True)
            for _ in range(workers)
        ]
        for process in processes:
            process.start()

        def run(inputs: Iterable[Any]) -> Iterator[Any]:
            count = 0
            for item in inputs:
                tasks.put(item)
                count += 1
            for _ in range(count):
                yield results.get()

        yield run
        for _ in processes:
            tasks.put(END)
        for process in processes:
            process.join()


CONTENDERS = [Contender("the recipe, put and get", session, 4_000, None, True)]
