"""Sends an executor's calls to a master elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

from dq.dispatch.worker_requests import SEND_AT_ONCE_BYTES
from dq.functions.definitions import CurrentDefinitions, Definition
from dq.master.call_functions import CallFunctions
from dq.master.pending_calls import PendingCalls
from dq.service.call_wire import FunctionWire
from dq.service.connection import JobsConnection
from dq.service.specs import function_to_client

ANSWER_INTERVAL_S = 0.02  # after which an answer is taken that the next call has not taken
FULL_INTERVAL_S = 0.02  # between two attempts to send more to a master that has no room
MESSAGE_BYTES = 1 << 20  # of the calls that are sent together

# Of `push_calls`: id, number of the first call, calls, functions, known definitions, definitions.
_PushArgs = tuple[str, int, list[bytes], dict[bytes, FunctionWire], int, list[Definition]]


class CallSender:
    """Sends calls in a thread of its own; or in that of a caller, if the other one is idle.

    Args:
        pending: the calls.
        connection: to the master.
        opening: the arguments of `open_calls` that follow the id.
        definitions: the classes by value that calls need.
        functions: the functions that they name.
    """

    def __init__(
        self,
        pending: PendingCalls,
        connection: JobsConnection,
        opening: tuple[object, ...],
        definitions: CurrentDefinitions,
        functions: CallFunctions,
    ) -> None:
        self._pending = pending
        self._connection = connection
        self._opening = opening
        self._definitions = definitions
        self._functions = functions
        # Guarded by the lock of the calls.
        self._is_idle = False  # whether the thread that sends waits for work
        self._posted: _PushArgs | None = None  # sent by another thread, and not yet answered
        self._looks_soon = False  # whether the thread that sends will look for that answer soon
        # These two belong to the thread that sends; while it is idle, to who has the lock.
        self._sent_functions: set[bytes] = set()
        self._sent_definitions = 0

    # Called by those who make calls

    def post(self) -> bool:
        """Send what there is from this thread, if the other one is idle: waking it first would take
        a quarter of the time of a single call. Called with the lock held, and so only if sending
        cannot block, and nothing else has to be sent before. Returns False if the other thread has
        something to do."""
        if not self._is_idle or self._has_work_beside_calls():
            return False
        if not self._finish_if_ready():
            return False
        first, chosen = self._pending.queue.send(SEND_AT_ONCE_BYTES)
        if not chosen:
            return True  # another thread has sent it
        items = [self._pending.queue.calls[index] for index in chosen]
        args: _PushArgs = (self._pending.id, first, items, {}, self._sent_definitions, [])
        is_sent = False
        try:
            if sum(map(len, items)) <= SEND_AT_ONCE_BYTES and not self._needs_more(chosen):
                is_sent = self._connection.post("push_calls", *args)
        finally:
            if is_sent:
                self._posted = args
            else:
                self._pending.queue.accepted(first)  # none
        return is_sent and self._looks_soon

    def _finish_if_ready(self) -> bool:
        """Take the answer to what was sent before, if that can be done at once."""
        if self._posted is None:
            return True
        id, first, items, *_ = self._posted
        found = self._connection.finish_if_ready()
        if found is None:
            return False
        self._posted = None
        [answer] = found
        is_full = self._pending.note_accepted(id, first + len(items), answer)
        return not is_full and self._pending.is_open

    def _needs_more(self, chosen: Sequence[int]) -> bool:
        """Whether calls need functions or classes that the master does not have."""
        return self._sent_definitions < len(self._definitions) or bool(self._unsent(chosen))

    def _unsent(self, chosen: Sequence[int]) -> set[bytes]:
        """The functions that calls need and the master does not have."""
        digests = {self._pending.digests[index] for index in chosen}
        return digests - self._sent_functions - {b""}

    # The thread that sends

    def run(self) -> None:
        """Send, until no more calls come."""
        while self._await_work():
            is_full = self._finish_posted()
            if not self._pending.is_open:
                self.open()
            self._drop_functions()
            is_full = self._push() or is_full
            self._send_cancelled()
            if is_full:
                with self._pending.changed:
                    self._pending.changed.wait(FULL_INTERVAL_S)
        self._finish_posted()
        if self._pending.is_open:
            self._send_cancelled()
            self._connection.call_once("close_calls", self._pending.id)

    def _await_work(self) -> bool:
        """Wait until there is something to do; False at the end."""
        with self._pending.changed:
            self._is_idle = True
            while not self._has_work():
                posted = self._posted
                self._looks_soon = posted is not None
                self._pending.changed.wait(ANSWER_INTERVAL_S if posted is not None else None)
                if posted is not None and self._posted is posted:
                    break  # no other call has followed
            self._is_idle = self._looks_soon = False
            return not self._pending.is_closing

    def _has_work(self) -> bool:
        return self._pending.queue.has_unsent or self._has_work_beside_calls()

    def _has_work_beside_calls(self) -> bool:
        if self._pending.is_closing or not self._pending.is_open or self._pending.queue.cancelled:
            return True
        # Functions that the master keeps and no call needs any more. (There may be some in any
        # case: this is a quick look, and whenever nothing is to do, all are dropped.)
        return len(self._sent_functions) > len(self._functions.table)

    def open(self) -> None:
        """Tell the master of these calls."""
        id = self._pending.id
        self._sent_functions.clear()
        self._sent_definitions = 0
        self._connection.call("open_calls", id, *self._opening)
        self._pending.opened(id)

    def _push(self) -> bool:
        """Send calls. Returns whether the master has no room for all of them."""
        with self._pending.changed:
            id = self._pending.id
            first, chosen = self._pending.queue.send(MESSAGE_BYTES)
            if not chosen:
                return False
            items = [self._pending.queue.calls[index] for index in chosen]
            needed = self._unsent(chosen)
        if not self._send_needed(id, first, needed):
            return False
        is_short = sum(map(len, items)) <= SEND_AT_ONCE_BYTES
        call = self._connection.call_often if is_short else self._connection.call
        answer = call("push_calls", id, first, items, {}, self._sent_definitions, [])
        return self._pending.note_accepted(id, first + len(items), answer)

    def _finish_posted(self) -> bool:
        """Take the answer to what the thread of a caller has sent; returned as by `_push`."""
        if self._posted is None:
            return False
        id, first, items, *_ = self._posted
        answer = self._connection.finish("push_calls", *self._posted)
        self._posted = None
        return self._pending.note_accepted(id, first + len(items), answer)

    def _send_needed(self, id: str, first: int, needed: set[bytes]) -> bool:
        """Send the functions and classes by value that calls need, each by itself, since any two
        may be too much for one message. Returns False if the master does not know the id."""
        table = self._functions.table
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
        answer = self._connection.call("push_calls", id, first, [], functions, known, definitions)
        if answer is None:
            self._pending.begin_anew(id)
        return answer is not None and self._pending.id == id

    def _drop_functions(self) -> None:
        table = self._functions.table
        gone = [digest for digest in self._sent_functions if digest not in table]
        if gone:
            self._connection.call("drop_functions", self._pending.id, gone)
            self._sent_functions.difference_update(gone)

    def _send_cancelled(self) -> None:
        with self._pending.changed:
            id, numbers = self._pending.id, self._pending.queue.take_cancelled()
        if numbers:
            self._connection.call("cancel_calls", id, numbers)
