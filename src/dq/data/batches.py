"""Values as one blob, and back.

Up to 1,000 values, or some 25 kB of them, are one pickle of a list, whatever their types. What they
share they share at the other end too, as in a chunk of `multiprocessing.Pool`. A value that raises
at the other end, or kills its process, still affects no other: if such a pickle cannot be
unpickled, or only some of its values are wanted, it is taken apart (`splitting`). The format is in
`pieces`.

The alternatives isolate values from the start, and take too long. Nanoseconds to pickle and to
unpickle one of 4,000 values, medians of 15 interleaved runs, Python 3.11:

                          Pool         as here    each its own    a stream, with a
                                                                memo for each value
    integers             7    9       12    12      134    121        164     77
    tuples              41   30       49    34      168    136        180    106
    dicts               63   65       77    69      211    240        231    263
    tuples with dates  379   93      515    92     1124    641       1069    622
    frozen dataclasses 485  199      581   203     1494   1119       1531   1089
    named tuples       577  154      654   152     1501   1135       1545   1112
    enumerations         7    6       18    12     1325   1268       1308   1194
    numpy.float64      901   91     1033    93     3491   1646       3467   1716
"""

from __future__ import annotations

import gc
import io
import pickle
from collections.abc import Iterator, Sequence

from dq._support.frozen import cast
from dq.core.blobs import Blob, LargeBlob
from dq.core.records import Loads
from dq.data.buffers import LargePickle, dump_apart, head_of, is_buffer, with_head
from dq.data.pickling import SCALARS, Buffers, Classes, Define, ValuePickler, definitions_of
from dq.data.pieces import (
    AS_IS,
    EACH_PICKLED,
    JOINED,
    WITH_BUFFERS,
    WITH_CLASSES,
    BadValue,
    pieces,
)

ANYTHING, DATA, NOTHING = "anything", "data", "nothing"  # what shares a pickle

MAX_PIECE_VALUES = 1_000  # in one pickle: with more, taking one apart takes longer than it saves
PIECE_BYTES = 25_000  # in one pickle: pickling and unpickling it stay within the CPU's cache
MIN_PIECE_VALUES = 10  # in one pickle: larger values gain nothing from being pickled together
LARGE_BYTES = PIECE_BYTES // MIN_PIECE_VALUES  # of a value that has its own pickle
SMALL_VALUES = 8  # in a tuple that is looked into
SMALL_BYTES = 50_000  # the dicts and sets of a smaller pickle are never refused for their size
CHUNK_VALUES = 20_000  # in memory at a time: in a list of a million each takes twice as long


def dump(
    values: Sequence[object], *, together: str = ANYTHING, define: Define | None = None
) -> Blob:
    """Pickle a batch of values.

    Args:
        values: the batch.
        together: what shares a pickle: `ANYTHING`; built-in `DATA` alone, so that all other values
            have the pickles that a journal knows them by; or `NOTHING`, so that the values of
            separate calls share nothing.
        define: called with the classes that the other end cannot import, and sends it their
            definitions; None puts these into the blob.

    >>> load(dump([1, "two", (3,)]))
    [1, 'two', (3,)]
    """
    classes: Classes = {}
    blob = _dump(values, together, classes)
    if classes and define is not None:
        define(classes)
        return blob
    definitions = definitions_of(classes) if classes else b""
    if not definitions:
        return blob
    return with_head(blob, pickle.dumps((WITH_CLASSES, [definitions, head_of(blob)])))


