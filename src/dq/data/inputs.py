"""Inputs: streams of lines or values into batches, and batches back into values.

The master only cuts and pickles; `Decoder`, in the worker, parses. A line of text is pickled as
the bytes it was read as.
"""

from __future__ import annotations

import copyreg
import csv
import gc
import io
import itertools
import json
import os
import pickle
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence

from dq._support.frozen import TYPE_CHECKING, cast
from dq._support.naming import setting
from dq.core.records import Failure, Loads, Reading
from dq.errors import BadInput
from dq.functions import by_value_classes, importable

if TYPE_CHECKING:
    from typing import Any, NoReturn

Found = dict[str, type]  # classes that go by value, by their names on the wire
Define = Callable[[Found], None]

# Types whose values unpickle anywhere and cannot fail. A batch of these, in containers or not, is
# pickled as one list, which is up to ten times as fast as each by itself.
SCALARS = frozenset({int, float, str, bytes, bool, type(None)})
DATA = SCALARS | {tuple, list, dict, set, frozenset}
# And others such, by name, since few programs import them all.
LEAVES = {
    "builtins": {"complex"},
    "datetime": {"date", "datetime", "time", "timedelta", "timezone"},
    "decimal": {"Decimal"},
    "fractions": {"Fraction"},
    "uuid": {"UUID"},
}
LARGEST_ROW = 1000  # items of a container that goes with others: a huge dict may be refused there
MOST_PARTS = 100_000  # that are looked at: tuples may have the same one very many times over
PIECE = 500  # values of a batch in one pickle: what pickling and looking at them needs is cached
FEWEST = 10  # the same; larger ones gain nothing by it
SMALL = 50_000  # bytes of a pickle in which no dict or set has so many keys that it is refused
CHUNK = 20_000  # values in memory at a time: of a million in one list each takes twice as long
ALONE = max(map(sys.getrefcount, [object()]))  # references to what only its list has

# What a piece of a batch is: a pickle for each value; the values as they are; the values, which may
# share what one task could change under another.
EACH, AS_IS, LOOK = False, True, None
# In place of a piece's size, which is larger: definitions of classes, and the blob that needs them.
CLASSES = 2

LARGEST_CELL = 1 << 30  # characters


def dump(values: Sequence[object], *, apart: bool = True, define: Define | None = None) -> bytes:
    """Pickle a batch of values, so that one that can't be unpickled spoils only itself.

    Args:
        values: the batch.
        apart: whether who loads it is to look for what two of them share, where tasks get them, so
            that none can change it under another. Results may share it, as in one process.
        define: given the classes that the other end could not import, to see to it that it has
            them; None has their definitions go with the batch.

    >>> load(dump([1, "two", (3,)]))
    [1, 'two', (3,)]
    """
    found: Found = {}
    blob = _dump(values, apart, found)
    if found and define is not None:
        define(found)
        return blob
    definitions = _definitions(found) if found else b""
    return pickle.dumps((CLASSES, [definitions, blob])) if definitions else blob


