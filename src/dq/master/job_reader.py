"""The reader's side of a job: takes its records, and may read its inputs."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from dq.core.records import Recorded
from dq.dispatch.dispatcher import Dispatcher
from dq.dispatch.served_job import ServedJob
from dq.errors import BadInput, InputChanged, Stopped
from dq.master.lifetime import Lifetime
from dq.master.local_workers import LocalWorkers
from dq.master.progress import Progress, Report

if TYPE_CHECKING:
    from dq.master.in_process import InProcessWorker  # which few runs need


class JobReader:
    """Reads the records of a job. It can also read the job's inputs.

    Args:
        served: the job.
        dispatcher: what serves it.
        workers: asked for an error if no records arrive.
        lifetime: the master's.
        reads_inputs: whether the thread that reads the records also reads the inputs.
        in_process: runs the tasks, in that thread too; None where workers do.

    Attributes:
        on_records: called with records as they arrive.
    """

    def __init__(
        self,
        served: ServedJob,
        *,
        dispatcher: Dispatcher,
        workers: LocalWorkers,
        lifetime: Lifetime,
        reads_inputs: bool = False,
        in_process: InProcessWorker | None = None,
    ) -> None:
        self.served = served
        self.on_records: Callable[[list[Recorded]], None] | None = None
        self._dispatcher = dispatcher
        self._workers = workers
        self._lifetime = lifetime
        self._reads_inputs = reads_inputs
        self._in_process = in_process
        self._input_error: BaseException | None = None
        self._abort_error: Exception | None = None
        self._halted = False
        self._received: deque[Recorded] = deque()  # but not passed on yet
        self._out_of_order: dict[int, Recorded] = {}  # by start; they wait for earlier ones
        self._progress: Progress | None = None

    @property
    def input_error(self) -> BaseException | None:
        """The error that the inputs raised, if any. `records` raises it again."""
        return self._input_error

    def feed(self) -> None:
        """Read the inputs. `records` raises the errors of their iterator."""
        self._reading(self._dispatcher.feeding.feed)

    def _reading(self, read: Callable[[ServedJob], object]) -> None:
        try:
            read(self.served)
        except InputChanged as error:
            self._fail(error)
        except BadInput as error:  # the file is damaged here, but the inputs before that are run
            self._input_error = error
            self._dispatcher.feeding.end_inputs(self.served)
        except BaseException as error:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        self._input_error = error
        self.halt("its inputs failed")

    def records(self, timeout: float = 1.0) -> list[Recorded] | None:
        """Records as they arrive; None at the end, [] if none arrived in `timeout` seconds.

        Raises:
            Stopped: there are too many failures, or the master is closed.
        """
        self._lifetime.check_process()
        if self._in_process is not None:
            timeout = self._work(self._in_process, timeout)
        elif self._reads_inputs and self._dispatcher.feeding.may_read_ahead(self.served):
            self._dispatcher.feeding.read_ahead(self.served)
            timeout = 0.0
        records = self._dispatcher.delivery.read(self.served, timeout)
        if records and self.on_records is not None:
            self.on_records(records)
        if self._abort_error is not None:
            self._received.extend(records or ())
            raise self._abort_error
        if records:
            return records
        if self._input_error is not None and (self._halted or records is None):
            raise self._input_error
        self._workers.check(self.served)
        if records is not None and self._lifetime.closed:
            raise Stopped("stopped before the end: the master is closed")
        if records is None:
            self._check_stopped()
        return records

    def _work(self, worker: InProcessWorker, timeout: float) -> float:
        """Run the next task in this thread or, if there is none, read more inputs. Returns how long
        to wait for records after that."""
        if self._abort_error is not None:
            return 0.0
        with worker.interruptible():
            if worker.run_next():
                return 0.0
            if self._reads_inputs and self._dispatcher.feeding.may_read_ahead(self.served):
                self._reading(self._read_one)
                return 0.0
        return worker.seconds_until_due(timeout)

    def _read_one(self, served: ServedJob) -> None:
        """Read one input, since the next one may be long in coming."""
        self._dispatcher.feeding.read_ahead(served, 1)

    def _check_stopped(self) -> None:
        """Raise an error if the job ended before every task had an outcome."""
        job = self.served.job
        if job.stopped is None:
            return
        # All outcomes may have arrived after the job was told to stop.
        has_more = job.unbatched or job.outstanding or self.served.unwritten or self._input_error
        if job.ended and not has_more:
            return
        most = job.rules.max_failures
        if self._halted or most is None or job.counts.failed < most:
            raise Stopped(f"stopped before the end: {job.stopped}")
        raise Stopped(f"stopped before the end: {job.counts.failed} task(s) failed")

    def consumed(self, records: list[Recorded]) -> None:
        """Note that records have been passed on, so that as many more may arrive."""
        self._dispatcher.delivery.consumed(self.served, records)

    def abort(self, error: Exception) -> None:
        """Raise this error at once in the thread that reads the records. Call it from another
        thread. (A signal handler must not raise it, because it may interrupt the wait of a
        condition, and that corrupts the condition's lock.)"""
        self._abort_error = error
        self._dispatcher.delivery.wake_readers()

    def halt(self, reason: str) -> None:
        """Lease no more tasks; those that are running may finish."""
        self._halted = True
        self._dispatcher.jobs.halt(self.served, reason)

    def close(self) -> None:
        """Forget the job, without waiting for running tasks."""
        self._dispatcher.jobs.close(self.served)

    def abandon(self) -> None:
        """Have the job forgotten soon. The garbage collector may call this in any thread."""
        self._dispatcher.jobs.abandon(self.served)
        if self._progress is not None:
            self._progress.abandon()

    def show_progress(self, wanted: bool | Report, size: int | None) -> None:
        """Show the progress, or report it to a function, until `progress_shown` or `abandon`.

        Args:
            wanted: the function, or whether to show the progress.
            size: how many inputs there are, if that is known.
        """
        if wanted is False:
            return
        job, replay = self.served.job, self.served.replay
        progress = self._progress = Progress(
            lambda: job.next + job.unbatched if job.ended else size,
            report=None if wanted is True else wanted,
            asked=True,
            known=replay.left if replay is not None else 0,
        )
        self.on_records = progress.take
        progress.start()

    @contextlib.contextmanager
    def progress_shown(self) -> Iterator[None]:
        """Stop showing progress at the end of the block. Print a summary unless the block
        raises."""
        try:
            yield
        except GeneratorExit:
            raise
        except BaseException:
            if self._progress is not None:
                self._progress.stop()
            raise
        if self._progress is not None:
            self._progress.finish(self.served.job.counts.dropped)

    def ordered(self) -> Iterator[Recorded]:
        """Records in the inputs' order."""
        waiting, skips = self._out_of_order, self.served.job.skips
        expected = skips.after(0)
        while (records := self.records()) is not None:
            for record in records:
                waiting[record.batch.start] = record
            while expected in waiting:
                record = waiting.pop(expected)
                expected = skips.after(record.batch.stop)
                yield record
                self.consumed([record])

    def unordered(self) -> Iterator[Recorded]:
        """Records as they arrive."""
        while (records := self.records()) is not None:
            self._received.extend(records)
            while self._received:
                yield self._received.popleft()
            self.consumed(records)

    def undelivered(self) -> list[Recorded]:
        """Records that have arrived but were not passed on before a run ended early, in input
        order."""
        unread = self._dispatcher.delivery.unread(self.served)
        if unread and self.on_records is not None:
            self.on_records(unread)
        records = [*self._received, *self._out_of_order.values(), *unread]
        self._received.clear()
        self._out_of_order.clear()
        return sorted(records, key=lambda record: record.batch.start)
