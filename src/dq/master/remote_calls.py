"""The calls of an executor, run by the workers of a master elsewhere.

One thread sends calls and another takes outcomes, each on a connection of its own. A connection
that is lost is opened again. If another master answers then, all calls without an outcome go to
that one. So a call may be made twice, and has one outcome.
"""

from __future__ import annotations

import os
import pickle
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import cast

from dq.core.records import Batch, Failed, Failure, Recorded
from dq.data import batches
from dq.data.decoding import Decoder
from dq.data.encoding import encode
from dq.dispatch.served_job import UNOPENED
from dq.dispatch.worker_requests import SEND_AT_ONCE_BYTES
from dq.errors import BadTask, DqError, MasterLost, ProtocolError
from dq.functions.called import ByValue
from dq.functions.definitions import CurrentDefinitions, Definition
from dq.functions.job_specs import JobSpecs
from dq.functions.task_options import TaskOptions
from dq.master.call_queue import CallQueue
from dq.master.call_runner import RunnerOwner
from dq.security.safe_pickle import safe_loads
from dq.service.call_wire import (
    Answer,
    Begun,
    CallsState,
    Event,
    FunctionWire,
    from_wire,
)
from dq.service.connection import JobsConnection
from dq.service.options import JobOptions
from dq.service.specs import CALL_OUTPUT, PICKLED, function_to_client, to_client
from dq.service.submission import ENVELOPE_BYTES, check_size
from dq.transport.addresses import show

WAIT_S = 1.0  # for one answer with outcomes; then the state of the calls is checked
CHECK_INTERVAL_S = 0.05  # between two such checks, while outcomes come
ANSWER_INTERVAL_S = 0.02  # after which an answer is taken that the next call has not taken
FULL_INTERVAL_S = 0.02  # between two attempts to send more to a master that has no room
MESSAGE_BYTES = 1 << 20  # of the calls that are sent together
NO_WORKER_NOTICE_S = 5.0  # with calls and without a worker, after which there is a notice
CLOSE_TIMEOUT_S = 5.0  # to tell the master of the end

# What `push` takes: a pickled call and the digest of the function that it needs, or why there is no
# such pickle.
Item = tuple[bytes, bytes] | Failure
# Of `push_calls`: id, number of the first call, calls, functions, known definitions, definitions.
_PushArgs = tuple[str, int, list[bytes], dict[bytes, FunctionWire], int, list[Definition]]