def _dump(values: Sequence[object], apart: bool, found: Found) -> bytes:
    if len(values) < 2 or type(values[0]) in SCALARS:
        return _dump_pieces(values, PIECE, apart, found)
    first = dump_one(values[0], found)
    size = min(SMALL // 2 // len(first), PIECE)
    if size < FEWEST:
        rest = [dump_one(value, found) for value in values[1:]]
        return pickle.dumps((EACH, [first, *rest]))
    return _dump_pieces(values, size, apart, found)


def _dump_pieces(values: Sequence[object], size: int, apart: bool, found: Found) -> bytes:
    if len(values) <= size:
        return _dump_piece(values, apart, found)
    starts = range(0, len(values), size)
    return pickle.dumps(
        (size, [_dump_piece(values[at : at + size], apart, found) for at in starts])
    )


def _dump_piece(values: Sequence[object], apart: bool, found: Found) -> bytes:
    if len(values) == 1 and type(values[0]) in SCALARS:
        return pickle.dumps((AS_IS, values))
    # It pays from the second on.
    blob = _dump_whole(values, apart, found) if len(values) > 1 else None
    return blob or pickle.dumps((EACH, [dump_one(value, found) for value in values]))


def _dump_whole(values: Sequence[object], apart: bool, found: Found) -> bytes | None:
    """The values as one pickle; None where one could spoil others, or change what is theirs."""
    file = io.BytesIO()
    pickler = _DataPickler(file, found)
    try:
        pickler.dump((LOOK if apart else AS_IS, values))
    except Exception:
        return None
    blob = file.getvalue()
    if pickler.kind and set(map(type, values)) != {pickler.kind}:
        return None  # without the class, others would be lost
    if len(blob) > SMALL and not _are_apart(values):
        return None
    return pickle.dumps((-len(values), [blob])) if pickler.known else blob


class _DataPickler(pickle.Pickler):
    """Pickles built-in data, `LEAVES` and objects of one plain class, down to the last; anything
    else it refuses. For built-in data this costs nothing, where a look at the types of a row's
    items takes half as long as pickling it."""

    def __init__(self, file: io.BytesIO, found: Found) -> None:
        super().__init__(file, 4)  # in which a bytearray is an object: it may be there twice
        self.found = found
        self.known: set[type] = set()
        self.kind: type | None = None  # the class

    def reducer_override(self, item: object) -> Any:
        if type(item) in self.known:
            return NotImplemented
        kind = item if isinstance(item, type) else type(item)
        if kind in self.known or self._admits(kind):
            return _reduced(item, self.found) if kind is item else NotImplemented
        if item is by_value_classes.class_named:  # how a class by value is pickled
            return NotImplemented
        raise pickle.PicklingError(f"{kind.__name__} is no data")

    def _admits(self, kind: type) -> bool:
        if not _is_leaf(kind):
            if self.kind or not _is_plain(kind):
                return False
            self.kind = kind
        self.known.add(kind)
        return True


def _is_leaf(kind: type) -> bool:
    return kind.__qualname__ in LEAVES.get(kind.__module__, ())


# What a class, or an object of it, would have where pickles run code of its own.
_OWN_WAYS = ("__setstate__", "__getnewargs__", "__getnewargs_ex__", "__getattr__", "__del__")
_PLAIN_WAYS = ("__new__", "__reduce__", "__reduce_ex__", "__getattribute__", "__getstate__")


def _is_plain(kind: type) -> bool:
    """Whether objects of a class are no more than attributes in a `__dict__`, so that to unpickle
    them runs no code but the import of its module, and to copy them none either."""
    own_hash: object = kind.__hash__
    return (
        type(kind) is type
        and kind.__dictoffset__ != 0
        and (own_hash is None or own_hash is object.__hash__)
        and not any(hasattr(kind, name) for name in _OWN_WAYS)
        and all(getattr(kind, way, 0) is getattr(object, way, 0) for way in _PLAIN_WAYS)
        and all(map(_has_plain_attributes, kind.__mro__))
        and kind not in copyreg.dispatch_table
    )


def _has_plain_attributes(kind: type) -> bool:
    own = vars(kind)
    slots = own.get("__slots__") or own.get("__slotnames__")
    return not slots and type(own.get("__dict__", _GETSET)) is type(_GETSET)


_GETSET = vars(type)["__dict__"]  # what gives an object its `__dict__`, where nothing else does


def _are_apart(values: Sequence[object]) -> bool:
    """Whether these are scalars, or containers and plain objects of such, down to the last, and no
    list, dict or object is there twice. What else there is, a `_DataPickler` has refused."""
    seen: set[int] = set()
    left = MOST_PARTS
    parts: Sequence[Any] = values
    while True:
        types = set(map(type, parts))
        inner = _containers_of(types)
        if not inner <= DATA:
            parts = [_inside(part) for part in parts]
            types = set(map(type, parts))
            inner = _containers_of(types)
            if not inner <= DATA:  # a class, as a value
                return False
        if not inner:
            return True
        containers = parts if inner == types else _of(inner, parts)
        sizes = list(map(len, containers))
        left -= sum(sizes) + 1
        if max(sizes) > LARGEST_ROW or left < 0:
            return False
        mutable = _of(inner - {tuple}, parts) if tuple in inner else containers
        before = len(seen)
        seen.update(map(id, mutable))
        if len(seen) - before < len(mutable):
            return False
        parts = _parts_of(containers, inner)


def _containers_of(types: set[type]) -> set[type]:
    return {kind for kind in types - SCALARS if not _is_leaf(kind)}


def _inside(part: object) -> object:
    """An object is its attributes."""
    return part if type(part) in DATA or _is_leaf(type(part)) else vars(part)


def _parts_of(containers: Sequence[Any], types: set[type]) -> Sequence[Any]:
    """All that is in containers of these types, in one call: 12 ns an item, where to iterate over
    the containers takes three times as long. It leaves out the keys of a dict that has none but
    of type `str`."""
    if dict not in types or sys.version_info < (3, 13):
        return gc.get_referents(*containers)
    # From 3.13 on it leaves out the values as well, where the dict is an object's `__dict__`.
    dicts = _of({dict}, containers)
    values = itertools.chain.from_iterable(map(dict.values, dicts))
    others = gc.get_referents(*_of(types - {dict}, containers))
    return [*others, *itertools.chain.from_iterable(dicts), *values]


def _of(types: set[type], parts: Sequence[Any]) -> Sequence[Any]:
    return [part for part in parts if type(part) in types] if types else ()


class _Pickler(pickle.Pickler):
    """Pickles anything; by value what the other end could not import."""

    def __init__(self, file: io.BytesIO, found: Found) -> None:
        super().__init__(file)
        self.found = found

    def reducer_override(self, item: object) -> Any:
        return _reduced(item, self.found)


def _reduced(item: object, found: Found) -> Any:
    if importable.is_by_reference(item):
        return NotImplemented
    from dq.functions import by_value  # here, since few values need it

    return by_value.reduce_reference(item, found)


def _definitions(found: Found) -> bytes:
    from dq.functions import sending  # as above

    return sending.definitions_of(found.values())


def dump_one(value: object, found: Found | None = None) -> bytes:
    """Pickle a value.

    Args:
        value: the value.
        found: takes the classes in it that the other end could not import.
    """
    file = io.BytesIO()
    _Pickler(file, {} if found is None else found).dump(value)
    return file.getvalue()


def load(blob: bytes, loads: Loads = pickle.loads) -> list[object]:
    """The values of a batch; the inverse of `dump`. One that can't be unpickled is a `Bad`."""
    return load_checked(blob, loads)[0]


def load_checked(blob: bytes, loads: Loads = pickle.loads) -> tuple[list[object], bool]:
    """The values of a batch, and whether one of them is a `Bad`."""
    values: list[object] = []
    bad = False
    for some, one_is_bad in load_chunks(blob, loads):
        values += some
        bad = bad or one_is_bad
    return values, bad


def load_chunks(
    blob: bytes,
    loads: Loads = pickle.loads,
    skip: int = 0,
    count: int | None = None,
    *,
    apart: bool = False,
) -> Iterator[tuple[list[object], bool]]:
    """The values of a batch, some at a time, and whether one of these is a `Bad`.

    Args:
        blob: what `dump` made.
        loads: what unpickles it.
        skip: how many to leave out.
        count: how many to load from there on; None for all.
        apart: whether each is to have a copy of its own of what two of them share.
    """
    parts = pieces(blob, loads, skip, count)
    while True:
        values: list[object] = []
        bad = copied = False
        with _Uncollected():
            for kind, items in parts:
                if kind is EACH:
                    items = [_load_one(item, loads) for item in items]
                elif apart and kind is not AS_IS and not _share_nothing(items, kind is LOOK):
                    items, copied = [_copied(item) for item in items], True
                # Of a whole piece all are, or none.
                bad = bad or Bad in set(map(type, items if kind is EACH or copied else items[:1]))
                values += items
                if copied or len(values) >= CHUNK:  # copies may be larger than their pickle by far
                    break
        if not values:
            return
        yield values, bad


def _share_nothing(values: list[Any], built_in: bool) -> bool:
    """Whether values fresh from a pickle have nothing in common that a task could change. To look
    for it here is cheaper than before pickling them, and the master has less to do."""
    return (
        len(values) < 2
        or (built_in and _are_numbers(values))
        or _are_alone(values)
        or _are_apart(values)
    )


def _are_numbers(values: list[Any]) -> bool:
    """Whether built-in data are nothing but numbers. To add them up takes 4 ns each, where to look
    at their types takes 18; with others there it would be their own code."""
    try:
        sum(values)
    except (TypeError, OverflowError):
        return False
    return True


def _are_alone(values: list[Any]) -> bool:
    """Whether these are tuples and dicts of scalars, each there once. The garbage collector knows
    that they are in no cycle, of tuples once it has come by: that is a third of what it takes to
    look into them."""
    if type(values[0]) is tuple:
        gc.collect(0)
    return not any(map(gc.is_tracked, values)) and max(map(sys.getrefcount, values)) <= ALONE


def _copied(value: object) -> object:
    try:
        return pickle.loads(dump_one(value))
    except Exception as error:  # deeper than the stack, say, which the master may have made larger
        return _bad(error)


def pieces(
    blob: bytes, loads: Loads = pickle.loads, skip: int = 0, count: int | None = None
) -> Iterator[tuple[int | None, list[Any]]]:
    """The pieces of a batch, or of a part of it: what each is, and its values or their pickles; of
    those with more than built-in data, how many less than none they are, in place of `LOOK`."""
    size, items = _pair(blob, loads)
    if size == CLASSES:
        definitions, blob = items
        _define(definitions, loads)
        size, items = _pair(blob, loads)
    stop = sys.maxsize if count is None else skip + count
    if size is None or isinstance(size, bool) or size < 0:
        kind, values = _opened(size, items, loads)
        yield kind, _cut(values, skip, stop)
        return
    first = skip // size
    for start, data in enumerate(items[first : -(-stop // size)], first):
        kind, values = _opened(*_pair(data, loads), loads)
        at = start * size
        yield kind, _cut(values, max(skip - at, 0), min(stop - at, size))


def _define(definitions: bytes, loads: Loads) -> None:
    if loads is not pickle.loads:
        raise pickle.UnpicklingError("it has classes by value, which are code")
    from dq.functions import by_value  # here, since few values need it

    by_value.load(definitions)


def _cut(values: list[Any], start: int, stop: int) -> list[Any]:
    """A part; all of it as it is, so that the values are in no other list, see `_are_alone`."""
    return values[start:stop] if start or stop < len(values) else values


def _opened(size: int | None, items: list[Any], loads: Loads) -> tuple[int | None, list[Any]]:
    """A piece: as it is, or of values that may need what is not there. Then none of them is."""
    if size is None or isinstance(size, bool):
        return size, items
    if size >= 0:
        raise TypeError("a batch in a batch")
    try:
        kind, values = _pair(items[0], loads)
        if len(values) != -size:
            raise TypeError(f"{len(values)} values, not {-size}")
    except Exception as error:
        return AS_IS, [_bad(error)] * -size
    return size if kind is LOOK else AS_IS, values


def _pair(blob: bytes, loads: Loads) -> tuple[int | None, list[Any]]:
    """What `dump` made, or who made up something else: a range, say, that has no end, or one
    pickle many times over."""
    size, items = cast("tuple[int | None, list[Any]]", loads(blob))
    if not isinstance(items, list | tuple) or not isinstance(size, int | None):
        raise TypeError("not a batch of values")
    if size is None or size is True:
        return size, items
    if size < 0 and (len(items) != 1 or -size > len(items[0])):
        raise TypeError("not a batch of so many values")
    if sum(map(len, items)) > len(blob):
        raise TypeError("more pickles than there are bytes of them")
    return size, items


class _Uncollected:
    """No search for garbage meanwhile: up to 3.11 it goes on in the midst of an unpickler, which
    then takes twice as long for rows."""

    def __enter__(self) -> None:
        self._collects = gc.isenabled()
        gc.disable()

    def __exit__(self, *_: object) -> None:
        if self._collects:
            gc.enable()


def _load_one(data: bytes, loads: Loads) -> object:
    try:
        return loads(data)
    except Exception as error:
        return _bad(error)


def _bad(error: Exception) -> Bad:
    text = f"cannot be unpickled: {type(error).__name__}: {error}"
    return Bad(Failure("UnpicklingError", text))


class Bad:
    """Stands for a value that could not be had, and says why."""

    __slots__ = ("failure",)

    def __init__(self, failure: Failure) -> None:
        self.failure = failure


class _Revoked:
    """Stands for an input that nobody is to have any more: it cannot be pickled."""

    def __reduce__(self) -> NoReturn:
        raise pickle.PicklingError("it was cancelled")


REVOKED = _Revoked()
MISSING = _Revoked()  # an input that a list no longer had when its turn came
GONE = Failure("IndexError", "the list of inputs has become shorter since")
CANCELLED = Failure("CancelledError", "it was cancelled")


def encode(
    items: list[object], limit: int, what: str = "input", define: Define | None = None
) -> Iterator[tuple[int, bytes | Failure]]:
    """Pickle a batch, in several parts where one item can't be pickled or it is over the limit.

    Args:
        items: the values.
        limit: bytes that a part may have.
        what: how to call an item in the failure of one that is over the limit by itself.
        define: as for `dump`.

    Yields:
        How many items a part stands for, and its blob, or why there is none.
    """
    try:
        blob = dump(items, define=define)
    except Exception as error:
        if len(items) == 1:
            if items[0] is REVOKED or items[0] is MISSING:
                yield 1, CANCELLED if items[0] is REVOKED else GONE
                return
            message = f"this {what} cannot be pickled: {error}"
            yield 1, Failure(type(error).__name__, message)
            return
    else:
        if len(blob) <= limit:
            yield len(items), blob
            return
        if len(items) == 1:
            name = setting("max_message")
            text = f"this {what} has {len(blob)} bytes, over the limit of {limit} ({name})"
            yield 1, Failure("InputTooLarge", text)
            return
    half = len(items) // 2
    yield from encode(items[:half], limit, what, define)
    yield from encode(items[half:], limit, what, define)


class Decoder:
    """What a worker makes of the items of a batch.

    Args:
        reading: how.
        loads: what unpickles the blob.

    >>> Decoder(Reading("lines")).decode(dump([b"12\\n", b"twelve", b'{"a": 1}']), 0, 3)
    [12, 'twelve', {'a': 1}]
    """

    def __init__(self, reading: Reading, loads: Loads = pickle.loads) -> None:
        self._loads = loads
        self._fields = reading.fields
        self._field = reading.field
        self._delimiter = reading.delimiter
        cell = str if reading.raw else value_of
        parsers: dict[str, Callable[[bytes], object]] = {
            "lines": lambda line: value_of(_name(line)),
            "raw": _name,
            "jsonl": lambda line: _json(text_of(line)),
            "csv": lambda line: self._row(text_of(line), cell),
        }
        self._parse = parsers.get(reading.kind)
        self._is_json = reading.kind in ("lines", "jsonl")

    def decode(self, blob: bytes, skip: int, count: int) -> list[object]:
        """`count` values from the one after `skip` on; a `Bad` where there is no value."""
        return [value for values, _ in self.chunks(blob, skip, count) for value in values]

    def chunks(self, blob: bytes, skip: int, count: int) -> Iterator[tuple[list[object], bool]]:
        """The same some at a time, and whether one of these is a `Bad`. What a task can change in
        one of them it has not in common with another."""
        if self._parse is None:
            yield from load_chunks(blob, self._loads, skip, count, apart=True)
            return
        for lines, _ in load_chunks(blob, self._loads, skip, count):
            with _Uncollected():
                values = self._parse_all(lines)
                if self._field:
                    values = [_field_of(value, self._field) for value in values]
            yield values, Bad in set(map(type, values))

    def _parse_all(self, items: list[object]) -> list[object]:
        assert self._parse is not None
        parse = self._parse
        if self._is_json and (values := _parse_at_once(items)) is not None:
            return values
        try:
            return [parse(item) for item in items]  # type: ignore[arg-type]  # lines are bytes
        except (AttributeError, BadInput, ValueError, RecursionError):
            return [_parse_one(parse, item) for item in items]  # type: ignore[arg-type]

    def _row(self, line: str, cell: Callable[[str], object]) -> dict[str, object]:
        row = cells(line, self._delimiter)
        if len(row) != len(self._fields):
            raise BadInput(f"has {len(row)} cells, the header has {len(self._fields)}")
        return {field: cell(value) for field, value in zip(self._fields, row, strict=True)}


def _field_of(record: object, field: str) -> object:
    if isinstance(record, Bad):
        return record
    if isinstance(record, dict) and field in record:
        return record[field]
    return Bad(Failure("BadInput", f"has no field {field!r}"))


def cells(record: str, delimiter: str = ",") -> list[str]:
    """The cells of a CSV record.

    Raises:
        BadInput: it is none.
    """
    csv.field_size_limit(LARGEST_CELL)  # of the module's own 131,072 characters one thinks too late
    try:
        # Strictly: else an open quote would pass.
        return next(csv.reader([record], delimiter=delimiter, strict=True), [])
    except csv.Error as error:
        reason, *_ = str(error).split(" - ")  # then comes advice to who calls csv
        raise BadInput(f"is not CSV: {reason}") from None


# Nobody who writes a line can know it.
_BETWEEN = str(int.from_bytes(os.urandom(8), "big"))
_COMMAS = f',"{_BETWEEN}",'.encode()


def _parse_at_once(lines: list[object]) -> list[object] | None:
    """The values of lines of JSON, parsed as one list: five to ten times as fast as one by one.
    None where not each of them is JSON by itself.

    Between two lines stands a word that is in neither. When each second value is that word, and
    there are no others, then a line is one value: one that is half of a value, or two of them, has
    the word within a value or in a wrong place.
    """
    try:
        text = b"[%b]" % _COMMAS.join(lines)  # type: ignore[arg-type]  # bytes, or None if too large
        decoder = json_decoder if _may_overflow(text, lines) else _faster
        values = cast("list[object]", decoder.decode(text.decode()))
    except (TypeError, ValueError, RecursionError):
        return None
    words = len(lines) - 1
    if len(values) != len(lines) + words or values[1::2] != [_BETWEEN] * words:
        return None
    return values[::2]


def _may_overflow(text: bytes, lines: list[object]) -> bool:
    """Whether there may be a number in it that no float holds: to ask that of each takes longer
    than to read it."""
    if b"e" in text or b"E" in text:
        return True
    most = sys.float_info.max_10_exp
    return b"." in text and max(map(len, lines)) > most  # type: ignore[arg-type]  # bytes


def _parse_one(parse: Callable[[bytes], object], line: bytes) -> object:
    if not isinstance(line, bytes):
        return line  # None, for one that was too large to be sent
    try:
        return parse(line)
    except (BadInput, ValueError, RecursionError) as error:
        return Bad(Failure("BadInput", str(error)))


def text_of(line: bytes) -> str:
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        byte = line[error.start]
        raise BadInput(f"is not UTF-8 (byte 0x{byte:02x} at column {error.start + 1})") from None
    return _without_end(text)


def _name(line: bytes) -> str:
    """A line that may be a file's name, in whatever encoding: what is not UTF-8 in it stands as
    `os.fsdecode` has it, and goes out again as it came."""
    return _without_end(line.decode(errors="surrogateescape"))


def _without_end(text: str) -> str:
    return text[:-2] if text.endswith("\r\n") else text.removesuffix("\n")


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")  # Python's json would take NaN and Infinity


def _float(text: str) -> float | str:
    """A number with a fraction or an exponent; as it is written, where a float would be infinite:
    that could not be written as JSON again."""
    value = float(text)
    return value if value - value == 0 else text


json_decoder = json.JSONDecoder(parse_constant=_no_constant, parse_float=_float)
_faster = json.JSONDecoder(parse_constant=_no_constant)
_FIRST = frozenset('[{"-0123456789tfn \t\n\r')  # characters with which JSON may begin


def value_of(text: str) -> object:
    """JSON where it parses as JSON, a plain string where it does not.

    >>> value_of("1e3"), value_of("NaN"), value_of("[1, 2]"), value_of("007"), value_of("1e999")
    (1000.0, 'NaN', [1, 2], '007', '1e999')
    """
    if text and text[0] not in _FIRST:
        return text  # a name, say: to have the decoder raise costs eight times as much
    try:
        return json_decoder.decode(text)
    except (ValueError, RecursionError):
        return text


def _json(text: str) -> object:
    try:
        return json_decoder.decode(text)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"is not JSON: {error}") from None


AT_HAND = (list, tuple, range)


class Source:
    """Inputs on their way from an iterable to batches.

    `take` never waits: what an iterator has to be waited for is read ahead by `feed`, in a
    thread of its own, into a buffer that both use without a lock (a deque is safe for one that
    appends and others that pop).

    Args:
        inputs: a list, tuple or range, whose length is known and whose items are at hand, or any
            iterable. Another kind of sequence may compute its items, or read them from somewhere.
    """

    def __init__(self, inputs: Iterable[object]) -> None:
        self._items = iter(inputs)
        self.length = len(inputs) if type(inputs) in AT_HAND else None  # type: ignore[arg-type]
        self.buffer: deque[object] = deque()

    def take(self, count: int) -> list[object]:
        """The next `count` inputs, all of which are known to be there."""
        if self.length is not None:
            items = list(itertools.islice(self._items, count))
            return items + [MISSING] * (count - len(items))
        pop = self.buffer.popleft
        return [pop() for _ in range(count)]

    def read(self, count: int) -> bool:
        """Read up to `count` inputs ahead, however long that takes; False at the end."""
        for item in self._items:
            self.buffer.append(item)
            self.buffer.extend(itertools.islice(self._items, count - 1))
            return True
        return False
