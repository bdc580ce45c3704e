"""Results: from a worker's values to blobs, and from blobs to a file or to values.

For the command line a worker's blob is finished text, which the master only copies; for the
Python interface it is pickled values.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import sys
from collections.abc import Sequence

from dq import inputs
from dq.errors import OutputError, UsageError
from dq.light import TYPE_CHECKING
from dq.records import Failure, Result

if TYPE_CHECKING:
    from typing import BinaryIO

FORMATS = ("text", "jsonl")


def encode(
    form: str,
    start: int,
    items: Sequence[object],
    results: Sequence[tuple[object, float]],
    attempt: int,
    worker: str,
) -> bytes:
    """The blob of consecutive tasks that returned, in "text" or "jsonl".

    Args:
        form: which of the two.
        start: index of the first task.
        items: their inputs.
        results: their values and seconds.
        attempt: which attempt it was.
        worker: who ran them.
    """
    if form == "text":
        return "".join([f"{value}\n" for value, _ in results]).encode(errors="backslashreplace")
    lines = [
        jsonl(Result(start + place, item, value, None, attempt, seconds, worker))
        for place, (item, (value, seconds)) in enumerate(zip(items, results, strict=True))
    ]
    return "".join(lines).encode()


def is_command(form: str) -> bool:
    """Whether a job with this output is a command's, which alone asks for text."""
    return form in ("text", "jsonl")


def jsonl(result: Result[object]) -> str:
    """One line of ``--format jsonl``; what JSON does not know stands in it as its `str`.

    >>> jsonl(Result(0, 3, 9, seconds=0.25, worker="here:1"))[:-1]
    '{"id": 0, "input": 3, "result": 9, "attempts": 1, "seconds": 0.25, "worker": "here:1"}'
    """
    record: dict[str, object] = {"id": result.id, "input": result.input}
    if result.error is None:
        record["result"] = result.value
    else:
        error = result.error
        record["error"] = {
            "type": error.type,
            "message": error.message,
            "traceback": error.traceback,
        }
    record |= {
        "attempts": result.attempts,
        "seconds": round(result.seconds, 6),
        "worker": result.worker,
    }
    return dumps(record) + "\n"


def dumps(record: dict[str, object]) -> str:
    """JSON, in which what JSON does not know stands as its `str`."""
    try:
        return json.dumps(record, default=str, allow_nan=False)
    except (TypeError, ValueError, RecursionError):  # keys that are no strings, a cycle, NaN
        plain = {key: value if _is_json(value) else str(value) for key, value in record.items()}
        return json.dumps(plain)


def _is_json(value: object) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return False
    return True


class Writer:
    """Where results go: standard output, or a file that is complete or absent.

    Args:
        path: the file; None or "-" for standard output.

    Raises:
        UsageError: it cannot be opened.
        OutputError: it cannot be written, in every method.
    """

    def __init__(self, path: str | None) -> None:
        # That may be a file to which others write too, and is not to be replaced.
        self._path = path = None if path in ("-", "/dev/stdout") else path
        # The file that a link points to is replaced, and not the link.
        self._target = None if path is None or _is_special(path) else os.path.realpath(path)
        self._temporary = self._target and f"{self._target}.{os.getpid()}.part"
        self._file = self._open()
        if self._temporary is not None and self._target is not None:
            with contextlib.suppress(OSError):  # nothing is replaced, or modes are not to be had
                os.chmod(self._temporary, os.stat(self._target).st_mode & 0o7777)

    def _open(self) -> BinaryIO:
        if self._path is None:
            if sys.stdout is None:
                raise UsageError("standard output is closed: give -o FILE")
            return sys.stdout.buffer
        try:
            return open(self._temporary or self._path, "wb")
        except OSError as error:
            raise UsageError(f"cannot write {self._path}: {error.strerror}") from None

    def write(self, blob: bytes) -> None:
        """Write, and at once where somebody is watching."""
        try:
            self._file.write(blob)
            if self._path is None:
                self._file.flush()
        except OSError as error:
            raise self._failure(error) from None

    def commit(self) -> None:
        """Everything is written: let the file appear."""
        try:
            self._file.flush()
            if self._path is None:
                return
            if self._temporary is None or self._target is None:
                self._file.close()
                return
            os.fsync(self._file.fileno())
            self._file.close()
            os.replace(self._temporary, self._target)
            self._temporary = None
        except OSError as error:
            raise self._failure(error) from None

    def discard(self) -> None:
        """Leave nothing behind that is not whole."""
        if self._path is None:
            return
        with contextlib.suppress(OSError):  # what was buffered has nowhere to go
            self._file.close()
        if self._temporary is None:
            return
        with contextlib.suppress(OSError):
            os.unlink(self._temporary)

    def _failure(self, error: OSError) -> OutputError:
        if self._path is None:
            close_stdout()
            if error.errno == errno.EPIPE:
                return OutputError("standard output was closed by its reader; stopped there")
            return OutputError(f"cannot write to standard output: {error.strerror}")
        return OutputError(
            f"cannot write {self._path}: {error.strerror}; nothing was written there"
        )


def _is_special(path: str) -> bool:
    """Whether it is a device or pipe, which a renamed file must not take the place of."""
    return os.path.exists(path) and not os.path.isfile(path)


def close_stdout() -> None:
    """Keep the interpreter from flushing what cannot be written, and failing again, at exit."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, sys.stdout.fileno())
    os.close(devnull)


def failed(
    index: int, item: object, error: Failure, attempts: int, seconds: float, worker: str
) -> Result[object]:
    """The record of a task that failed; an input that could not be read stands as None."""
    given = None if isinstance(item, inputs.Bad) else item
    return Result(index, given, None, error, attempts, seconds, worker)
