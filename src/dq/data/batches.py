"""Values as one blob, and back.

A batch is the pickle of a pair, of which the first says what the second is:

    EACH_PICKLED        a list with a pickle of each value
    AS_IS               a list of the values
    CHECK_SHARING       a list of the values, which may share objects that a task could change
    -n                  a list with one batch of n values, which may fail to be unpickled
    n                   a list of batches, each of n values except the last
    WITH_CLASSES        definitions of classes, and a batch that needs them
    WITH_BUFFERS        for each value its pickle, and how many of the blob's buffers it has
    JOINED              the head of a blob with buffers, and the buffers
"""

from __future__ import annotations

import gc
import io
import pickle
import sys
from collections.abc import Iterator, Sequence

from dq._support.frozen import TYPE_CHECKING, cast
from dq.core.blobs import Blob, LargeBlob
from dq.core.records import Failure, Loads
from dq.data.buffers import (
    LargePickle,
    blob_of,
    head_of,
    is_buffer,
    pickles_in,
    split,
    with_head,
)
from dq.data.pickling import SCALARS, Classes, DataPickler, Define, definitions_of, dump_one
from dq.data.sharing import are_unshared, may_share

if TYPE_CHECKING:
    from typing import Any

EACH_PICKLED, AS_IS, CHECK_SHARING = False, True, None
WITH_CLASSES, WITH_BUFFERS, JOINED = 2, 3, 4  # pieces have at least `MIN_PIECE_VALUES`

MAX_PIECE_VALUES = 500  # in one pickle: pickling so many stays within the CPU's cache
MIN_PIECE_VALUES = 10  # in one pickle: larger values gain nothing from being pickled together
SMALL_BYTES = 50_000  # the dicts and sets of a smaller pickle are never refused for their size
CHUNK_VALUES = 20_000  # in memory at a time: in a list of a million each takes twice as long


class BadValue:
    """Stands in for a value that could not be read, and says why."""

    __slots__ = ("failure",)

    def __init__(self, failure: Failure) -> None:
        self.failure = failure


def dump(
    values: Sequence[object], *, check_sharing: bool = True, define: Define | None = None
) -> Blob:
    """Pickle a batch of values, so that one that cannot be unpickled does not affect the others.

    Args:
        values: the batch.
        check_sharing: whether the other end has to check whether two of them share something, as
            it does for inputs, so that no task changes those of another. Results may share.
        define: called with the classes that the other end cannot import, and sends it their
            definitions; None puts these into the blob.

    >>> load(dump([1, "two", (3,)]))
    [1, 'two', (3,)]
    """
    classes: Classes = {}
    blob = _dump(values, check_sharing, classes)
    if classes and define is not None:
        define(classes)
        return blob
    definitions = definitions_of(classes) if classes else b""
    if not definitions:
        return blob
    return with_head(blob, pickle.dumps((WITH_CLASSES, [definitions, head_of(blob)])))