class RemoteCalls:
    """Runs calls on a master elsewhere; a `CallRunner`.

    Args:
        connection: to the master.
        tasks: options of the calls.
        report: called with each line that people should see.

    Raises:
        BadTask: the initializer cannot be sent to workers.
    """

    def __init__(
        self, connection: JobsConnection, tasks: TaskOptions, report: Callable[[str], None]
    ) -> None:
        self._pushing = connection
        self._taking = connection.another(pickle.loads)  # as what calls return
        self._report = report
        specs = JobSpecs(tasks, has_workers=False, report=report)
        spec = replace(specs.spec(None, output=CALL_OUTPUT, reading=PICKLED), unpack="call")
        self._spec = to_client(spec)
        self._options = JobOptions(tasks=tasks).to_wire()
        self._limit = connection.max_message - ENVELOPE_BYTES
        check_size(spec, self._spec[1], self._limit)
        self._definitions = CurrentDefinitions()
        self._defining = threading.Lock()  # held while classes are added to `_definitions`
        self._failed: deque[tuple[int, Failure]] = deque()  # not to be sent; needs no lock
        # Its lock guards the queue, the digests, the id and the flags. It is notified when one of
        # them changes in a way that a thread may wait for.
        self._changed = threading.Condition()
        self._queue = CallQueue()
        self._digests: dict[int, bytes] = {}  # of the functions that calls need, by their indices
        self._id = _new_id()
        self._is_open = False  # whether the master knows the id
        self._is_closing = False
        self._is_idle = False  # whether the thread that sends waits for work
        self._posted: _PushArgs | None = None  # sent by another thread, and not yet answered
        self._looks_soon = False  # whether the thread that sends will look for that answer soon
        # These two belong to the thread that sends; while it is idle, to who has the lock.
        self._sent_functions: set[bytes] = set()
        self._sent_definitions = 0
        self._cursor = 0  # only the taking thread uses what follows
        self._state = CallsState(stopped="", is_over=False, refusal="", slots=1)
        self._check_at = 0.0
        self._idle_since: float | None = None  # since when there is no worker for the calls
        self._has_warned = False

    def open(self, calls: RunnerOwner) -> None:
        self._calls = calls
        self._open()
        self._threads = [
            threading.Thread(target=self._run, args=(run,), name=name, daemon=True)
            for name, run in (("dq-push", self._push_all), ("dq-take", self._take_all))
        ]
        for thread in self._threads:
            thread.start()

    # Called by those who make calls

    def encode(self, call: tuple[object, ...]) -> Item:
        function = call[0]
        digest = function.digest if isinstance(function, ByValue) else b""
        if digest and len(self._calls.functions.table[digest]) > self._limit:
            text = f"{function} is larger than the master's limit of {self._limit} bytes"
            return Failure("BadTask", text)
        [(_, blob)] = encode([call], self._limit, self._define, batches.NOTHING)
        return blob if isinstance(blob, Failure) else (batches.joined(blob), digest)

    def _define(self, found: dict[str, type]) -> None:
        with self._defining:
            self._definitions.add(found)

    def push(self, index: int, item: object) -> None:
        given = cast("Item", item)
        if isinstance(given, Failure):
            self._failed.append((index, given))
            return
        with self._changed:
            self._queue.add(index, given[0])
            self._digests[index] = given[1]

    def hand_out(self) -> None:
        with self._changed:
            if not self._post():
                self._changed.notify_all()
        while self._failed:
            try:
                index, failure = self._failed.popleft()
            except IndexError:
                return  # another thread was faster
            batch = Batch(job="", start=index, count=1, blob=b"")
            failed = Failed(failure, retry=False)
            record = Recorded(batch=batch, outcome=failed, attempts=1, worker="")
            self._calls.resolve(record, [index], _Inputs([None]))

    def _post(self) -> bool:
        """Send what there is from this thread, if the other one is idle: waking it first would take
        a quarter of the time of a single call. Called with the lock held, and so only if sending
        cannot block, and nothing else has to be sent before. Returns False if the other thread has
        something to do."""
        if not self._is_idle or self._has_work_beside_calls():
            return False
        if not self._finish_if_ready():
            return False
        first, chosen = self._queue.send(SEND_AT_ONCE_BYTES)
        if not chosen:
            return True  # another thread has sent it
        items = [self._queue.calls[index] for index in chosen]
        args: _PushArgs = (self._id, first, items, {}, self._sent_definitions, [])
        is_sent = False
        try:
            if sum(map(len, items)) <= SEND_AT_ONCE_BYTES and not self._needs_more(chosen):
                is_sent = self._pushing.post("push_calls", *args)
        finally:
            if is_sent:
                self._posted = args
            else:
                self._queue.accepted(first)  # none
        return is_sent and self._looks_soon

    def _finish_if_ready(self) -> bool:
        """Take the answer to what was sent before, if that can be done at once."""
        if self._posted is None:
            return True
        id, first, items, *_ = self._posted
        found = self._pushing.finish_if_ready()
        if found is None:
            return False
        self._posted = None
        [answer] = found
        return not self._note_accepted(id, first + len(items), answer) and self._is_open

    def _needs_more(self, chosen: Sequence[int]) -> bool:
        """Whether calls need functions or classes that the master does not have."""
        if self._sent_definitions < len(self._definitions):
            return True
        return bool({self._digests[index] for index in chosen} - self._sent_functions - {b""})

    def cancel(self, index: int) -> None:
        with self._changed:
            self._queue.cancel(index)
            self._digests.pop(index, None)
            self._changed.notify_all()

    def consumed(self, record: Recorded) -> None:
        """The next cursor acknowledges it."""

    def check(self) -> None:
        if self._state.refusal:
            raise BadTask(self._state.refusal)

    def stopped(self) -> tuple[str, bool]:
        return self._state.stopped, self._state.is_over

    def close(self) -> None:
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
        pushing, taking = self._threads
        pushing.join(CLOSE_TIMEOUT_S)
        self._taking.close()
        if taking is not threading.current_thread():
            taking.join(CLOSE_TIMEOUT_S)

    def after_fork(self) -> None:
        """Close a fork's copies of the sockets."""
        self._taking.after_fork()

    # The threads

    def _run(self, run: Callable[[], None]) -> None:
        try:
            run()
        except BaseException as error:  # any error: nobody would complete the futures
            with self._changed:
                is_closing, self._is_closing = self._is_closing, True
                self._changed.notify_all()
            if not is_closing:
                self._calls.fail(self._loss(error))

    def _loss(self, error: BaseException) -> BaseException:
        if isinstance(error, DqError):
            return MasterLost(f"the master at {self._place} is lost: {error}")
        return error

    @property
    def _place(self) -> str:
        return show(self._pushing.address)

    def _begin_anew(self, id: str) -> None:
        """Note that the master does not know an id, since it is another one."""
        with self._changed:
            if self._id != id or self._is_closing:
                return
            self._id, self._is_open = _new_id(), False
            self._queue.begin_anew()
            count = len(self._queue.calls)
            self._changed.notify_all()
        if count:
            self._report(
                f"the master at {self._place} does not know its calls any more: {count} of them are"
                " made again"
            )

    # The thread that sends

    def _push_all(self) -> None:
        while self._await_work():
            is_full = self._finish_posted()
            if not self._is_open:
                self._open()
            self._drop_functions()
            is_full = self._push() or is_full
            self._send_cancelled()
            if is_full:
                with self._changed:
                    self._changed.wait(FULL_INTERVAL_S)
        self._finish_posted()
        if self._is_open:
            self._send_cancelled()
            self._pushing.call_once("close_calls", self._id)

    def _await_work(self) -> bool:
        """Wait until there is something to do; False at the end."""
        with self._changed:
            self._is_idle = True
            while not self._has_work():
                posted = self._posted
                self._looks_soon = posted is not None
                self._changed.wait(ANSWER_INTERVAL_S if posted is not None else None)
                if posted is not None and self._posted is posted:
                    break  # no other call has followed
            self._is_idle = self._looks_soon = False
            return not self._is_closing

    def _has_work(self) -> bool:
        return self._queue.has_unsent or self._has_work_beside_calls()

    def _has_work_beside_calls(self) -> bool:
        if self._is_closing or not self._is_open or self._queue.cancelled:
            return True
        # Functions that the master keeps and no call needs any more. (There may be some in any
        # case: this is a quick look, and whenever nothing is to do, all are dropped.)
        return len(self._sent_functions) > len(self._calls.functions.table)

    def _open(self) -> None:
        id = self._id
        self._sent_functions.clear()
        self._sent_definitions = 0
        self._pushing.call("open_calls", id, *self._spec, self._options)
        with self._changed:
            if self._id == id:
                self._is_open = True
                self._changed.notify_all()

    def _push(self) -> bool:
        """Send calls. Returns whether the master has no room for all of them."""
        with self._changed:
            id = self._id
            first, chosen = self._queue.send(MESSAGE_BYTES)
            if not chosen:
                return False
            items = [self._queue.calls[index] for index in chosen]
            needed = {self._digests[index] for index in chosen} - self._sent_functions - {b""}
        if not self._send_needed(id, first, needed):
            return False
        is_short = sum(map(len, items)) <= SEND_AT_ONCE_BYTES
        call = self._pushing.call_often if is_short else self._pushing.call
        answer = call("push_calls", id, first, items, {}, self._sent_definitions, [])
        return self._note_accepted(id, first + len(items), answer)

    def _finish_posted(self) -> bool:
        """Take the answer to what the thread of a caller has sent; returned as by `_push`."""
        if self._posted is None:
            return False
        id, first, items, *_ = self._posted
        answer = self._pushing.finish("push_calls", *self._posted)
        self._posted = None
        return self._note_accepted(id, first + len(items), answer)

    def _note_accepted(self, id: str, stop: int, answer: object) -> bool:
        """Note which calls the master has taken. Returns whether it has no room for the others."""
        if answer is None:
            self._begin_anew(id)
            return False
        next = cast("int", answer)
        with self._changed:
            if self._id == id:
                self._queue.accepted(next)
        return next < stop

    def _send_needed(self, id: str, first: int, needed: set[bytes]) -> bool:
        """Send the functions and classes by value that calls need, each by itself, since any two
        may be too much for one message. Returns False if the master does not know the id."""
        table = self._calls.functions.table
        for digest in needed:
            blob = table.get(digest)
            if blob is None:
                continue  # its call is being cancelled
            function = {digest: function_to_client(blob)}
            if not self._push_none(id, first, function, []):
                return False
            self._sent_functions.add(digest)
        for definition in self._definitions.after(self._sent_definitions):
            if not self._push_none(id, first, {}, [definition]):
                return False
            self._sent_definitions += 1
        return True

    def _push_none(
        self,
        id: str,
        first: int,
        functions: dict[bytes, FunctionWire],
        definitions: list[Definition],
    ) -> bool:
        known = self._sent_definitions
        answer = self._pushing.call("push_calls", id, first, [], functions, known, definitions)
        if answer is None:
            self._begin_anew(id)
        return answer is not None and self._id == id

    def _drop_functions(self) -> None:
        table = self._calls.functions.table
        gone = [digest for digest in self._sent_functions if digest not in table]
        if gone:
            self._pushing.call("drop_functions", self._id, gone)
            self._sent_functions.difference_update(gone)

    def _send_cancelled(self) -> None:
        with self._changed:
            id, numbers = self._id, self._queue.take_cancelled()
        if numbers:
            self._pushing.call("cancel_calls", id, numbers)

    # The thread that takes

    def _take_all(self) -> None:
        id = ""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._is_open or self._is_closing)
                if self._is_closing:
                    return
                if self._id != id:
                    id, self._cursor = self._id, 0
            answer = self._taking.call_often("take_calls", id, self._cursor, WAIT_S)
            if answer is None:
                self._begin_anew(id)
            elif id == self._id:
                self._take(id, *cast("Answer", answer))

    def _take(
        self,
        id: str,
        events: list[tuple[object, ...]],
        cursor: int,
        state: tuple[str, bool, str, int] | None,
    ) -> None:
        for event in map(from_wire, events):
            found = self._calls_of(id, event)
            if found is None:
                return
            indices = [index for index, _ in found]
            if isinstance(event, Begun):
                self._calls.begin(indices)
            else:
                self._calls.resolve(event, indices, _Inputs([item for _, item in found]))
        self._cursor = cursor
        if state is not None:
            self._state = CallsState.from_wire(state)
            self._check_workers()
        now = time.monotonic()
        if state is not None or now > self._check_at:
            self._check_at = now + CHECK_INTERVAL_S
            self._calls.check()

    def _calls_of(self, id: str, event: Event) -> list[tuple[int, bytes | None]] | None:
        """The indices of the calls that an event is about, and what they consisted of; those with
        an outcome are forgotten. None if the calls were begun anew in the meantime, which takes no
        longer than it takes to unpickle some results: the same numbers now mean other calls.

        Raises:
            ProtocolError: the master does not have them.
        """
        with self._changed:
            if self._id != id:
                return None
            if isinstance(event, Begun):
                indices = self._queue.indices(event.start, event.count)
                return [(index, None) for index in indices]
            try:
                found = self._queue.remove(event.batch.start, event.batch.count)
            except KeyError:
                raise ProtocolError(
                    "the master sends outcomes of calls that it does not have"
                ) from None
            for index, _ in found:
                self._digests.pop(index, None)
            return found

    def _check_workers(self) -> None:
        """Say so if nobody runs the calls."""
        now = time.monotonic()
        if self._state.slots or not self._queue.calls:
            self._idle_since = None
        elif self._idle_since is None:
            self._idle_since = now
        elif now - self._idle_since >= NO_WORKER_NOTICE_S and not self._has_warned:
            self._has_warned = True
            self._report(
                f"no worker is connected to the master at {self._place}; the calls wait for one"
            )


def _new_id() -> str:
    return os.urandom(16).hex()


class _Inputs:
    """What the calls of a record consisted of."""

    def __init__(self, items: Sequence[bytes | None]) -> None:
        self._items = items

    def values(self, batch: Batch) -> list[object]:
        return self._decoded(Decoder(PICKLED, pickle.loads))

    def input_of(self, batch: Batch, failure: Failure) -> object:
        may_kill = failure.type in UNOPENED and not failure.traceback
        [value] = self._decoded(Decoder(PICKLED, safe_loads if may_kill else pickle.loads))
        return value

    def _decoded(self, decoder: Decoder) -> list[object]:
        return decoder.decode(batches.dump(self._items), 0, len(self._items))
