"""A job's requeued batches, which wait to be leased again."""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Iterator

from dq.core.records import Batch

PIECES = 16  # into which a lost batch is split, so that a poison task is soon isolated


class WaitingBatches:
    """A job's requeued batches, in the order in which they are leased again.

    A task that was requeued because its holder left may still be running there. It is in
    `redelivered` until it has an outcome, which is the first that any of its copies reports.
    """

    __slots__ = ("batches", "delayed", "redelivered")

    def __init__(self) -> None:
        self.batches: deque[Batch] = deque()
        self.delayed: list[tuple[float, int, Batch]] = []  # a heap: when due, first task, batch
        self.redelivered: set[int] = set()

    def put_back(self, batch: Batch) -> None:
        """Requeue a batch at the front."""
        self.batches.appendleft(batch)

    def put_back_all(self, batches: list[Batch]) -> None:
        """Requeue batches at the front, in their order."""
        self.batches.extendleft(reversed(batches))

    def push(self, batch: Batch, now: float, delay: float) -> None:
        """Requeue a batch at the front, after `delay` seconds if there is a delay."""
        if delay > 0:
            heapq.heappush(self.delayed, (now + delay, batch.start, batch))
        else:
            self.batches.appendleft(batch)

    def requeue(self, batch: Batch, suspect: int | None) -> None:
        """Requeue the tasks of a lost lease at the front in pieces, a suspected task by itself."""
        if not batch.redelivered:
            self.redelivered.update(range(batch.start, batch.stop))
        size = -(-batch.count // PIECES)
        cuts = set(range(batch.start, batch.stop, size)) | {batch.stop}
        if suspect is not None:
            cuts |= {suspect, suspect + 1}
        edges = sorted(cut for cut in cuts if batch.start <= cut <= batch.stop)
        self.put_back_all(
            [batch.part(a, b, redelivered=True) for a, b in itertools.pairwise(edges)]
        )

    def release(self, now: float) -> None:
        """Let the batches wait whose delay is over."""
        while self.delayed and self.delayed[0][0] <= now:
            self.batches.append(heapq.heappop(self.delayed)[2])

    def pop(self, now: float) -> Batch | None:
        """Remove and return the first batch that has tasks without an outcome."""
        self.release(now)
        while self.batches:
            batch = self.batches.popleft()
            if not batch.redelivered:
                return batch
            runs = list(self.open_runs(batch))
            self.put_back_all(runs[1:])
            if runs:
                return runs[0]
        return None

    def open_runs(self, batch: Batch) -> Iterator[Batch]:
        """The parts of a redelivered batch whose tasks have no outcome yet."""
        start = None
        for index in range(batch.start, batch.stop):
            if index in self.redelivered:
                start = index if start is None else start
            elif start is not None:
                yield batch.part(start, index)
                start = None
        if start is not None:
            yield batch.part(start, batch.stop)

    def isolate(self, index: int) -> None:
        """Put a waiting task into a batch of its own."""
        for place, batch in enumerate(self.batches):
            if batch.start <= index < batch.stop and batch.count > 1:
                del self.batches[place]
                edges = (batch.start, index, index + 1, batch.stop)
                for a, b in itertools.pairwise(edges):
                    if a < b:
                        self.batches.insert(place, batch.part(a, b))
                        place += 1
                return

    def remove(self, index: int) -> None:
        """Remove a waiting task."""
        self.isolate(index)
        for place, batch in enumerate(self.batches):
            if batch.start == index and batch.count == 1:
                del self.batches[place]
                return

    def take(self, index: int) -> Batch | None:
        """Remove a waiting task, delayed or not, and return it; None if it does not wait."""
        for place, (_, _, batch) in enumerate(self.delayed):
            if batch.start <= index < batch.stop:
                del self.delayed[place]
                heapq.heapify(self.delayed)
                return batch  # a delayed batch is one task
        for batch in self.batches:
            if batch.start <= index < batch.stop:
                self.remove(index)
                return batch.part(index, index + 1)
        return None

    def settle(self, batch: Batch) -> None:
        """Note that the tasks of a batch have their outcomes, or need none."""
        self.redelivered.difference_update(range(batch.start, batch.stop))

    def clear(self) -> None:
        """Drop all waiting batches."""
        self.batches.clear()
        self.delayed.clear()

    @property
    def count(self) -> int:
        """How many tasks wait."""
        return sum(batch.count for batch in self.batches) + len(self.delayed)