def _dump(values: Sequence[object], check: bool, classes: Classes) -> Blob:
    if not values or (type(values[0]) in SCALARS and not is_buffer(values[0])):
        return _dump_pieces(values, MAX_PIECE_VALUES, check, classes)
    first = LargePickle.of(values[0], classes)
    size = min(SMALL_BYTES // 2 // first.nbytes, MAX_PIECE_VALUES)
    if len(values) == 1 or size < MIN_PIECE_VALUES:
        return _dump_each([first, *[LargePickle.of(value, classes) for value in values[1:]]])
    return _dump_pieces(values, size, check, classes)


def _dump_each(pickles: list[LargePickle]) -> Blob:
    if any(each.buffers for each in pickles):
        return blob_of(pickles, WITH_BUFFERS)
    return pickle.dumps((EACH_PICKLED, [each.pickle for each in pickles]))


def joined(blob: Blob) -> bytes:
    """A blob in one piece, for a file."""
    if isinstance(blob, bytes):
        return blob
    return pickle.dumps((JOINED, [blob.head, *map(bytes, blob.buffers)]))


def open_blob(blob: Blob, loads: Loads) -> tuple[Blob, object]:
    """The pair that a blob is a pickle of, and the blob, with its buffers apart from its head."""
    pair = loads(head_of(blob))
    if isinstance(pair, tuple) and pair[0] is JOINED:
        blob = split(pair[1])
        pair = loads(blob.head)
    return blob, pair


def _dump_pieces(values: Sequence[object], size: int, check: bool, classes: Classes) -> bytes:
    if len(values) <= size:
        return _dump_piece(values, check, classes)
    starts = range(0, len(values), size)
    return pickle.dumps(
        (size, [_dump_piece(values[at : at + size], check, classes) for at in starts])
    )


def _dump_piece(values: Sequence[object], check: bool, classes: Classes) -> bytes:
    if len(values) == 1 and type(values[0]) in SCALARS:
        return pickle.dumps((AS_IS, values))
    # A `DataPickler` is faster from two values on.
    blob = _dump_whole(values, check, classes) if len(values) > 1 else None
    return blob or pickle.dumps((EACH_PICKLED, [dump_one(value, classes) for value in values]))


def _dump_whole(values: Sequence[object], check: bool, classes: Classes) -> bytes | None:
    """The values as one pickle; None where one of them could affect the others."""
    file = io.BytesIO()
    pickler = DataPickler(file, classes)
    try:
        pickler.dump((CHECK_SHARING if check else AS_IS, values))
    except Exception:
        return None
    blob = file.getvalue()
    if pickler.plain_class and set(map(type, values)) != {pickler.plain_class}:
        return None  # if a worker lacks the class, values of other types would be lost too
    if len(blob) > SMALL_BYTES and not are_unshared(values):
        return None
    return pickle.dumps((-len(values), [blob])) if pickler.known else blob


def load(blob: Blob, loads: Loads = pickle.loads) -> list[object]:
    """The inverse of `dump`. A value that cannot be unpickled is a `BadValue`."""
    return load_checked(blob, loads)[0]


def load_checked(blob: Blob, loads: Loads = pickle.loads) -> tuple[list[object], bool]:
    """The values of a batch, and whether one of them is a `BadValue`."""
    values: list[object] = []
    bad = False
    for some, one_is_bad in load_chunks(blob, loads):
        values += some
        bad = bad or one_is_bad
    return values, bad


def load_chunks(
    blob: Blob,
    loads: Loads = pickle.loads,
    skip: int = 0,
    count: int | None = None,
    *,
    unshare: bool = False,
) -> Iterator[tuple[list[object], bool]]:
    """The values of a batch, some at a time, and whether one of these is a `BadValue`.

    Args:
        blob: what `dump` made.
        loads: what unpickles it.
        skip: how many to leave out.
        count: how many to load from there on; None for all.
        unshare: whether to copy the values where two of them share something that can be changed.
    """
    parts = pieces(blob, loads, skip, count)
    while True:
        values: list[object] = []
        bad = copied = False
        with NoCollection():
            for kind, items in parts:
                if kind is EACH_PICKLED:
                    items = [_load_one(item, loads) for item in items]
                elif unshare and kind is not AS_IS and may_share(items, kind is CHECK_SHARING):
                    items, copied = [_copied(item) for item in items], True
                # In a piece that is one pickle, either all values are bad or none is.
                checked = items if kind is EACH_PICKLED or copied else items[:1]
                bad = bad or BadValue in set(map(type, checked))
                values += items
                if copied or len(values) >= CHUNK_VALUES:  # copies may far exceed their pickle
                    break
        if not values:
            return
        yield values, bad


def _copied(value: object) -> object:
    try:
        return pickle.loads(dump_one(value))
    except Exception as error:  # for example, nested too deeply for this stack
        return _bad(error)


def pieces(
    blob: Blob, loads: Loads = pickle.loads, skip: int = 0, count: int | None = None
) -> Iterator[tuple[int | None, list[Any]]]:
    """The pieces of a batch or of a part of it, each with its kind and its values or their pickles.
    The kind of n values that are not all built-in data is -n instead of `CHECK_SHARING`."""
    blob, pair = open_blob(blob, loads)
    size, items = _checked_pair(pair, len(blob))
    if size == WITH_CLASSES:
        definitions, head = items
        _define(definitions, loads)
        size, items = _unpickle_pair(head, loads)
    stop = sys.maxsize if count is None else skip + count
    if isinstance(blob, LargeBlob):
        yield EACH_PICKLED, pickles_in(items, blob)[skip:stop]
        return
    if size is None or isinstance(size, bool) or size < 0:
        kind, values = _open_piece(size, items, loads)
        yield kind, _part(values, skip, stop)
        return
    first = skip // size
    for start, data in enumerate(items[first : -(-stop // size)], first):
        kind, values = _open_piece(*_unpickle_pair(data, loads), loads)
        at = start * size
        yield kind, _part(values, max(skip - at, 0), min(stop - at, size))


def _define(definitions: bytes, loads: Loads) -> None:
    if loads is not pickle.loads:
        raise pickle.UnpicklingError("it has classes by value, which are code")
    from dq.functions import by_value  # here, since few values need it

    by_value.load(definitions)


def _part(values: list[Any], start: int, stop: int) -> list[Any]:
    """A part of a list; the list itself where it is all of it, since `dq.data.sharing` counts the
    references to the values."""
    return values[start:stop] if start or stop < len(values) else values


def _open_piece(size: int | None, items: list[Any], loads: Loads) -> tuple[int | None, list[Any]]:
    """The kind of a piece, and its values or pickles. If it cannot be unpickled, all are bad."""
    if size is None or isinstance(size, bool):
        return size, items
    if size >= 0:
        raise TypeError("a batch in a batch")
    try:
        kind, values = _unpickle_pair(items[0], loads)
        if len(values) != -size:
            raise TypeError(f"{len(values)} values, not {-size}")
    except Exception as error:
        return AS_IS, [_bad(error)] * -size
    return size if kind is CHECK_SHARING else AS_IS, values


def _unpickle_pair(blob: bytes, loads: Loads) -> tuple[int | None, list[Any]]:
    """The pair that `dump` has pickled. A hostile client may have made up another one, for example
    with an endless range, or with one pickle many times."""
    return _checked_pair(loads(blob), len(blob))


def _checked_pair(pair: object, most: int) -> tuple[int | None, list[Any]]:
    size, items = cast("tuple[int | None, list[Any]]", pair)
    if not isinstance(items, list | tuple) or not isinstance(size, int | None):
        raise TypeError("not a batch of values")
    if size is None or size is True:
        return size, items
    if size < 0 and (len(items) != 1 or -size > len(items[0])):
        raise TypeError("not a batch of so many values")
    if size != WITH_BUFFERS and sum(map(len, items)) > most:
        raise TypeError("more pickles than there are bytes of them")
    return size, items


class NoCollection:
    """Turns garbage collection off while entered. Up to Python 3.11 it runs during unpickling,
    which then takes twice as long for rows."""

    def __enter__(self) -> None:
        self._was_enabled = gc.isenabled()
        gc.disable()

    def __exit__(self, *_: object) -> None:
        if self._was_enabled:
            gc.enable()


def _load_one(data: bytes | LargePickle, loads: Loads) -> object:
    try:
        return loads(data) if isinstance(data, bytes) else data.load(loads)
    except Exception as error:
        return _bad(error)


def _bad(error: Exception) -> BadValue:
    text = f"cannot be unpickled: {type(error).__name__}: {error}"
    return BadValue(Failure("UnpicklingError", text))
