"""The values of a batch, some hundred at a time: those that one pickle has.

A batch is the pickle of a pair, of which the first says what the second is:

    AS_IS               a list of the values
    -n                  a list with one pickle of such a pair, of n values, which may fail to load
    EACH_PICKLED        a list with a pickle of each value
    n                   a list of batches, each of n values except the last
    WITH_CLASSES        definitions of classes, and a batch that needs them
    WITH_BUFFERS        for each value its pickle, and where its buffers end among the blob's
    JOINED              the head of a blob with buffers, and the buffers
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Iterator

from dq._support.frozen import TYPE_CHECKING, cast
from dq.core.blobs import Blob, LargeBlob
from dq.core.records import Failure, Loads
from dq.data import buffers

if TYPE_CHECKING:
    from typing import Any

EACH_PICKLED, AS_IS = False, True
WITH_CLASSES, WITH_BUFFERS, JOINED = 2, 3, 4  # the batches in a batch have more values
Pair = tuple[int, "list[Any]"]


class BadValue:
    """Stands in for a value that could not be read, and says why."""

    __slots__ = ("failure",)

    def __init__(self, error: BaseException | Failure) -> None:
        if isinstance(error, BaseException):
            text = f"cannot be unpickled: {type(error).__name__}: {error}"
            error = Failure("UnpicklingError", text)
        self.failure = error


def pieces(
    blob: Blob, loads: Loads, skip: int = 0, count: int | None = None, *, apart: bool = False
) -> Iterator[tuple[bool, list[Any]]]:
    """The pieces of a batch or of a part of it: for each, whether it has pickles or values, and
    these. If `apart`, only built-in data are unpickled."""
    blob, pair = open_blob(blob, loads)
    kind, items = _checked_pair(pair, len(blob))
    if kind == WITH_CLASSES:
        definitions, head = items
        _define(definitions, loads)
        kind, items = _unpickle_pair(head, loads)
    stop = sys.maxsize if count is None else skip + count
    if isinstance(blob, LargeBlob):
        yield True, buffers.pickles_in(items, blob)[skip:stop]
        return
    if isinstance(kind, bool) or kind < 0:
        yield _open(kind, items, loads, skip, stop, apart)
        return
    first = skip // kind
    for at, data in enumerate(items[first : -(-stop // kind)], first):
        inner, values = _unpickle_pair(data, loads)
        start = at * kind
        yield _open(inner, values, loads, max(skip - start, 0), min(stop - start, kind), apart)


def open_blob(blob: Blob, loads: Loads) -> tuple[Blob, object]:
    """The pair that a blob is a pickle of, and the blob, with its buffers apart from its head."""
    pair = loads(buffers.head_of(blob))
    if isinstance(pair, tuple) and pair and pair[0] is JOINED:
        if sum(map(len, pair[1])) > len(blob):
            raise TypeError("more buffers than there are bytes of them")
        blob = buffers.split(pair[1])
        pair = loads(blob.head)
    return blob, pair


def _define(definitions: bytes, loads: Loads) -> None:
    if loads is not pickle.loads:
        raise pickle.UnpicklingError("it has classes by value, which are code")
    from dq.functions import by_value  # here, since few values need it

    by_value.load(definitions)


def _open(
    kind: int, items: list[Any], loads: Loads, start: int, stop: int, apart: bool
) -> tuple[bool, list[Any]]:
    """A part of a piece. If it can neither be unpickled nor taken apart, all of it is bad."""
    if isinstance(kind, bool):
        return kind is EACH_PICKLED, _part(items, start, stop)
    if kind >= 0:
        raise TypeError("a batch in a batch")
    [data], count, stop = items, -kind, min(stop, -kind)
    # A part is taken apart at once, since another value may be the one that kills the process.
    ways = [_load, _split] if stop - start == count else [_split, _load]
    failure: BaseException = Exception("it cannot be taken apart")
    for way in [_split] if apart else ways:
        try:
            return way is _split, way(data, count, start, stop, loads)
        except (Exception, SystemExit) as error:  # a value's own code may raise either
            failure = error if way is _load else failure
    return False, [BadValue(failure)] * (stop - start)


def _load(data: bytes, count: int, start: int, stop: int, loads: Loads) -> list[Any]:
    _, values = _unpickle_pair(data, loads)
    if len(values) != count:
        raise TypeError(f"{len(values)} values, not {count}")
    return _part(values, start, stop)


def _part(values: list[Any], start: int, stop: int) -> list[Any]:
    """Some of the values; the same list if it is all of them, since a copy takes a twentieth of the
    time of a no-op."""
    if not start and stop >= len(values) and type(values) is list:
        return values
    return list(values[start:stop])


def _split(data: bytes, count: int, start: int, stop: int, loads: Loads) -> list[Any]:
    from dq.data.splitting import split  # here, since few values need it

    return split(data, count, start, stop, hostile=loads is not pickle.loads)


def _unpickle_pair(blob: bytes, loads: Loads) -> Pair:
    """The pair that `dump` has pickled. A hostile client may have made up another one, for example
    with an endless range, or with one pickle many times."""
    return _checked_pair(loads(blob), len(blob))


def _checked_pair(pair: object, most: int) -> Pair:
    kind, items = cast("Pair", pair)
    if not isinstance(items, list | tuple) or not isinstance(kind, int):
        raise TypeError("not a batch of values")
    if kind is not AS_IS:
        if kind < 0 and (len(items) != 1 or -kind > len(items[0])):
            raise TypeError("not a batch of so many values")
        if kind != WITH_BUFFERS and sum(map(len, items)) > most:
            raise TypeError("more pickles than there are bytes of them")
    return kind, items
