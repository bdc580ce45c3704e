"""Unpickles data that a client sends: of built-in and standard types, each built in its own way.

A `find_class` that knows a list of types, as the standard library's documentation has it, keeps a
pickle from running code, and from nothing else. Nine bytes make CPython allocate 64 GiB (a memo
entry with a high number); 130 keep it busy for ever, and 100 KB end the process (tuples within
tuples as a key: their hash is computed again for each, without a check of the stack); a class on
the list can be changed for everybody, or called with arguments that it was never meant for, as in
``list(range(10**10))``. So the bytes of a pickle are looked through first:

    survey ─┬─ no classes, and no keys that take long to hash ──▶ the unpickler in C
            └─ anything else ───────────────────────────────────▶ CheckedUnpickler, in Python

Where each of these limits is: what may be named and called in `pickle_rules`, what bytes may be
there in `pickle_survey`, how keys are watched in `checked_unpickler`.
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
        Refused: there is something else, or more than there may be.
        pickle.UnpicklingError: it is no pickle. No other exception comes out of this.

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
