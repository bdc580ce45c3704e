"""One job of a serving master, as its clients have it."""

from __future__ import annotations

import contextlib
import pickle
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import replace
from typing import Generic, TypeVar

from dq._support.frozen import cast
from dq.core.records import Failure, Loads, Reading, Result, printable
from dq.data import exceptions
from dq.data.pieces import BadValue
from dq.errors import Stopped, TaskError
from dq.functions.spec import JobSpec
from dq.service.connection import JobsConnection
from dq.service.groups import grouped
from dq.service.results import Row, Tally, decoded, opened, reading_from, results_of
from dq.service.selectors import selector_of
from dq.service.specs import from_client
from dq.service.status import FailureGroup, JobStatus

WAIT_S = 20.0  # for one answer of the master
PAUSE_S = 0.05  # between two questions whether a job has ended: each outcome is news

T = TypeVar("T")


class SubmittedJob(Generic[T]):
    """A job on a master. Any client can have one, on any machine, at any time.

    Attributes:
        number: what people call it.
    """

    def __init__(self, connection: JobsConnection, number: int, id: str) -> None:
        self._connection = connection
        self.number = number
        self._id = id

    def __repr__(self) -> str:
        return f"<SubmittedJob {self.number}>"

    @property
    def selector(self) -> str:
        """What stands for this one job, for the methods of `Client`."""
        # Not the number: a master that was started again without its file may have given that to
        # another job.
        return selector_of(self._id)

    def status(self) -> JobStatus:
        """Its figures, and why it does not run."""
        return JobStatus.from_wire(self._connection.call("status", self.selector))

    @contextlib.contextmanager
    def apart(self) -> Iterator[SubmittedJob[T]]:
        """The same job through a connection of its own, which tells nobody when the master is lost;
        for the command line, where another one does."""
        connection = self._connection.another(reports=False)
        try:
            yield SubmittedJob(connection, self.number, self._id)
        finally:
            connection.close()

    def why_not(self, id: int) -> tuple[str, ...]:
        """Where one of its tasks is, and why that does not run.

        Args:
            id: of the task, as results have it.

        Raises:
            UsageError: there is no such task.
        """
        place = cast("str", self._connection.call("whereabouts", self.selector, id))
        return (*([place] if place else []), *self.status().why_not)

    def wait(self, timeout: float | None = None) -> JobStatus:
        """Wait until it has ended.

        Args:
            timeout: seconds.

        Raises:
            TimeoutError: it has not ended by then.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        version = -1
        while True:
            left = WAIT_S if deadline is None else min(WAIT_S, deadline - time.monotonic())
            status = self.changed_since(version, max(left, 0.0))
            if status.has_ended:
                return status
            if deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError(f"job {self.number} has not ended in {timeout:g} s")
            version = status.version
            time.sleep(PAUSE_S)

    def changed_since(self, version: int, seconds: float) -> JobStatus:
        """Its figures, once they are others than those with this version, or after some seconds."""
        answer = self._connection.call("wait", self.selector, version, seconds)
        return JobStatus.from_wire(answer)

    def results(
        self, *, ordered: bool = True, follow: bool = True, inputs: bool = True
    ) -> Iterator[Result[T]]:
        """Its results, as `dq.Master.stream` has them. They can be read as often as wanted.

        Args:
            ordered: in the order of the inputs, rather than as they came.
            follow: wait for those that are not there yet, until the job has ended.
            inputs: fetch the inputs as well.
        """
        reading = self.reading()
        for row in self.rows(ordered=ordered, follow=follow, inputs=inputs):
            for result in results_of(row, reading, pickle.loads):
                yield cast("Result[T]", opened(result, pickle.loads))

    def reading(self) -> Reading:
        """How to make values of its inputs; for the command line."""
        answer = cast("dict[str, object]", self._connection.call("status", self.selector))
        return reading_from(answer["reading"])

    def rows(self, *, ordered: bool, follow: bool, inputs: bool) -> Iterator[Row]:
        """The same as the master sends them; for the command line. Those of failed tasks have their
        inputs in any case."""
        tally = Tally()
        for page in self._pages("results", "rows", ordered, inputs, follow=follow):
            found = cast("list[Row]", page["rows"])
            tally.add(found, cast("int | None", page["whole"]))
            yield from found
            if page["over"]:
                tally.check()

    def values(self) -> Iterator[T]:
        """What its tasks return, in the order of the inputs.

        Raises:
            Exception: a task failed; raised in the place of its value: what the task raised, with
                the worker's traceback as its cause.
            TaskError: the same, if that cannot be raised here.
            Stopped: the job was cancelled, or stopped, before all of its tasks had an outcome.
        """
        reading = self.reading()
        for row in self.rows(ordered=True, follow=True, inputs=False):
            for result in results_of(row, reading, pickle.loads):
                result = opened(result, pickle.loads)
                if result.error is not None:
                    raise self._error_of(row, result)
                yield cast("T", result.value)
        status = self.status()
        if status.done + status.failed < status.total:
            raise Stopped(f"job {self.number} was {status.state}: {status.reason}")

    def _error_of(self, row: Row, result: Result[object]) -> Exception:
        """What to raise for a failed task: what it raised, if that can be had here."""
        error = None if row[5] is None else exceptions.load(row[5][3])
        if error is not None and row[5] is not None:
            note = f"dq: task {result.id} of job {self.number}, attempt {result.attempts}"
            if exceptions.annotate(error, row[5][2], f"{note}, on {printable(result.worker)}"):
                return error
        return TaskError(result)

    async def __aiter__(self) -> AsyncIterator[Result[T]]:
        """Its results in the order of the inputs, for ``async for``."""
        import asyncio  # here, since it takes longer than all the rest of a command

        loop = asyncio.get_running_loop()
        found = self.results()
        end = object()
        while (result := await loop.run_in_executor(None, next, found, end)) is not end:
            yield cast("Result[T]", result)

    def failures(self) -> list[FailureGroup]:
        """Its failed tasks, grouped by the exception's type and the last place in the user's own
        code; the largest group first."""
        found = self.failure_groups(pickle.loads)
        return [
            replace(group, input=None) if isinstance(group.input, BadValue) else group
            for group in found
        ]

    def failure_groups(self, loads: Loads) -> list[FailureGroup]:
        """The same; for the command line.

        Args:
            loads: unpickles inputs. One that it cannot unpickle is a `BadValue`.
        """
        reading = self.reading()

        def value_of(items: list[bytes]) -> object:
            return next(iter(decoded(items, reading, loads)))

        rows = self.failed_rows()
        found = ((row[0], Failure(*row[5][:3]), row[7] or []) for row in rows if row[5] is not None)
        return grouped(found, value_of)

    def failed_rows(self) -> Iterator[Row]:
        """The rows of failed tasks; for the command line."""
        cursor, tally = 0, Tally()
        while True:
            answer = cast(
                "dict[str, object]", self._connection.call("failures", self.selector, cursor)
            )
            found, cursor = cast("list[Row]", answer["rows"]), cast("int", answer["cursor"])
            tally.add(found, cast("int", answer["whole"]))
            yield from found
            if answer["over"]:
                tally.check()
                return

    def spec(self) -> JobSpec:
        """What workers know of it."""
        wire, functions = cast(
            "tuple[object, object]", self._connection.call("spec", self.selector)
        )
        return from_client(wire, functions)

    def retry(self, ids: Iterable[int] | None = None) -> int:
        """Run failed tasks again: these, or all. Returns how many they are. If the job was stopped
        or cancelled, it goes on with what it had left, too.

        Raises:
            UsageError: a job that this one was to follow has not succeeded.
        """
        given = None if ids is None else list(ids)
        return cast("int", self._connection.call("retry", self.selector, given))

    def lines(self, *, follow: bool = False) -> Iterator[str]:
        """What its tasks have printed, line by line; the last 10,000 are kept.

        Args:
            follow: wait for more until the job has ended. What the tasks of one that has ended have
                printed last is waited for in any case.
        """
        for page in self._pages("lines", "lines", follow=follow):
            yield from cast("list[str]", page["lines"])

    def _pages(
        self, method: str, field: str, *args: object, follow: bool
    ) -> Iterator[dict[str, object]]:
        """A method's answers, page by page.

        Args:
            method: the method.
            field: what of its answers has what is there, if anything.
            args: its arguments besides the job, the cursor and how long it is to wait.
            follow: wait for more until the job has ended.
        """
        cursor, waits = 0, follow
        connection = self._connection.another() if follow else self._connection
        try:
            while True:
                wait = WAIT_S if waits else 0.0
                answer = cast(
                    "dict[str, object]",
                    connection.call(method, self.selector, cursor, *args, wait),
                )
                yield answer
                cursor, waits = cast("int", answer["cursor"]), follow or bool(answer.get("ended"))
                if answer["over"] or not (answer[field] or waits):
                    return
        finally:
            if connection is not self._connection:
                connection.close()

    def cancel(self) -> bool:
        """End it: nothing more of it is run, and running tasks are ended. Returns False if it had
        ended already."""
        return bool(self._connection.call("cancel", [self.selector]))

    def forget(self) -> None:
        """Remove it and its results from the master.

        Raises:
            UsageError: it has not ended, or another one that has not ended is to follow it.
        """
        self._connection.call("forget", [self.selector])
