"""Runs a master's tasks in its own process: in the thread that reads their records, one after the
other. There is no server, and no worker process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from dq._support.naming import setting, uses_options
from dq.core.leases import Lease, LeaseHolder, Report
from dq.core.records import Done, Outcome
from dq.data.buffers import copy_of
from dq.dispatch.dispatcher import Dispatcher
from dq.errors import UsageError
from dq.functions.reference import Function, TaskRef
from dq.functions.task_options import TaskOptions
from dq.manager.messages import LeaseMessage, ReportMessage
from dq.worker.in_process import InProcess
from dq.worker.process_options import ProcessOptions


@dataclass(slots=True, eq=False)
class Here:
    """This process, as the dispatcher knows it."""

    holder: LeaseHolder
    has_default: bool = False
    joined: bool = False


class InProcessWorker:
    """Leases one task at a time, runs it in the calling thread, and reports it.

    Args:
        dispatcher: has the tasks.

    """

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._is_interruptible = False
        self._is_interrupted = False
        self._dispatcher = dispatcher
        self._process = InProcess(dispatcher.max_message)
        self._here = Here(LeaseHolder(0, name=self._process.name))

    def know(self, ref: TaskRef, function: str | Function) -> None:
        """Call this object itself where a job names that reference."""
        self._process.config.know(ref, function)

    def raise_errors(self) -> None:
        """Let the first exception of a task through, with its traceback, for a debugger."""
        self._process.config.raises = True

    def interrupt(self) -> None:
        """Interrupt a task, or the reading of inputs, by an exception: at once, or as soon as one
        begins. A signal's handler calls this. The dispatcher's own code must not be interrupted.

        Raises:
            KeyboardInterrupt: always, within `interruptible`.
        """
        self._is_interrupted = True
        if self._is_interruptible:
            raise KeyboardInterrupt

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Code that `interrupt` may interrupt."""
        self._is_interruptible = True
        try:
            if self._is_interrupted:  # just before
                raise KeyboardInterrupt
            yield
        finally:
            self._is_interruptible = False

    def run_next(self) -> bool:
        """Run the next task, and report it. Returns False if there is nothing to run now.

        Raises:
            BadTask: the function cannot be loaded.
            KeyboardInterrupt: it was interrupted.
        """
        q = self._dispatcher
        lease = q.requests.lease_now(self._here, 1)
        if lease is None:
            return False
        served = q.served_jobs.get(lease.batch.job)
        if served is None:
            return True  # the job has been closed meanwhile, and its lease with it
        report = _report_of(self._process.run(q.run, served.spec, _message_of(lease)))
        with q.lock:
            q.delivery.deliver(q.board.report(self._here.holder, report, q.clock()))
        q.delivery.run_sinks()
        return True

    def seconds_until_due(self, longest: float) -> float:
        """How long to wait at most for a task that is to be tried again later."""
        with self._dispatcher.lock:
            due = self._dispatcher.board.due()
        return longest if due is None else min(max(due - self._dispatcher.clock(), 0.0), longest)

    def close(self) -> None:
        """Drop the functions."""
        self._process.close()

    def after_fork(self) -> None:
        """Let a fork that a task has made end where the task's code ends."""
        self._process.forked = True


def _message_of(lease: Lease) -> LeaseMessage:
    """A lease whose task may change its input: another attempt must get the input as it was."""
    message = LeaseMessage.of(lease)
    return replace(message, blob=copy_of(message.blob))


def _report_of(report: ReportMessage) -> Report:
    """A report with results that later tasks cannot change."""
    return Report(
        lease=report.lease,
        first=report.first,
        outcomes=tuple(map(_kept, report.outcomes)),
        busy=report.busy,
    )


def _kept(outcome: Outcome) -> Outcome:
    return replace(outcome, blob=copy_of(outcome.blob)) if isinstance(outcome, Done) else outcome


def check_in_process(tasks: TaskOptions, processes: ProcessOptions) -> None:
    """Refuse options that only task processes can follow.

    Raises:
        UsageError: one of them was given.
    """
    given = {
        "timeout": tasks.timeout is not None,
        "needs": bool(tasks.needs),
        "speculate": tasks.speculate,
        "tags": bool(processes.tags),
        "max_memory": processes.max_memory is not None,
        "max_tasks": processes.max_tasks is not None,
        "threads": processes.threads != 1,
        "preload": bool(processes.preload),
    }
    for name, is_given in given.items():
        if is_given:
            refuse_in_process(setting(name))


def refuse_in_process(name: str) -> None:
    """Refuse an option, by its name.

    Raises:
        UsageError: always.
    """
    here = setting("here") if uses_options() else setting("workers", 0)
    raise UsageError(
        f"{name} goes with worker processes, and {here} runs the tasks in this one: leave one of"
        " them out"
    )
