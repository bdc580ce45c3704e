"""The calls of an executor that a master elsewhere runs: which of them it has."""

from __future__ import annotations

from collections import deque


class CallQueue:
    """Calls without an outcome. A master numbers them as it gets them, from 0, and another master
    begins anew. This is state only: whoever uses it has a lock for it.

    Attributes:
        calls: what each consists of, by its index here, in their order.
        cancelled: numbers of calls that the master has to end.
    """

    def __init__(self) -> None:
        self.calls: dict[int, bytes] = {}
        self.cancelled: list[int] = []
        self._unsent: deque[int] = deque()
        self._next = 0  # number of the next call that is sent
        self._sent: dict[int, int] = {}  # indices of calls by the master's numbers
        self._numbers: dict[int, int] = {}  # the inverse

    @property
    def has_unsent(self) -> bool:
        """Whether there is something to send."""
        return bool(self._unsent)

    def add(self, index: int, item: bytes) -> None:
        """Add a call."""
        self.calls[index] = item
        self._unsent.append(index)

    def cancel(self, index: int) -> None:
        """Forget a call. If the master has it, it has to end it."""
        if self.calls.pop(index, None) is not None and index in self._numbers:
            self.cancelled.append(self._numbers[index])

    def send(self, most_bytes: int) -> tuple[int, list[int]]:
        """Choose calls to send, of so many bytes, but one at least if there is one. Returns the
        number of the first one, and their indices."""
        first, nbytes = self._next, 0
        chosen: list[int] = []
        while self._unsent:
            item = self.calls.get(self._unsent[0])
            if item is not None and chosen and nbytes + len(item) > most_bytes:
                break
            index = self._unsent.popleft()
            if item is None:
                continue  # it was cancelled
            chosen.append(index)
            nbytes += len(item)
            self._sent[self._next] = index
            self._numbers[index] = self._next
            self._next += 1
        return first, chosen

    def accepted(self, next: int) -> None:
        """Note which number the master wants next. What was sent from there on has to be sent again
        when it has room."""
        rest = [self._sent.pop(number) for number in range(next, self._next)]
        for index in rest:
            del self._numbers[index]
        self._unsent.extendleft(reversed(rest))
        self.cancelled = [number for number in self.cancelled if number < next]
        self._next = next

    def take_cancelled(self) -> list[int]:
        """The numbers of calls to end, each once."""
        taken, self.cancelled = self.cancelled, []
        return taken

    def indices(self, start: int, count: int) -> list[int]:
        """The indices of calls with these numbers that have no outcome yet."""
        numbers = range(start, start + count)
        return [self._sent[number] for number in numbers if number in self._sent]

    def remove(self, start: int, count: int) -> list[tuple[int, bytes | None]]:
        """The indices of calls that have an outcome, and what they consisted of (None for one that
        was cancelled). They are forgotten.

        Raises:
            KeyError: the master does not have them.
        """
        indices = [self._sent.pop(number) for number in range(start, start + count)]
        for index in indices:
            del self._numbers[index]
        return [(index, self.calls.pop(index, None)) for index in indices]

    def begin_anew(self) -> None:
        """Note that another master has none of them."""
        self._unsent = deque(sorted(self.calls))
        self._sent.clear()
        self._numbers.clear()
        self.cancelled.clear()
        self._next = 0