def _dump(values: Sequence[object], together: str, classes: Classes) -> Blob:
    if len(values) == 1 and type(values[0]) in SCALARS and not is_buffer(values[0]):
        return pickle.dumps((AS_IS, values))
    if together == NOTHING and len(values) == 1 and _is_small_data(values[0]):
        return pickle.dumps((AS_IS, values))  # a call: 4 µs of 110 less than as below
    if len(values) == 1 or together == NOTHING:
        return _dump_each(values, classes)
    size = min(PIECE_BYTES // _bytes_of_second(values, classes), MAX_PIECE_VALUES)
    if size < MIN_PIECE_VALUES:
        return _dump_each(values, classes)
    starts = range(0, max(len(values), 1), size)
    blobs: list[bytes] = []
    for at in starts:
        blob, is_data = _dump_piece(values[at : at + size], classes)
        blobs.append(blob)
        if together == DATA and not is_data:
            return _dump_each(values, classes)
    if sum(map(len, blobs)) > LARGE_BYTES * max(len(values), 1):
        return _dump_each(values, classes)  # the second value was smaller than most
    return pickle.dumps((size, blobs)) if len(blobs) > 1 else blobs[0]


def _is_small_data(value: object) -> bool:
    """Whether a value is a scalar or has a few of them, so that it can always be loaded."""
    kind = type(value)
    if kind in SCALARS:
        return not is_buffer(value)
    if kind is tuple:
        items = cast("tuple[object, ...]", value)
        return len(items) <= SMALL_VALUES and all(map(_is_small_data, items))
    return kind is dict and not value


def _bytes_of_second(values: Sequence[object], classes: Classes) -> int:
    """How many bytes the second value adds to a pickle that has the first, where names of classes
    and what both share already are; or how many the first one has, if that is large."""
    if len(values) < 2:
        return 1
    first = LargePickle.of(values[0], classes).nbytes
    if first > PIECE_BYTES:
        return first
    return max(LargePickle.of(values[:2], classes).nbytes - first, 1)


def _dump_piece(values: Sequence[object], classes: Classes) -> tuple[bytes, bool]:
    """A piece, and whether it is small built-in data, which can always be loaded."""
    file = io.BytesIO()
    pickler = ValuePickler(file, classes)
    pickler.dump((AS_IS, values))
    blob = file.getvalue()
    if pickler.is_data and len(blob) <= SMALL_BYTES:
        return blob, True
    return pickle.dumps((-len(values), [blob])), False


def _dump_each(values: Sequence[object], classes: Classes) -> Blob:
    buffers: Buffers = []
    pickles, ends = [], []
    for value in values:
        pickles.append(dump_apart(value, classes, buffers))
        ends.append(len(buffers))
    if not buffers:
        return pickle.dumps((EACH_PICKLED, pickles))
    return LargeBlob(
        pickle.dumps((WITH_BUFFERS, list(zip(pickles, ends, strict=True)))), tuple(buffers)
    )


def joined(blob: Blob) -> bytes:
    """A blob in one piece, for a file."""
    if isinstance(blob, bytes):
        return blob
    return pickle.dumps((JOINED, [blob.head, *map(bytes, blob.buffers)]))


def load(blob: Blob, loads: Loads = pickle.loads) -> list[object]:
    """The inverse of `dump`. A value that cannot be unpickled is a `BadValue`."""
    return load_checked(blob, loads)[0]


def load_checked(blob: Blob, loads: Loads = pickle.loads) -> tuple[list[object], bool]:
    """The values of a batch, and whether one of them is a `BadValue`."""
    values: list[object] = []
    bad = False
    for some, one_is_bad in load_chunks(blob, loads):
        if values:
            values += some
        else:
            values = some
        bad = bad or one_is_bad
    return values, bad


def load_chunks(
    blob: Blob, loads: Loads = pickle.loads, skip: int = 0, count: int | None = None
) -> Iterator[tuple[list[object], bool]]:
    """The values of a batch, some at a time, and whether one of these is a `BadValue`.

    Args:
        blob: what `dump` made.
        loads: what unpickles it.
        skip: how many to leave out.
        count: how many to load from there on; None for all.
    """
    parts = pieces(blob, loads, skip, count)
    while True:
        values: list[object] = []
        bad = False
        with NoCollection():
            for pickled, items in parts:
                if pickled:
                    items = [_load_one(item, loads) for item in items]
                # In a piece that is one pickle, either all values are bad or none is.
                bad = bad or BadValue in set(map(type, items if pickled else items[:1]))
                if values:
                    values += items
                else:
                    values = items
                if len(values) >= CHUNK_VALUES:
                    break
        if not values:
            return
        yield values, bad


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
    except (Exception, SystemExit) as error:  # its own code may raise either
        return BadValue(error)
