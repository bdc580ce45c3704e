"""Sends a job to a master that keeps jobs."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator

from dq._support.frozen import cast
from dq._support.naming import setting
from dq.data import batches
from dq.data.blocks import blocks_of
from dq.data.sources import NoInput
from dq.errors import UsageError
from dq.functions.spec import JobSpec
from dq.service.connection import JobsConnection
from dq.service.specs import to_client

ENVELOPE_BYTES = 1024  # of a message, beside what it carries


def submit(
    connection: JobsConnection,
    spec: JobSpec,
    records: Iterable[bytes],
    options: dict[str, object],
    notify: Callable[[int], object] | None = None,
) -> tuple[int, str]:
    """Send a job and all of its inputs. Returns its number and its id, once all of it is on the
    master's disk.

    If the connection is lost, what was being sent is sent again. If this process dies, the master
    has a job that was never begun, and sweeps it.

    Args:
        connection: to the master.
        spec: what the job's workers need to know.
        records: its inputs.
        options: what it asks for, as `JobOptions.to_wire` has it.
        notify: called with the number of inputs that were sent, at intervals.

    Raises:
        ConnectError: the master was lost, and did not come back in time.
        DqError: what the master has answered.
    """
    id = os.urandom(16).hex()
    wire, functions = to_client(spec)
    limit = connection.max_message - ENVELOPE_BYTES
    check_size(spec, functions, limit)
    connection.call("begin", id, wire, functions, options)
    blocks = _Blocks(connection, id)
    for count, block in blocks_of(_checked(records, limit)):
        blocks.send(count, block)
        if notify is not None:
            notify(blocks.total)
    return blocks.commit(), id


def check_size(spec: JobSpec, functions: bytes | None, limit: int) -> None:
    """Refuse functions by value that are too large for a message.

    Raises:
        UsageError: they are.
    """
    size = len(functions or b"") + spec.nbytes
    if size > limit:
        raise UsageError(
            f"what {spec.ref or spec.init} refers to has {size} bytes, over the master's limit of"
            f" {limit} ({setting('max_message')})"
        )


class _Blocks:
    """The blocks of a job on their way. Those that are not known to be on disk are kept."""

    def __init__(self, connection: JobsConnection, id: str) -> None:
        self._connection = connection
        self._id = id
        self._kept: deque[tuple[int, bytes]] = deque()
        self._count = self.total = 0  # blocks, and inputs in them

    def send(self, count: int, block: bytes) -> None:
        self._kept.append((self._count, block))
        self._count += 1
        self.total += count
        self._send_from(self._count - 1)

    def _send_from(self, wanted: int) -> None:
        """Send the blocks from the one that the master wants on."""
        while wanted < self._count:
            number, block = self._kept[wanted - self._kept[0][0]]
            answer = self._connection.call("block", self._id, number, block)
            wanted, written = cast("tuple[int, int]", answer)
            while self._kept and self._kept[0][0] < written:
                self._kept.popleft()

    def commit(self) -> int:
        while True:
            answer = self._connection.call("commit", self._id, self._count, self.total)
            number, wanted, _ = cast("tuple[int, int, int]", answer)
            if number:
                return number
            self._send_from(wanted)


def _checked(records: Iterable[bytes], limit: int) -> Iterator[bytes]:
    """Refuse an input that the master would not take, before the others are sent for nothing."""
    for index, record in enumerate(records):
        if len(record) > limit:
            raise UsageError(
                f"the input of task {index} has {len(record)} bytes, over the master's limit of"
                f" {limit} ({setting('max_message')})"
            )
        yield record


def pickled(inputs: Iterable[object]) -> Iterator[bytes]:
    """Each input as a record by itself, as it is at this moment.

    Raises:
        UsageError: one cannot be pickled.
    """
    for index, item in enumerate(inputs):
        if isinstance(item, NoInput):
            raise UsageError(item.failure.message)
        try:
            yield batches.joined(batches.dump([item]))
        except Exception as error:
            raise UsageError(
                f"the input of task {index} cannot be pickled: {type(error).__name__}: {error}"
            ) from error
