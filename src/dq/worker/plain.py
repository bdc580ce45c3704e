"""A slot's work for a plain `BaseManager`, as the well-known recipe serves it."""

from __future__ import annotations

import queue
from collections.abc import Callable

from dq._support.frozen import TYPE_CHECKING
from dq.core.records import LONGEST_TEXT, Failure, as_error
from dq.errors import ConnectError, ProtocolError, Unreadable
from dq.functions.reference import TaskRef
from dq.manager.client import PlainClient
from dq.worker.calling import awaiting
from dq.worker.cells import CONNECTED, DRAINED, GONE, RECYCLE
from dq.worker.config import loads_for
from dq.worker.connecting import Leave
from dq.worker.failure import describe
from dq.worker.outcomes import complaint_of

if TYPE_CHECKING:
    from dq.worker.process import Process


class PlainWorker:
    """Works for a plain master: gets a task, puts a bare result.

    Args:
        process: the task process.
        task: what to call.
    """

    def __init__(self, process: Process, task: TaskRef) -> None:
        self._process = process
        self._task = task

    def run(self) -> int:
        """Work until there is a reason to leave, and return its code."""
        process = self._process
        call = awaiting(process.programs.load_default(self._task), process.loop)
        while True:
            try:
                config = process.config
                loads = loads_for(config.allow)
                client = PlainClient(config.address, config.authkey, config.tls, loads)
                process.set_state(CONNECTED)
                self._serve(client, call)
            except (ConnectError, EOFError):
                return GONE  # the next process looks for the master, plain or not
            except Leave as leave:
                return leave.code

    def _serve(self, client: PlainClient, call: Callable[[object], object]) -> None:
        while not self._process.leaving:
            if self._process.max_tasks() == 0:
                raise Leave(RECYCLE)
            try:
                item = client.get(1.0)
            except queue.Empty:
                continue
            except Unreadable as error:
                value: object = as_error(describe(error.__cause__ or error))
            else:
                value = _answer(call, item)
            _put(client, value)
            self._process.count_tasks(1)
        raise Leave(DRAINED)


def _answer(call: Callable[[object], object], item: object) -> object:
    """What a plain master gets: the value, or a text that says why there is none."""
    try:
        value = call(item)
    except BaseException as error:  # SystemExit too: the task raised it
        return as_error(describe(error))
    complaint = complaint_of(value)
    return value if complaint is None else as_error(Failure("TypeError", complaint))


def _put(client: PlainClient, value: object) -> None:
    """Put a result or, if it cannot be sent, the reason: the master has no other record of the
    task."""
    try:
        client.put(value)
    except ProtocolError as error:  # for example, the master cannot unpickle it
        text = str(error).rstrip()[-LONGEST_TEXT:]  # a plain BaseManager sends a traceback
        client.put(as_error(Failure("ResultRefused", text.rpartition("\n")[2], text)))
    except ConnectError:
        raise
    except Exception as error:
        failure = describe(error)
        client.put(as_error(Failure(failure.type, f"cannot be sent: {failure.message}")))
