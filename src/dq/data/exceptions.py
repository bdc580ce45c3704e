"""The exceptions of tasks, pickled where they were raised, to be raised again in the caller.

Only the caller's own calls unpickle them. Everything between, and the commands, have the text of
the failure alone.
"""

from __future__ import annotations

import io
import pickle

from dq._support.frozen import TYPE_CHECKING
from dq.core.records import MOST_EXCEPTION_BYTES
from dq.data.pickling import SCALARS, Buffers, Classes, ValuePickler, definitions_of
from dq.errors import RemoteTraceback

if TYPE_CHECKING:
    from typing import TypeGuard

    Written = bytes | memoryview

# They would end a loop or a generator of the caller, which would pass for the end of the results.
_ENDS_OF_LOOPS = (StopIteration, StopAsyncIteration)


def can_be_raised(error: object) -> TypeGuard[Exception]:
    """Whether the caller may get an exception as it is. SystemExit, KeyboardInterrupt and the like
    were meant for the worker's process; in the caller they would end the program.

    >>> can_be_raised(ValueError()), can_be_raised(SystemExit(3)), can_be_raised(StopIteration())
    (True, False, False)
    """
    return isinstance(error, Exception) and not isinstance(error, _ENDS_OF_LOOPS)


def dump(error: BaseException) -> bytes:
    """Pickle an exception, without its traceback. It is b"" if the caller cannot have it: it must
    not be raised there, or cannot be pickled and loaded again, or is too large.

    >>> load(dump(ValueError("no such day")))
    ValueError('no such day')
    """
    if not can_be_raised(error):
        return b""
    traceback = error.__traceback__
    try:
        # Libraries make tracebacks picklable, with all that their frames refer to.
        BaseException.with_traceback(error, None)
        blob = pickle.dumps(error) if _is_plain(error) else _dump(error)
    except BaseException:  # its own code may raise anything, SystemExit too
        return b""
    finally:
        BaseException.with_traceback(error, traceback)
    return blob if len(blob) <= MOST_EXCEPTION_BYTES else b""


def _is_plain(error: Exception) -> bool:
    """Whether an exception is built in and has only texts and numbers, as most have. It comes back
    for sure, and is pickled in a quarter of the time of others."""
    is_built_in = type(error).__module__ == "builtins" and not error.__dict__
    return is_built_in and SCALARS.issuperset(map(type, error.args))


def load(blob: bytes) -> Exception | None:
    """The inverse of `dump`, in a new object; None if it cannot be had here.

    Raises:
        KeyboardInterrupt: it came while a module was being imported.
    """
    if not blob:
        return None
    try:
        error = pickle.loads(blob)
        if isinstance(error, tuple):
            from dq.functions import by_value  # here, since few exceptions need it

            definitions, pickled = error
            by_value.load(definitions)
            error = pickle.loads(pickled)
    except KeyboardInterrupt:
        raise
    except BaseException:  # its own code may raise anything, SystemExit too
        return None
    return error if can_be_raised(error) else None


def annotate(error: Exception, traceback: str, note: str = "") -> bool:
    """Add the worker's traceback and a note; False if the exception's class prevents it."""
    try:
        error.__cause__ = RemoteTraceback(traceback)
        if note:  # as `add_note` of Python 3.11 has it
            error.__notes__ = [*getattr(error, "__notes__", ()), note]
    except Exception:  # a frozen record refuses what `contextlib` sets too, and raises on its way
        return False
    return True


def _dump(error: Exception) -> bytes:
    file = _Bounded()
    classes: Classes = {}
    buffers: Buffers = []  # with one that is kept apart it is too large
    ValuePickler(file, classes, buffers).dump(error)
    definitions = definitions_of(classes) if classes else b""
    blob = file.getvalue()
    if definitions:
        blob = pickle.dumps((definitions, blob))
    again = load(blob)
    # The same object again is one that all failures would share in the caller.
    return b"" if buffers or again is None or again is error else blob


class _TooLarge(Exception):
    """Raised when an exception is too large to be sent."""


class _Bounded(io.BytesIO):
    """Ends the pickling of what is too large early: there may be gigabytes of it."""

    def write(self, data: Written) -> int:  # type: ignore[override]  # any buffer
        if self.tell() + len(data) > MOST_EXCEPTION_BYTES:
            raise _TooLarge
        return super().write(data)
