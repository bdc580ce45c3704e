"""A slot of a task process: leases batches, has them run, and reports.

Two threads work on a slot. The slot's own thread runs the tasks. The process's monitor reports on a
batch that takes long: see `dq.worker.partial_reports`. Both report under `Slot.lock`.
"""

from __future__ import annotations

import threading
import time

from dq._support.frozen import TYPE_CHECKING
from dq.errors import BadTask, ConnectError, ProtocolError
from dq.functions.spec import JobSpec
from dq.manager.client import Client
from dq.manager.messages import LeaseMessage, ReportMessage
from dq.worker.batch import RunningBatch, chunks, given_back
from dq.worker.cells import (
    CONNECTED,
    DRAINED,
    FINISHED,
    LOAD_EXTRA_S,
    RECYCLE,
    SlotCells,
)
from dq.worker.connecting import Leave
from dq.worker.imports import Outdated
from dq.worker.outcomes import split
from dq.worker.partial_reports import PartialReports

if TYPE_CHECKING:
    from typing import NoReturn

    from dq.core.blobs import Blob
    from dq.worker.process import Process
    from dq.worker.program import Program

LEASE_WAIT_S = 20.0  # for a batch, before a slot asks again


class Slot:
    """One task at a time, over one connection.

    Args:
        process: the task process.
        view: its cells.
        number: its number at its worker, from 0.
    """

    def __init__(self, process: Process, view: memoryview, number: int) -> None:
        self.process = process
        self.number = number
        self.cells = SlotCells(view)
        self.lock = threading.Lock()  # guards reports: `client`, the batch, and when to report
        self.client: Client | None = None
        self.waiting = False  # whether the client is in a call that may be interrupted
        self.batch: RunningBatch | None = None  # the one of which tasks run
        self.partial_reports = PartialReports(self)
        self._told = ""  # the job that the supervisor knows for what is printed
        self._fetch_error: ConnectError | None = None

    # The slot's own thread

    def run(self) -> NoReturn:
        """Work until there is a reason to leave.

        Raises:
            Leave: its code gives the reason.
        """
        report: ReportMessage | None = None
        while True:
            client = self._connect()
            try:
                while True:
                    report = self._work(client, self._next(client, report))
            except ProtocolError:
                report = None  # drop it: the master will never accept it
                client.close()
            except ConnectError:
                client.close()  # try again: reporting twice does no harm
                self.process.check_descriptors()

    def _connect(self) -> Client:
        process = self.process
        if process.is_patched:  # a fresh process has unpatched sockets
            raise Leave(RECYCLE)
        client = process.connector.connect()
        with self.lock:
            self.client = client
        process.set_state(CONNECTED)
        return client

    def _next(self, client: Client, report: ReportMessage | None) -> LeaseMessage:
        """Report, and wait for the next batch. If the call is interrupted because the process has
        to leave, the slot reports again on a new connection and asks for no more tasks. Reporting
        twice does no harm."""
        process = self.process
        while True:
            most, answer = process.max_tasks(), None
            self.waiting = True  # set before checking `leaving`: `interrupt` reads it afterwards
            try:
                if most and not process.leaving:
                    answer = self.send(client, report, most)
            finally:
                self.waiting = False
            if answer is None:
                self.send(client, report, 0)
                raise Leave(DRAINED if process.leaving else RECYCLE)
            state, lease, spec = answer
            if lease is not None and (spec is not None or client.definitions):
                process.programs.update(lease.job, spec, client)
            if lease is not None and not process.leaving:
                return lease
            if state == "stop":
                raise Leave(FINISHED)
            report = None if lease is None else given_back(client, lease)

    def send(
        self, client: Client, report: ReportMessage | None, most: int
    ) -> tuple[str, LeaseMessage | None, JobSpec | None]:
        """Report, in as many messages as the master's limit requires, and ask for `most` tasks."""
        if report is None:
            return client.exchange(None, most, LEASE_WAIT_S)
        *parts, last = split(report, self.process.max_result)
        for part in parts:
            client.exchange(part, 0, 0.0)
        return client.exchange(last, most, LEASE_WAIT_S)

    def _work(self, client: Client, lease: LeaseMessage) -> ReportMessage:
        # Importing the function or unpickling an input may run any code. Until the first task
        # starts, any task of the batch may be the cause of a crash.
        self.cells.announce(lease.lease, lease.start, lease.count)
        try:
            return self._run(client, lease)
        except Outdated:
            self.process.recycle()
            return self._give_back(client, lease)

    def _run(self, client: Client, lease: LeaseMessage) -> ReportMessage:
        cells, process = self.cells, self.process
        process.programs.fetch(lease.job, client)
        cells.limit_coding(process.programs.specs[lease.job].timeout, LOAD_EXTRA_S)
        if process.config.tags_output and self._told != lease.job:
            from dq.worker import tagging  # here, since only a worker elsewhere needs it

            tagging.tell_job(lease.job)
            self._told = lease.job
        try:
            program = process.programs.load(lease.job)
            program.enter(self._fetch)
        except BadTask as error:
            self._end_lease()
            return ReportMessage(
                client.run,
                lease.lease,
                lease.start,
                refusal=process.programs.refusal(lease.job, error),
            )
        if process.leaving:  # it may have been told to leave while it loaded the function
            return self._give_back(client, lease)
        cells.limit_coding(program.spec.timeout, program.decoding_extra_s)
        batch = RunningBatch(process, cells, self.lock, self.number, program, lease)
        for items, bad in chunks(program.decoder, lease):
            process.check_fork()
            self._report_loaded(client, program)
            if not self._open(batch, items):
                break
            batch.run(bad)
            if not batch.missing:  # do not unpickle tasks that have been handed back
                break
        return self._finish(batch, client.run)

    def _fetch(self, job: str, digest: bytes) -> Blob | None:
        """Fetch a function by value that an input names. If that fails, `_report_loaded` says so,
        because whoever unpickles the input takes any exception for the input's own."""
        assert self.client is not None
        try:
            with self.lock:  # the monitor may report meanwhile
                return self.client.called(job, digest)
        except ConnectError as error:
            self._fetch_error = error
            return None

    def _report_loaded(self, client: Client, program: Program) -> None:
        """Report a file that differs from the master's, once functions have been loaded.

        Raises:
            ConnectError: a function could not be fetched.
        """
        error, self._fetch_error = self._fetch_error, None
        if error is not None:
            raise error
        other, program.other = program.other, None
        if other is not None:
            with self.lock:
                client.differ(other.file, other.digest, program.spec.id)

    def _end_lease(self) -> None:
        self.cells.end_lease()
        self.cells.end_coding()

    def _open(self, batch: RunningBatch, items: list[object]) -> bool:
        """Continue with these inputs of a batch; False if they have been handed back."""
        with self.lock:
            if self.batch is None:
                self.batch = batch
                batch.started = time.monotonic()
            return batch.open(items)

    def _give_back(self, client: Client, lease: LeaseMessage) -> ReportMessage:
        """The report that hands back what has not started of a batch."""
        with self.lock:
            batch = self.batch
            unstarted = 0 if batch is None else batch.take_unstarted()
        if batch is None:
            self._end_lease()
            return given_back(client, lease)
        return self._finish(batch, client.run, unstarted)

    def _finish(self, batch: RunningBatch, run: str, handed_back: int = 0) -> ReportMessage:
        self.process.programs.notice_imports()
        with self.lock:
            batch.hand_back(handed_back)
            self.process.count_tasks(batch.measure())
            report = batch.report(run, handed_back)
            self.process.check_fork()
            self.batch = None
            self.cells.end_coding()
        # Announce the tasks of this report: if the process exceeds its memory limit now, these
        # results are the cause.
        self.cells.announce(report.lease, report.first, sum(one.count for one in report.outcomes))
        self.cells.end_lease()
        return report

    # At the process's end

    def forget(self) -> None:
        """Drop all references to the tasks' objects."""
        self.batch = None

    # In a fork that a task has made

    def after_fork(self) -> None:
        """Start no other task, and write nothing that the supervisor sees, in a process that a task
        has forked."""
        if self.batch is not None:
            self.batch.abandon()
        self.cells.after_fork()

    # The listener's thread

    def interrupt(self) -> None:
        """Interrupt a slot that only waits for a batch. A slot that still reports is not
        interrupted, because its tasks would be run again."""
        client = self.client
        if self.waiting and client is not None and client.sent:
            client.channel.shutdown()
