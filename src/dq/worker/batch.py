"""A batch while its tasks run.

The slot's own thread runs them. A shared list iterator holds the tasks that have not started. Any
thread can take them all with `list(iterator)`, which the interpreter runs in one uninterrupted
step.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Iterator
from itertools import islice
from operator import length_hint

from dq._support.frozen import TYPE_CHECKING
from dq.core.records import Failure, Outcome
from dq.data.decoding import Decoder
from dq.data.pickling import SCALARS
from dq.data.pieces import BadValue
from dq.manager.client import Client
from dq.manager.messages import LeaseMessage, ReportMessage
from dq.worker import current
from dq.worker.cells import INDEX, SPAN, SlotCells
from dq.worker.failure import describe, failed
from dq.worker.forked import end_fork
from dq.worker.outcomes import Encoder

if TYPE_CHECKING:
    from typing import Protocol

    from dq.worker.event_loop import Awaiter
    from dq.worker.program import FunctionSource, Program

    class BatchProcess(Protocol):
        """The process that a batch runs in, as the batch sees it."""

        name: str
        forked: bool

        @property
        def config(self) -> FunctionSource: ...
        @property
        def loop(self) -> Awaiter: ...
        @property
        def max_result(self) -> int: ...
        def restore_recursion_limit(self) -> None: ...
        def check_fork(self) -> None: ...


BRIEF_S = 1e-6  # of shorter tasks, only every SPAN_OF_BRIEF-th is announced
SPAN_OF_BRIEF = 64


class RunningBatch:
    """A batch in its slot: the inputs that are left, and the outcomes so far.

    Args:
        process: the slot's.
        cells: the slot's.
        lock: the slot's, which guards everything that will be reported.
        slot: the slot's number at its worker.
        program: what to call.
        lease: the batch.
    """

    def __init__(
        self,
        process: BatchProcess,
        cells: SlotCells,
        lock: threading.Lock,
        slot: int,
        program: Program,
        lease: LeaseMessage,
    ) -> None:
        self.cells = cells
        self.seconds = 0.0  # of the last task that failed, if the job measures times
        self.started = 0.0
        self.handed_back = 0
        self.missing = lease.count  # inputs that are not in memory yet
        self._process = process
        self._lock = lock
        self._slot = slot
        self._program = program
        self._lease = lease
        self._encoder = Encoder(
            form=program.spec.output,
            attempt=lease.attempt,
            worker=process.name,
            limit=process.max_result,
            finish=process.loop.run,
            lets_through=process.config.lets_through,
            copies=program.isolates and lease.count > 1,
        )
        self._unstarted: Iterator[object] = iter(())
        self._items: list[object] = []  # the inputs of the batch that are in memory now
        self._base = lease.start  # index of the first of them
        self._stop = lease.start  # index after the last of them that is not handed back
        self._taking = False  # whether the unstarted ones are just being taken away
        self._results: list[object] = []
        self._outcomes: list[Outcome] = []
        self._first = lease.start  # index of the first task that is not reported
        self._done = lease.start  # index of the first task that is not among the outcomes

    # The slot's own thread

    def open(self, items: list[object]) -> bool:
        """Continue with these inputs; False if they have been handed back. Under the lock."""
        self.cells.end_coding()
        if not self.missing:
            return False
        self._items, self._unstarted = items, iter(items)
        self._results = []
        self._base = self._done
        self._stop = self._base + len(items)
        self.missing -= len(items)
        return True

    def run(self, bad: bool) -> None:
        """Call with each of these inputs, some of which may be `bad`."""
        program = self._program
        call = program.caller(self, bad)
        brief = program.brief and len(self._items) > SPAN_OF_BRIEF
        run = self._run_brief if brief else self._run_each
        if program.isolates and self._lease.count > 1:
            run = self._run_isolated
        self.cells.announce(self._lease.lease, self._base, 1)
        outer = current.here.batch  # of a task that runs this one in its own thread
        while True:
            try:
                current.here.batch = self
                run(call, self._base + len(self._items))
                current.here.batch = outer
                break
            except BaseException as error:  # SystemExit and KeyboardInterrupt are the task's
                current.here.batch = outer
                if self._process.forked:
                    end_fork(error)
                if self._process.config.lets_through(error):
                    raise
                self._process.restore_recursion_limit()
                self._fail(error)
        self._process.check_fork()
        self._process.restore_recursion_limit()
        with self._lock:
            if self.missing:
                self._encode()
                self._process.check_fork()
                # Unpickling the next inputs may run any code.
                self.cells.announce(self._lease.lease, self._done, self.missing)
                self.cells.limit_coding(program.spec.timeout)

    def _run_each(self, call: Callable[[object], object], stop: int) -> None:
        """Call with each input, and announce it to the supervisor, which takes 25 ns."""
        view, left, append = self.cells.view, self._unstarted, self._results.append
        for view[INDEX], item in enumerate(left, stop - length_hint(left)):
            append(call(item))

    def _run_brief(self, call: Callable[[object], object], stop: int) -> None:
        """The same for very short tasks, announced many at a time: 25 ns would be a third of
        each."""
        view, left, extend = self.cells.view, self._unstarted, self._results.extend
        view[SPAN] = SPAN_OF_BRIEF
        while remaining := length_hint(left):
            view[INDEX] = stop - remaining
            extend(map(call, islice(left, SPAN_OF_BRIEF)))

    def _run_isolated(self, call: Callable[[object], object], stop: int) -> None:
        """The same, and encode each result that the next task may change at once."""
        view, left = self.cells.view, self._unstarted
        for view[INDEX], item in enumerate(left, stop - length_hint(left)):
            result = call(item)
            self._results.append(result)
            if type(result) not in SCALARS:
                self._process.check_fork()
                with self._lock:
                    self._encode()

    def _fail(self, error: BaseException) -> None:
        with self._lock:
            timeout = self._program.spec.timeout
            if timeout is not None:  # an exception's `__str__` and its pickling are the task's too
                self.cells.limit_task(timeout)
            outcome = failed(error, self._program.spec.output, self.seconds)
            self.cells.end_task()
            # Its frames may hold so much memory that none is left to encode the results.
            traceback.clear_frames(error.__traceback__)
            self._encode()
            self._outcomes.append(outcome)
            self._done += 1

    def current_index(self) -> int:
        """Index of the task that runs. In a batch of very short tasks, the cell with the index is
        not exact."""
        while True:
            stop, left = self._stop, length_hint(self._unstarted)
            if not self._taking and stop == self._stop:
                return stop - left - 1

    def describe(self, index: int) -> current.CurrentTask:
        """What the task with this index can know about itself."""
        return current.CurrentTask(
            id=index,
            attempt=self._lease.attempt,
            job=self._lease.job,
            worker=self._process.name,
            slot=self._slot,
        )

    def measure(self) -> int:
        """Return how many tasks were run, and note whether they are very short."""
        count = self._lease.count - self.handed_back
        if count >= SPAN_OF_BRIEF:
            each = (time.monotonic() - self.started) / count
            program = self._program
            program.brief = each < BRIEF_S and not program.timed and program.spec.timeout is None
        return count

    # Under the lock

    def report(self, run: str, handed_back: int = 0) -> ReportMessage:
        """What has been done since the last report."""
        self._encode()
        busy = time.monotonic() - self.started
        lease, outcomes = self._lease.lease, tuple(self._outcomes)
        return ReportMessage(run, lease, self._first, outcomes, handed_back, busy)

    def take_unstarted(self) -> int:
        """Start no other task, and return how many are left. No other thread runs meanwhile."""
        self._taking = True
        count = len(list(self._unstarted))
        self._stop -= count
        self._taking = False
        return count + self.missing

    def hand_back(self, count: int) -> None:
        """Note that so many tasks no longer belong to this batch."""
        self.missing = 0
        self.handed_back += count

    def reported(self) -> None:
        """Note that the master has all outcomes so far."""
        self._first = self._done
        self._outcomes = []

    def _encode(self) -> None:
        """Turn the results so far into outcomes."""
        count = len(self._results)
        if not count:
            return
        start = self._done
        self._done += count
        if count == len(self._items):  # complete: no copy, which costs a tenth of a short task
            items, results, self._results = self._items, self._results, []
        else:
            place = start - self._base
            items = self._items[place : place + count]
            results = self._results[:count]
            del self._results[:count]
        self.cells.limit_coding(self._program.spec.timeout)
        self.cells.begin_encoding(start, count)
        self._outcomes += self._encoder.encode(start, items, results)
        self.cells.end_coding()

    # In a fork that a task has made

    def abandon(self) -> None:
        """Start no other task in a process that a task has forked."""
        list(self._unstarted)
        self.missing = 0


def chunks(decoder: Decoder, lease: LeaseMessage) -> Iterator[tuple[list[object], bool]]:
    """The inputs of a batch, some at a time, and whether one of them could not be read."""
    missing = lease.count
    failure = Failure("UnpicklingError", "this input is missing")
    try:
        for items, bad in decoder.chunks(lease.blob, lease.skip, lease.count):
            missing -= len(items)
            yield items, bad
    except Exception as error:  # but not `Outdated`
        failure = describe(error)
    if missing:
        yield [BadValue(failure)] * missing, True


def given_back(client: Client, lease: LeaseMessage) -> ReportMessage:
    """The report on a batch of which no task was started."""
    return ReportMessage(client.run, lease.lease, lease.start, handed_back=lease.count)
