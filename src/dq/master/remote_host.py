"""A master elsewhere, as what runs an executor's calls."""

from __future__ import annotations

from collections.abc import Callable

from dq.functions.task_options import TaskOptions
from dq.master.remote_calls import RemoteCalls
from dq.service.connection import JobsConnection


class RemoteHost:
    """A master elsewhere; a `CallHost`.

    Args:
        connect: connects to it.
        tasks: options of the calls.
        report: called with each line that people should see.
    """

    def __init__(
        self,
        connect: Callable[[], JobsConnection],
        tasks: TaskOptions,
        report: Callable[[str], None],
    ) -> None:
        self._connect = connect
        self._tasks = tasks
        self._report = report
        self._connection: JobsConnection | None = None
        self._calls: RemoteCalls | None = None

    @property
    def closed(self) -> bool:
        return False  # the calls fail with the reason, and no more can be made

    def start(self) -> None:
        self._connection = self._connect()

    def runner(self) -> RemoteCalls:
        assert self._connection is not None  # it has been started
        self._calls = RemoteCalls(self._connection, self._tasks, self._report)
        return self._calls

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def after_fork(self) -> None:
        if self._connection is not None:
            self._connection.after_fork()
        if self._calls is not None:
            self._calls.after_fork()
        self._connection = self._calls = None
