"""Results as a job on a serving master keeps them: for readers that may not have their classes.

Somebody may want such a result as text, as a record or as a value, on any machine, after its worker
has gone. Values of built-in types are kept as they are, and each reader makes the form it wants.
Any other value is kept in three forms, which its worker has made.
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence

from dq._support.frozen import cast, frozen
from dq.core.blobs import Blob
from dq.core.records import Failure, Loads
from dq.data import batches
from dq.data.pieces import BadValue

# Text, JSON or None, why there is none, pickle or None.
_Wire = tuple[str, "str | None", str, "bytes | None"]


@frozen
class Forms:
    """A value of a type that is not built in, in the forms that its worker has made.

    Args:
        text: as `print` shows it.
        json: as a record has it; None if it has no such form.
        why: why it has none.
        pickled: None if it cannot be pickled.
    """

    text: str
    json: str | None = None
    why: str = ""
    pickled: bytes | None = None

    def value(self, loads: Loads) -> object:
        """The value itself; a `BadValue` if it cannot be had here."""
        if self.pickled is None:
            return BadValue(Failure("PicklingError", f"this result cannot be pickled: {self.text}"))
        [value] = batches.load(self.pickled, loads)
        return value


def dump(values: Sequence[object], seconds: Sequence[float], forms: dict[int, Forms]) -> bytes:
    """Encode results.

    Args:
        values: those of built-in types, and anything in the places of the others.
        seconds: how long each task took.
        forms: the others, by their places.
    """
    wire = {place: (one.text, one.json, one.why, one.pickled) for place, one in forms.items()}
    return pickle.dumps((batches.joined(batches.dump(values)), list(seconds), wire))


def load(blob: Blob, loads: Loads) -> tuple[list[object], list[float]]:
    """The inverse: values of built-in types, and `Forms` in the places of all others.

    Args:
        blob: what `dump` has made.
        loads: unpickles built-in types; it need not be able to do more.
    """
    inner, seconds, wire = cast(
        "tuple[bytes, list[float], dict[int, _Wire]]", loads(batches.joined(blob))
    )
    values = batches.load(inner, loads)
    for place, (text, json, why, pickled) in wire.items():
        values[place] = Forms(text=text, json=json, why=why, pickled=pickled)
    return values, seconds
