"""Runs tasks in this process and thread, where debuggers, profilers and coverage tools see them.

A batch is loaded, run and encoded as in a task process. What differs is that there is neither a
supervisor nor a connection, and that some exceptions end the run instead of failing their task.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
import time

from dq._support.frozen import TYPE_CHECKING
from dq.functions import by_value_classes, loading
from dq.functions.reference import Function, TaskRef
from dq.functions.spec import JobSpec
from dq.manager.messages import LeaseMessage, ReportMessage
from dq.worker.batch import RunningBatch, chunks
from dq.worker.cells import SLOT_CELLS, SlotCells
from dq.worker.event_loop import ThisThreadsLoop
from dq.worker.failure import BadItem
from dq.worker.forked import end_fork
from dq.worker.imports import Imports
from dq.worker.programs import Programs

if TYPE_CHECKING:
    from dq.worker.config import Parents

DEBUGGERS = ("bdb", "pdb")  # modules whose exceptions are commands to quit or to start again


class OwnFunctions:
    """The functions of this process's own program. One that was given as an object is called
    itself, and not a copy of it.

    Attributes:
        raises: whether the first exception of a task ends the run, with its traceback.
    """

    allow: tuple[str, ...] = ()
    task: TaskRef | None = None
    parents: Parents | None = None

    def __init__(self) -> None:
        self.raises = False
        self._known: dict[TaskRef, Function] = {}

    def know(self, ref: TaskRef, function: str | Function) -> None:
        """Call this object where a job names that reference."""
        if not isinstance(function, str):
            self._known[ref] = function

    def load(self, ref: TaskRef) -> Function:
        """The function that a job names.

        Raises:
            BadTask: it cannot be loaded.
        """
        known = self._known.get(ref)
        return loading.load(ref) if known is None else known

    def load_both(self, ref: TaskRef, init: TaskRef) -> tuple[Function, Function]:
        """A function and its initializer."""
        return self.load(ref), self.load(init)

    def lets_through(self, error: BaseException) -> bool:
        """Whether an exception ends the run: Ctrl-C, a debugger's command or, if `raises` is set,
        any but SystemExit, whose code would be taken for the run's."""
        if isinstance(error, KeyboardInterrupt) or type(error).__module__ in DEBUGGERS:
            return True
        return self.raises and isinstance(error, Exception) and not isinstance(error, BadItem)


class InProcess:
    """Runs batches in the thread that calls it.

    Args:
        max_result: bytes of the largest result.

    Attributes:
        name: what its results have as their worker.
        forked: whether this is a fork that a task has made.
    """

    def __init__(self, max_result: int) -> None:
        self.name = f"{socket.gethostname()}:{os.getpid()}"
        self.max_result = max_result
        self.config = OwnFunctions()
        self.loop = ThisThreadsLoop()
        self.forked = False
        self._programs = Programs(self.config, Imports(), self.name, self.loop, _nobody_watches)
        self._cells = SlotCells(memoryview(bytearray(8 * SLOT_CELLS)).cast("Q"))
        self._lock = threading.Lock()  # a batch is reported under it; here one thread does it all
        self._recursion_limit = sys.getrecursionlimit()

    def run(self, run: str, spec: JobSpec, lease: LeaseMessage) -> ReportMessage:
        """Run a batch.

        Args:
            run: the master's name for its run.
            spec: the batch's job.
            lease: the batch.

        Raises:
            BadTask: the function cannot be loaded.
            BaseException: what `OwnFunctions.lets_through` says.
        """
        before = by_value_classes.current_scope()
        try:
            self._programs.specs.setdefault(spec.id, spec)
            program = self._programs.load(spec.id)
            program.enter(_fetch_nothing)
            batch = RunningBatch(self, self._cells, self._lock, 0, program, lease)
            batch.started = time.monotonic()
            for items, bad in chunks(program.decoder, lease):
                self.check_fork()
                with self._lock:
                    batch.open(items)
                batch.run(bad)
            with self._lock:
                return batch.report(run)
        finally:
            by_value_classes.enter_scope(before)

    def close(self) -> None:
        """Drop the functions, and cancel what tasks have left on the event loop."""
        self._programs.clear()
        with contextlib.suppress(BaseException):  # the code is a task's
            self.loop.close()

    def restore_recursion_limit(self) -> None:
        """Undo a lower recursion limit that a task has set: it may be too low to report."""
        if sys.getrecursionlimit() < self._recursion_limit:
            sys.setrecursionlimit(self._recursion_limit)

    def check_fork(self) -> None:
        """End this process if it is a fork that a task has made."""
        if self.forked:
            end_fork(None)


def _nobody_watches(state: int) -> None:
    pass


def _fetch_nothing(job: str, digest: bytes) -> None:
    """There is no executor here, whose calls would name functions."""
