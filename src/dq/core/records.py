"""The frozen records that travel through dq."""

from __future__ import annotations

from collections.abc import Callable

from dq._support.frozen import Generic, TypeVar, frozen
from dq.core.blobs import Blob

Loads = Callable[[bytes | bytearray], object]  # unpickles
T = TypeVar("T")


def printable(text: str) -> str:
    """Escape what would move a terminal's cursor or change its colours. Anybody who has the key may
    have sent the text.

    >>> printable("one \\x1b[31m")
    'one \\\\x1b[31m'
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


LONGEST_TEXT = 20_000  # characters of a message, a traceback or a reason that are kept
LONGEST_NAME = 1_000  # characters of a name: of an exception's class, a worker, a group
MOST_EXCEPTION_BYTES = 64 * 1024  # of a pickled exception: a larger one is not sent


@frozen
class Reading:
    """How a worker decodes an input.

    Args:
        kind: one of `dq.data.decoding.INPUT_KINDS`.
        fields: names of the columns, where there are any.
        raw: whether the cells stay strings.
        field: the field of each record that is the input; "" for the whole record.
        delimiter: the character between two cells.
    """

    kind: str = "values"
    fields: tuple[str, ...] = ()
    raw: bool = False
    field: str = ""
    delimiter: str = ","

    def to_wire(self) -> tuple[object, ...]:
        return (self.kind, self.fields, self.raw, self.field, self.delimiter)


@frozen
class Failure:
    """Why a task failed, as text only: reading it needs none of the task's own classes.

    Args:
        type: name of the exception's class; dq's own are ``WorkerDied``, ``TimeoutError``,
            ``InputTooLarge`` and ``ResultTooLarge``.
        message: the exception's text.
        traceback: the worker's traceback, may be empty.

    >>> str(Failure("ValueError", "no such day"))
    'ValueError: no such day'
    """

    type: str
    message: str
    traceback: str = ""

    def __str__(self) -> str:
        return f"{self.type}: {self.message}" if self.message else self.type


def as_error(failure: Failure) -> RuntimeError:
    """A failure for a plain client or master: an exception that any Python can unpickle.

    >>> as_error(Failure("ValueError", "no such day"))
    RuntimeError('ValueError', 'no such day', '')
    """
    return RuntimeError(failure.type, failure.message, failure.traceback)


@frozen
class Result(Generic[T]):
    """One task's recorded outcome.

    Args:
        id: position of the input, from 0.
        input: the function's argument.
        value: what the function returned; None if the task failed.
        error: why the task failed; None if it returned.
        attempts: how many attempts were recorded, from 1.
        seconds: how long the last attempt ran.
        worker: ``host:pid`` of the process that ran it.

    >>> Result(0, input=3, value=9).ok
    True
    """

    id: int
    input: object
    value: T | None = None
    error: Failure | None = None
    attempts: int = 1
    seconds: float = 0.0
    worker: str = ""

    @property
    def ok(self) -> bool:
        """Whether the function returned."""
        return self.error is None


@frozen
class Batch:
    """Consecutive tasks of one job, sent as one opaque blob.

    A part of a batch keeps the whole batch's blob and says which of its items it has, so the master
    never unpickles a blob to split it.

    Args:
        job: id of the job.
        start: index of the first task in the job.
        count: how many tasks.
        blob: the encoded inputs.
        skip: how many items of the blob come before the first task.
        redelivered: whether another copy of a task may be running, because a connection that had
            the batch has ended.
    """

    job: str
    start: int
    count: int
    blob: Blob
    skip: int = 0
    redelivered: bool = False

    @property
    def stop(self) -> int:
        """Index after the last task."""
        return self.start + self.count

    def part(self, start: int, stop: int, *, redelivered: bool | None = None) -> Batch:
        """The tasks from index `start` to before `stop`, of the same blob.

        >>> Batch("j", 10, 5, b"...").part(12, 14)
        Batch(job='j', start=12, count=2, blob=b'...', skip=2, redelivered=False)
        """
        if start == self.start and stop == self.stop and redelivered in (None, self.redelivered):
            return self
        if not self.start <= start <= stop <= self.stop:
            raise ValueError(f"{start}..{stop} is not within {self.start}..{self.stop}")
        return Batch(
            self.job,
            start,
            stop - start,
            self.blob,
            self.skip + start - self.start,
            self.redelivered if redelivered is None else redelivered,
        )


@frozen
class Done:
    """Consecutive tasks that returned.

    Args:
        count: how many tasks.
        blob: their encoded results.
        seconds: how long they took in all.
    """

    count: int
    blob: Blob
    seconds: float = 0.0


@frozen
class Failed:
    """One task that did not return.

    Args:
        failure: why.
        seconds: how long it ran.
        retry: whether `--retries` applies. It does not if another attempt would fail alike.
        exception: what the task raised, as `dq.data.exceptions` pickles it for the caller alone;
            b"" if the caller cannot have it, or has no use for it.
    """

    failure: Failure
    seconds: float = 0.0
    retry: bool = True
    count: int = 1
    exception: bytes = b""

    @property
    def is_unreadable(self) -> bool:
        """Whether the worker reported that the input cannot be read."""
        return not self.retry and self.failure.type == "BadInput"


Outcome = Done | Failed


@frozen
class Recorded:
    """The recorded outcome of consecutive tasks, which never changes.

    Args:
        batch: the tasks.
        outcome: theirs.
        attempts: how many attempts were recorded.
        worker: ``host:pid`` of the process that ran the last attempt.
    """

    batch: Batch
    outcome: Outcome
    attempts: int
    worker: str

    @property
    def nbytes(self) -> int:
        """Roughly how many bytes of memory this record takes."""
        outcome = self.outcome
        return RECORD_BYTES + len(outcome.blob if isinstance(outcome, Done) else outcome.exception)


RECORD_BYTES = 512  # measured: a Recorded, its Batch and its Outcome, without their blobs
