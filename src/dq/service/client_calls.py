"""The calls of one client, as a serving master has them."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence

from dq.core.blobs import Blob
from dq.core.records import Batch, Recorded
from dq.dispatch.dispatcher import Dispatcher
from dq.dispatch.leasing import LIVENESS_CHECK_S
from dq.dispatch.served_job import ServedJob
from dq.dispatch.worker_requests import SEND_AT_ONCE_BYTES
from dq.errors import UsageError
from dq.functions.definitions import Definition
from dq.service.call_wire import Answer, Begun, CallsState, Event, to_wire
from dq.transport.channel import Channel

MOST_WAITING_BYTES = 64 << 20  # of calls without an outcome, beyond which no more are taken in
CALL_BYTES = 512  # of memory for each, besides what it consists of
PAGE_BYTES = 4 << 20  # of outcomes in one answer, which has one at least
PAGE_EVENTS = 10_000


class TakeRequest:
    """A request for news, while it waits for them.

    Args:
        cursor: since when.
        channel: where the answer goes.
    """

    __slots__ = ("channel", "cursor", "is_answered")

    def __init__(self, cursor: int, channel: Channel) -> None:
        self.cursor = cursor
        self.channel = channel
        self.is_answered = False


class ClientCalls:
    """A job of calls, and what has become of them, until the client has acknowledged that.

    Args:
        served: the job.
        dispatcher: serves it.

    Attributes:
        seen: when the client was last heard of, in seconds of a steady clock.
    """

    def __init__(self, served: ServedJob, dispatcher: Dispatcher) -> None:
        self.seen = time.monotonic()
        self._served = served
        self._dispatcher = dispatcher
        self._pushing = threading.Lock()  # held while calls are added; guards these two
        self._next = 0  # number of the next call
        self._is_closed = False
        # Its lock guards what follows. It is acquired after `_pushing`, never before it.
        self._news = threading.Condition()
        self._events: deque[Event] = deque()  # that were not acknowledged
        self._first = 0  # the cursor of the first one
        self._sizes: dict[int, int] = {}  # bytes of the calls without an outcome
        self._nbytes = 0  # their sum
        self._request: TakeRequest | None = None  # the one that waits for news
        self._waiting = 0  # how many of the client's requests wait for news
        # Batches that workers have, which the client learns of a little later: it would otherwise
        # be woken twice for each call. A deque needs no lock.
        self._begun: deque[Begun] = deque()
        self._was_stopped = False
        served.sink = self._ended
        served.on_sent = self._sent

    # Calls come

    def push(
        self,
        first: int,
        items: Sequence[bytes],
        functions: dict[bytes, Blob],
        known: int,
        definitions: Sequence[Definition],
    ) -> int:
        """Take in calls, as far as there is room for them. The same again changes nothing.

        Args:
            first: the number of the first one.
            items: the calls.
            functions: those by value that they name, by their digests.
            known: how many definitions were sent before.
            definitions: of classes by value that they refer to.

        Returns:
            The number of the call to send next.
        """
        with self._pushing:
            self._touch()
            have = self._served.definitions
            if first > self._next or known > len(have):
                raise UsageError("what comes before these calls is missing")
            if self._is_closed:
                return self._next
            have.receive(definitions[len(have) - known :])
            self._served.called.update(functions)
            new = items[self._next - first :]
            added = sum(self._add(item) for item in self._with_room(new))
        if added:
            self._dispatcher.feeding.hand_out()
        return self._next

    def _with_room(self, items: Sequence[bytes]) -> Sequence[bytes]:
        """As many of the calls as there is room for."""
        with self._news:
            room = MOST_WAITING_BYTES - self._nbytes
            is_empty = not self._sizes
        for place, item in enumerate(items):
            room -= len(item) + CALL_BYTES
            if room < 0 and not (is_empty and place == 0):
                return items[:place]
        return items

    def _add(self, item: bytes) -> int:
        with self._news:
            self._sizes[self._next] = len(item) + CALL_BYTES
            self._nbytes += len(item) + CALL_BYTES
        self._next += 1
        self._dispatcher.feeding.push(self._served, item)
        return 1

    def drop_functions(self, digests: Sequence[bytes]) -> None:
        """Forget functions by value that no call needs any more."""
        with self._pushing:
            self._touch()
            for digest in digests:
                self._served.called.pop(digest, None)

    def cancel(self, indices: Sequence[int]) -> None:
        """End calls. The outcome of each follows."""
        self._touch()
        for index in indices:
            self._dispatcher.cancellation.cancel_task(self._served.spec.id, index)

    # Events; called by the dispatcher

    def _sent(self, batch: Batch) -> None:
        self._begun.append(Begun(start=batch.start, count=batch.count))

    def _ended(self, record: Recorded) -> None:
        with self._news:
            self._events.append(record)
            for index in range(record.batch.start, record.batch.stop):
                self._nbytes -= self._sizes.pop(index, 0)
            self._answer_at_once(record)
            self._news.notify_all()

    def _answer_at_once(self, record: Recorded) -> None:
        """Answer a request from the thread that has the outcome, since waking the request's own
        takes a tenth of the time of a single call. Called with the lock held, and so only if
        sending cannot block."""
        request = self._request
        if request is None or len(self._events) > 1 or record.nbytes > SEND_AT_ONCE_BYTES:
            return
        if not request.channel.may_send():
            return
        self._request, request.is_answered = None, True
        answer: Answer = [to_wire(event) for event in self._events], request.cursor + 1, None
        try:
            request.channel.send(("#RETURN", ("ok", answer)))
        except OSError:
            request.channel.shutdown()  # its own thread sees that

    # The client takes them

    def take(self, cursor: int, wait: float, channel: Channel) -> Answer | None:
        """What has become of calls since a cursor, which acknowledges what came before it.

        Args:
            cursor: 0 at first, then what the last answer had.
            wait: seconds to wait for news.
            channel: the client's connection. It is ended if the master ends, so that the client
                looks for the next one.

        Returns:
            The answer; None if it has been sent.
        """
        self._acknowledge(cursor)
        deadline = time.monotonic() + wait
        request = TakeRequest(cursor, channel)
        with self._news:
            self._request = request
            self._waiting += 1
            try:
                self._await_news(request, deadline)
            finally:
                self._waiting -= 1
                if self._request is request:
                    self._request = None
                self._touch()
        return None if request.is_answered else self._answer(cursor)

    def _await_news(self, request: TakeRequest, deadline: float) -> None:
        """Called with the lock held, which is released meanwhile."""
        while not request.is_answered and not self._has_news(request.cursor):
            left = deadline - time.monotonic()
            if left <= 0:
                return
            is_notified = self._news.wait(min(left, LIVENESS_CHECK_S))
            has_ended = self._dispatcher.stopping and not request.is_answered
            if has_ended or (not is_notified and request.channel.peer_closed()):
                request.channel.shutdown()
                return
            if self._was_stopped:
                return

    def _has_news(self, cursor: int) -> bool:
        return len(self._events) > cursor - self._first or self._is_closed

    def _acknowledge(self, cursor: int) -> None:
        self._touch()
        records = []
        with self._news:
            if not 0 <= cursor - self._first <= len(self._events):
                raise UsageError("there was no such cursor")
            while self._first < cursor:
                event = self._events.popleft()
                self._first += 1
                if isinstance(event, Recorded):
                    records.append(event)
        if records:
            self._dispatcher.delivery.consumed(self._served, records)

    def _answer(self, cursor: int) -> Answer:
        with self._news:
            self._note_begun()
            found: list[Event] = []
            nbytes = 0
            for event in list(self._events)[cursor - self._first :]:
                found.append(event)
                nbytes += event.nbytes if isinstance(event, Recorded) else 0
                if nbytes > PAGE_BYTES or len(found) >= PAGE_EVENTS:
                    break
        job, q = self._served.job, self._dispatcher
        with q.lock:
            is_over = job.finished and not job.unread
            refusal = q.presence.refusal_of_all(job)
        state = CallsState(
            stopped=job.stopped or "", is_over=is_over, refusal=refusal, slots=q.slots
        )
        return [to_wire(event) for event in found], cursor + len(found), state.to_wire()

    def _note_begun(self) -> None:
        while self._begun:
            self._events.append(self._begun.popleft())

    # At intervals

    def tick(self) -> None:
        """Tell the client what it is not told at once."""
        is_stopped = self._served.job.stopped is not None
        if not self._begun and is_stopped == self._was_stopped:
            return
        with self._news:
            self._was_stopped = is_stopped
            self._note_begun()
            self._news.notify_all()

    def silent_seconds(self, now: float) -> float:
        """How long nothing has been heard of the client."""
        return 0.0 if self._waiting else now - self.seen

    def _touch(self) -> None:
        self.seen = time.monotonic()

    def close(self) -> None:
        """End the job, and the calls that run."""
        with self._pushing:
            if self._is_closed:
                return
            self._is_closed = True
            self._dispatcher.cancellation.cancel_job(self._served.spec.id)
            self._dispatcher.jobs.close(self._served)
        with self._news:
            self._news.notify_all()
