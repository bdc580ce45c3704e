"""Plain `BaseManager` clients for tests: the standard library's, in any CPython, with no dq."""

from __future__ import annotations

import functools
import multiprocessing.connection as mpc
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.managers import dispatch
from typing import Any

import pytest

import dq
from support import Running, other_pythons, run

KEY = "known to both of these ends"
ENV = {"DQ_AUTHKEY": KEY}

PRELUDE = """\
import queue, sys, threading, time
from multiprocessing.managers import BaseManager

class QueueManager(BaseManager):
    pass

QueueManager.register("get_task_queue")
QueueManager.register("get_result_queue")

def connect():
    manager = QueueManager(("127.0.0.1", int(sys.argv[1])), authkey=sys.argv[2].encode())
    manager.connect()
    return manager.get_task_queue(), manager.get_result_queue()

def raised(function, *args, **kw):
    try:
        return function(*args, **kw)
    except Exception as error:
        return type(error).__name__

def say(*words):
    print(*words, flush=True)

"""
CONNECT = "tasks, results = connect()\n"


def _argv(port: int, code: str, python: str, key: str) -> list[str]:
    return [python, "-c", PRELUDE + textwrap.dedent(code), str(port), key]


def plain(port: int, code: str, *, python: str = sys.executable, key: str = KEY) -> str:
    """Run a plain client to its end and return what it printed; it has `tasks` and `results`."""
    done = run(*_argv(port, CONNECT + textwrap.dedent(code), python, key))
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def plain_running(port: int, code: str, *, python: str = sys.executable) -> Running:
    """A plain client in the background."""
    return Running(*_argv(port, CONNECT + textwrap.dedent(code), python, KEY))


def unconnected(port: int, code: str, *, python: str = sys.executable, key: str = KEY) -> str:
    """As `plain`, for code that calls `connect()` itself."""
    done = run(*_argv(port, code, python, key))
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


#: Those that dq runs in; the oldest and the newest are tried each time.
EVERY_PYTHON = [
    pytest.param(f"3.{minor}", marks=() if minor in (10, 14) else pytest.mark.slow)
    for minor in range(10, 15)
]


@functools.cache
def pythons() -> dict[str, str]:
    """All CPythons on this machine, by version."""
    asked = {python: run(python, "-V").stdout.split()[1] for python in other_pythons()}
    found = {version.rpartition(".")[0]: python for python, version in asked.items()}
    return {**found, f"{sys.version_info[0]}.{sys.version_info[1]}": sys.executable}


@contextmanager
def master_here(**options: Any) -> Iterator[int]:
    """What `dq master` runs, in this process: its port."""
    with dq.Master(host="127.0.0.1", port=0, authkey=KEY, **options) as master:
        yield master.address[1]


class Wire:
    """One plain connection, as the standard library's proxies open it, for what they can't do.

    >>> with master_here() as port, Wire(port) as wire:
    ...     wire.tasks("put", 1)
    ...     wire.tasks("get")
    1
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self.ids = {name: self.ask("create", name)[0] for name in QUEUES}
        self.conn = self.dial()
        dispatch(self.conn, None, "accept_connection", ("wire",))

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *exc: object) -> None:
        self.conn.close()

    def dial(self) -> Any:
        return mpc.Client(("127.0.0.1", self.port), authkey=KEY.encode())

    def ask(self, method: str, *args: object) -> Any:
        """A request to the server itself, over a connection of its own."""
        with self.dial() as conn:
            return dispatch(conn, None, method, args)

    def tasks(self, method: str, *args: object) -> Any:
        return dispatch(self.conn, self.ids["get_task_queue"], method, args)

    def results(self, method: str, *args: object) -> Any:
        return dispatch(self.conn, self.ids["get_result_queue"], method, args)


QUEUES = ("get_task_queue", "get_result_queue")
