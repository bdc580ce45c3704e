"""A slot of a task process: leases batches, has them run, and reports.

Who touches what: the slot's own thread runs the tasks; the process's monitor checks every slot
ten times a second: where a batch takes long it reports what is done, and where a single task does,
it hands back what is not started. Both report under `Slot.lock`.
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

    from dq.worker.process import Process

STUCK_CHECKS = 2  # that find the same task again, after which those behind it are handed back
PARTIAL_REPORT_S = 0.25  # of work, after which what is done is reported while the batch goes on,
PARTIAL_REPORT_FACTOR = 3  # or so many times what such a report takes, on a slow connection
LEASE_WAIT_S = 20.0  # that a slot waits for a batch before it asks again


class Slot:
    """One task at a time, over one connection."""

    def __init__(self, process: Process, view: memoryview) -> None:
        self.process = process
        self.cells = SlotCells(view)
        self.lock = threading.Lock()  # guards reports: `client`, the batch, and when to report
        self.client: Client | None = None
        self.waiting = False  # whether the client is in a call that can be cut off
        self._batch: RunningBatch | None = None
        self._report_after = PARTIAL_REPORT_S
        self._last_seen = (0, 0)
        self._same_checks = 0

    # The slot's own thread

    def run(self) -> NoReturn:
        """Work until there is a reason to leave.

        Raises:
            Leave: its code says which.
        """
        report: ReportMessage | None = None
        while True:
            client = self._connect()
            try:
                while True:
                    report = self._work(client, self._next(client, report))
            except ProtocolError:
                report = None  # drop: the master will not have it, now or later
                client.close()
            except ConnectError:
                client.close()  # retry: reporting twice does no harm
                self.process.check_descriptors()

    def _connect(self) -> Client:
        process = self.process
        if process.is_patched:  # a fresh one, with sockets as they should be, does better
            raise Leave(RECYCLE)
        client = process.connector.connect()
        with self.lock:
            self.client = client
        process.set_state(CONNECTED)
        return client

    def _next(self, client: Client, report: ReportMessage | None) -> LeaseMessage:
        """Report, and wait for the next batch. A call that is cut off, to drain, is made again on
        another connection, by a slot that then wants nothing more: reporting twice does no harm."""
        process = self.process
        while True:
            most, answer = process.max_tasks(), None
            self.waiting = True  # before it looks: who tells it to leave looks at this afterwards
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
        """Report, in as many messages as the master's limit takes, and ask for `most` tasks."""
        if report is None:
            return client.exchange(None, most, LEASE_WAIT_S)
        *parts, last = split(report, self.process.connector.max_result)
        for part in parts:
            client.exchange(part, 0, 0.0)
        return client.exchange(last, most, LEASE_WAIT_S)

    def _work(self, client: Client, lease: LeaseMessage) -> ReportMessage:
        # To import the function or to unpickle an input may run anything: until it is known which
        # task is run, it may be any.
        cells, process = self.cells, self.process
        cells.announce(lease.lease, lease.start, lease.count)
        cells.limit_coding(process.programs.specs[lease.job].timeout, LOAD_EXTRA_S)
        try:
            program = process.programs.load(lease.job)
            program.enter()
        except BadTask as error:
            self._end_lease()
            return ReportMessage(
                client.run,
                lease.lease,
                lease.start,
                refusal=process.programs.refusal(lease.job, error),
            )
        if program.other is not None:
            client.differ(program.other.file, program.other.digest)
            program.other = None
        if process.leaving:  # to load it has taken its time
            self._end_lease()
            return given_back(client, lease)
        cells.limit_coding(program.spec.timeout)
        batch = RunningBatch(process, cells, self.lock, program, lease)
        for items, bad in chunks(program.decoder, lease):
            process.check_fork()
            if not self._open(batch, items):
                break
            batch.run(bad)
            if not batch.missing:  # else what has been handed back would be unpickled for nothing
                break
        return self._finish(batch, client.run)

    def _end_lease(self) -> None:
        self.cells.end_lease()
        self.cells.end_coding()

    def _open(self, batch: RunningBatch, items: list[object]) -> bool:
        """Go on to these inputs of a batch; False where they have been handed back."""
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
        # What is on its way now: whose results they are that take a process beyond its memory.
        self.cells.announce(report.lease, report.first, sum(one.count for one in report.outcomes))
        self.cells.end_lease()
        return report

    # The monitor's thread

    def check(self) -> None:
        """Hand back what waits behind a task that takes long; report what is done, where all of
        them together do."""
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
        """Report what is done, and hand back what is not started."""
        self._report_so_far(keep=False)

    def _report_so_far(self, keep: bool) -> None:
        """Report what is done; `keep` what is not started, or hand it back."""
        if not self.lock.acquire(blocking=False):
            return  # it is reporting by itself
        try:
            client, batch = self.client, self._batch
            if client is not None and batch is not None:
                self._report_part(client, batch, keep)
        except (ConnectError, DqError):
            pass  # the slot will see that when it reports, and report all of it again
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
        """Keep nothing of a task's."""
        self._batch = None

    # A task's

    def after_fork(self) -> None:
        """In a process that a task has forked: neither go on with the batch, nor touch what the
        supervisor sees."""
        if self._batch is not None:
            self._batch.abandon()
        self.cells.after_fork()

    # The listener's thread

    def interrupt(self) -> None:
        """Let a slot that only waits for a batch wait no longer; one that still reports is not cut
        off, its tasks would be run again."""
        client = self.client
        if self.waiting and client is not None and client.sent:
            client.channel.shutdown()
