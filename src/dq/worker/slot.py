"""A slot of a task process: leases batches, has them run, and reports.

Two threads work on a slot. The slot's own thread runs the tasks. The process's monitor checks every
slot ten times a second. If a batch takes long, the monitor reports the outcomes so far. If a single
task takes long, it hands back the tasks that have not started. Both report under `Slot.lock`.
"""

from __future__ import annotations

import threading
import time

from dq._support.frozen import TYPE_CHECKING
from dq.errors import BadTask, ConnectError, DqError, ProtocolError
from dq.functions.spec import JobSpec
from dq.manager.client import Client
from dq.manager.messages import LeaseMessage, ReportMessage
from dq.worker.batch import RunningBatch, chunks, given_back
from dq.worker.cells import (
    CONNECTED,
    DRAINED,
    FINISHED,
    INDEX,
    LEASE,
    LOAD_EXTRA_S,
    RECYCLE,
    SlotCells,
)
from dq.worker.connecting import Leave
from dq.worker.outcomes import split

if TYPE_CHECKING:
    from typing import NoReturn

    from dq.core.blobs import Blob
    from dq.worker.process import Process
    from dq.worker.program import Program

STUCK_CHECKS = 2  # in a row that see the same task, before the tasks behind it are handed back
PARTIAL_REPORT_S = 0.25  # of work, before outcomes are reported while the batch goes on,
PARTIAL_REPORT_FACTOR = 3  # or so many times the time for such a report, on a slow connection
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
        self._batch: RunningBatch | None = None
        self._told = ""  # the job that the supervisor knows for what is printed
        self._fetch_error: ConnectError | None = None
        self._report_after = PARTIAL_REPORT_S
        self._last_seen, self._same_checks = (0, 0), 0

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
                    answer = self._send(client, report, most)
            finally:
                self.waiting = False
            if answer is None:
                self._send(client, report, 0)
                raise Leave(DRAINED if process.leaving else RECYCLE)
            state, lease, spec = answer
            if lease is not None and (spec is not None or client.definitions):
                process.programs.update(lease.job, spec, client)
            if lease is not None and not process.leaving:
                return lease
            if state == "stop":
                raise Leave(FINISHED)
            report = None if lease is None else given_back(client, lease)

    def _send(
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
        cells, process = self.cells, self.process
        cells.announce(lease.lease, lease.start, lease.count)
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
            self._end_lease()
            return given_back(client, lease)
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
            if self._batch is None:
                self._batch = batch
                batch.started = time.monotonic()
            return batch.open(items)

    def _finish(self, batch: RunningBatch, run: str) -> ReportMessage:
        count = batch.measure()
        with self.lock:
            self.process.count_tasks(count)
            report = batch.report(run)
            self.process.check_fork()
            self._batch = None
            self.cells.end_coding()
        # Announce the tasks of this report: if the process exceeds its memory limit now, these
        # results are the cause.
        self.cells.announce(report.lease, report.first, sum(one.count for one in report.outcomes))
        self.cells.end_lease()
        return report

    # The monitor's thread

    def check(self) -> None:
        """Hand back the tasks behind one that takes long. If the whole batch takes long, report the
        outcomes so far."""
        batch = self._batch
        if batch is None:
            return
        view = self.cells.view
        seen = (view[LEASE], view[INDEX])
        self._same_checks = self._same_checks + 1 if seen == self._last_seen else 0
        self._last_seen = seen
        if self._same_checks == STUCK_CHECKS:
            self.hand_back()
        elif time.monotonic() - batch.started > self._report_after:
            self._report_so_far(keep=True)

    def hand_back(self) -> None:
        """Report the outcomes so far, and hand back the tasks that have not started."""
        self._report_so_far(keep=False)

    def _report_so_far(self, keep: bool) -> None:
        """Report the outcomes so far; `keep` the tasks that have not started, or hand them back."""
        if not self.lock.acquire(blocking=False):
            return  # the slot is just reporting
        try:
            client, batch = self.client, self._batch
            if client is not None and batch is not None:
                self._report_part(client, batch, keep)
        except (ConnectError, DqError):
            pass  # the slot will fail in the same way, and report everything again
        finally:
            self.lock.release()

    def _report_part(self, client: Client, batch: RunningBatch, keep: bool) -> None:
        unstarted = 0 if keep else batch.take_unstarted()
        report = batch.report(client.run, unstarted)
        if not report.outcomes and not unstarted:
            return
        if report.outcomes:
            batch.started += report.busy
        if unstarted:
            batch.hand_back(unstarted)
        sent = time.monotonic()
        self._send(client, report, 0)
        took = time.monotonic() - sent
        self._report_after = max(PARTIAL_REPORT_S, PARTIAL_REPORT_FACTOR * took)
        batch.reported()

    # At the process's end

    def forget(self) -> None:
        """Drop all references to the tasks' objects."""
        self._batch = None

    # In a fork that a task has made

    def after_fork(self) -> None:
        """Start no other task, and write nothing that the supervisor sees, in a process that a task
        has forked."""
        if self._batch is not None:
            self._batch.abandon()
        self.cells.after_fork()

    # The listener's thread

    def interrupt(self) -> None:
        """Interrupt a slot that only waits for a batch. A slot that still reports is not
        interrupted, because its tasks would be run again."""
        client = self.client
        if self.waiting and client is not None and client.sent:
            client.channel.shutdown()
