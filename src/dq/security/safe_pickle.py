"""Unpickles data from clients: built-in and standard types only, each built in its usual way.

The standard library's documentation recommends a `find_class` with a list of types. That prevents a
pickle from running code, but nothing else. Nine bytes make CPython allocate 64 GiB, with a high
number of a memo entry. 130 bytes keep it busy for ever. 100 KB crash the process, with a key of
nested tuples, which are hashed again and again without a check of the stack. And a pickle can
change a class on the list for everybody, or call it with arguments that it was never meant for, as
in ``list(range(10**10))``. So the bytes of a pickle are surveyed first:

    survey ─┬─ no classes, and no keys that take long to hash ──▶ the unpickler in C
            └─ anything else ───────────────────────────────────▶ CheckedUnpickler, in Python

`pickle_rules` says what may be named and called, `pickle_survey` checks the bytes, and
`checked_unpickler` checks classes and keys.
"""

from __future__ import annotations

import io
import pickle

from dq.security.checked_unpickler import CheckedUnpickler
from dq.security.pickle_rules import Refused
from dq.security.pickle_survey import survey


def safe_loads(data: bytes | bytearray) -> object:
    """Unpickle built-in and standard data types, and nothing else.

    Raises:
        Refused: it has something else, or exceeds a limit.
        pickle.UnpicklingError: it is not a pickle. No other exception is raised.

    >>> safe_loads(pickle.dumps([1, "two", {3.0}]))
    [1, 'two', {3.0}]
    >>> safe_loads(pickle.dumps(print))  # doctest: +IGNORE_EXCEPTION_DETAIL
    Traceback (most recent call last):
        ...
    Refused: builtins.print may not be unpickled here, only standard data types may
    """
    try:
        kind = PlainUnpickler if survey(data) else CheckedUnpickler
        loaded: object = kind(io.BytesIO(data)).load()
        return loaded
    except pickle.UnpicklingError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise pickle.UnpicklingError(f"not a pickle of data: {reason[:200]}") from None


class PlainUnpickler(pickle.Unpickler):
    """The unpickler in C, for pickles that name no class."""

    def find_class(self, module: str, name: str) -> object:
        raise Refused(f"{module}.{name} may not be unpickled here")  # the survey missed it
