"""Inputs: streams of lines or values into batches, and batches back into values.

The master only cuts and pickles; `Decoder`, in the worker, parses. A line of text is pickled as
the bytes it was read as.
"""

from __future__ import annotations

import bisect
import csv
import itertools
import json
import os
import pickle
import re
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence

from dq.errors import BadInput
from dq.light import TYPE_CHECKING, cast
from dq.records import Failure, Loads

if TYPE_CHECKING:
    from typing import Any, BinaryIO


# Types whose values unpickle anywhere and cannot fail: a batch of them, or of containers of them,
# is pickled as one list, which is five times as fast as each by itself.
SCALARS = frozenset({int, float, str, bytes, bool, type(None)})
LARGEST_ROW = 1000  # keys of a dict that goes with others: a huge one may be refused where it goes

STDIN = "standard input"
LONGEST_RECORD = 1 << 20  # bytes of a CSV record over several lines
BOM = b"\xef\xbb\xbf"  # that Windows programs put in front of UTF-8


def dump(values: Sequence[object]) -> bytes:
    """Pickle a batch of values, so that one that can't be unpickled spoils only itself.

    >>> load(dump([1, "two", (3,)]))
    [1, 'two', (3,)]
    """
    if _is_flat(values):
        return pickle.dumps((True, values))
    return pickle.dumps((False, [dump_one(value) for value in values]))


def _is_flat(values: Sequence[object]) -> bool:
    """Whether these are scalars, or tuples, lists or dicts of scalars: what can always be
    unpickled, and shares nothing that a task could change under another. One by one they would
    take 0.4 µs each to pickle, five times as long as what is looked at here."""
    types = set(map(type, values))  # 12 ns a value; SCALARS.issuperset without, 20 up to 3.12
    if SCALARS.issuperset(types):
        return True
    if types not in ({tuple}, {list}, {dict}):
        return False
    if types != {tuple} and len(set(map(id, values))) < len(values):
        return False
    rows = cast("Sequence[Iterable[object]]", values)
    if not _are_scalars(itertools.chain.from_iterable(rows)):  # of dicts, the keys
        return False
    if types != {dict}:
        return True
    dicts = cast("Sequence[dict[object, object]]", values)
    return max(map(len, dicts)) <= LARGEST_ROW and _are_scalars(
        itertools.chain.from_iterable(map(dict.values, dicts))
    )


def _are_scalars(parts: Iterable[object]) -> bool:
    return SCALARS.issuperset(set(map(type, parts)))


def dump_one(value: object) -> bytes:
    """Pickle a value; by value, where it is of a class that the other end could not import."""
    try:
        data = pickle.dumps(value)
    except Exception as error:
        if "__main__" not in str(error):
            raise
        return _dump_by_value(value, error)
    main = sys.modules.get("__main__")
    if b"__main__" not in data or getattr(main, "__file__", None) is not None:
        return data
    return _dump_by_value(value)


def _dump_by_value(value: object, error: Exception | None = None) -> bytes:
    try:
        import cloudpickle  # type: ignore[import-untyped, unused-ignore]  # an extra without types
    except ImportError:
        raise pickle.PicklingError(
            f"{error or 'its class is defined in a REPL or python -c'}; pip install"
            " 'dq-toolkit[closures]' to send it by value"
        ) from None
    data: bytes = cloudpickle.dumps(value)
    return data


def load(blob: bytes, loads: Loads = pickle.loads) -> list[object]:
    """The values of a batch; the inverse of `dump`. One that can't be unpickled is a `Bad`."""
    return load_checked(blob, loads)[0]


def load_checked(blob: bytes, loads: Loads = pickle.loads) -> tuple[list[object], bool]:
    """The values of a batch, and whether one of them is a `Bad`."""
    whole, values = _pair(loads(blob))
    if whole:
        return values, False  # not looked at: that would be a tenth of what a short task costs
    values = [_load_one(value, loads) for value in values]
    return values, Bad in set(map(type, values))


def _pair(loaded: object) -> tuple[bool, list[Any]]:
    """What `dump` made, or who made up something else: a range, say, that has no end."""
    whole, values = cast("tuple[bool, list[Any]]", loaded)
    if not isinstance(values, (list, tuple, deque)):
        raise TypeError("not a batch of values")
    return whole, values


def _load_one(data: bytes, loads: Loads) -> object:
    try:
        return loads(data)
    except Exception as error:
        return Bad(
            Failure("UnpicklingError", f"cannot be unpickled: {type(error).__name__}: {error}")
        )


class Bad:
    """Stands for a value that could not be had, and says why."""

    __slots__ = ("failure",)

    def __init__(self, failure: Failure) -> None:
        self.failure = failure


def encode(
    items: list[object], limit: int, what: str = "input"
) -> Iterator[tuple[int, bytes | Failure]]:
    """Pickle a batch, in several parts where one item can't be pickled or it is over the limit.

    Args:
        items: the values.
        limit: bytes that a part may have.
        what: how to call an item in the failure of one that is over the limit by itself.

    Yields:
        How many items a part stands for, and its blob, or why there is none.
    """
    try:
        blob = dump(items)
    except Exception as error:
        if len(items) == 1:
            message = f"this {what} cannot be pickled: {error}"
            yield 1, Failure(type(error).__name__, message)
            return
    else:
        if len(blob) <= limit:
            yield len(items), blob
            return
        if len(items) == 1:
            text = f"this {what} has {len(blob)} bytes, over the limit of {limit} (--max-message)"
            yield 1, Failure("InputTooLarge", text)
            return
    half = len(items) // 2
    yield from encode(items[:half], limit, what)
    yield from encode(items[half:], limit, what)


class Decoder:
    """What a worker makes of the items of a batch.

    Args:
        kind: "values", "lines" (JSON or else a plain string), "raw" (strings), "jsonl", "csv".
        fields: names of the columns, for "csv".
        raw: whether cells stay strings, for "csv".
        loads: what unpickles the blob.

    >>> Decoder("lines").decode(dump([b"12\\n", b"twelve", b'{"a": 1}']), 0, 3)
    [12, 'twelve', {'a': 1}]
    """

    def __init__(
        self, kind: str, fields: Sequence[str] = (), raw: bool = False, loads: Loads = pickle.loads
    ) -> None:
        self._loads = loads
        self._fields = fields
        cell = str if raw else value_of
        parsers: dict[str, Callable[[bytes], object]] = {
            "lines": lambda line: value_of(_text(line)),
            "raw": _text,
            "jsonl": lambda line: _json(_text(line)),
            "csv": lambda line: self._row(_text(line), cell),
        }
        self._parse = parsers.get(kind)
        self._is_json = kind in ("lines", "jsonl")

    def decode(self, blob: bytes, skip: int, count: int) -> list[object]:
        """`count` values from the one after `skip` on; a `Bad` where there is no value."""
        return self.decode_checked(blob, skip, count)[0]

    def decode_checked(self, blob: bytes, skip: int, count: int) -> tuple[list[object], bool]:
        """The same, and whether one of them is a `Bad`."""
        items, bad = load_checked(blob, self._loads)
        if skip or count != len(items):
            items = items[skip : skip + count]
        if self._parse is None:
            return items, bad
        items = self._parse_all(items)
        return items, Bad in set(map(type, items))

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
        row = _cells(line)
        if len(row) != len(self._fields):
            raise BadInput(f"has {len(row)} cells, the header has {len(self._fields)}")
        return {field: cell(value) for field, value in zip(self._fields, row, strict=True)}


def _cells(record: str) -> list[str]:
    try:
        return next(csv.reader([record], strict=True), [])  # else an open quote would pass
    except csv.Error as error:
        reason, *_ = str(error).split(" - ")  # then comes advice to who calls csv
        raise BadInput(f"is not CSV: {reason}") from None


# Nobody who writes a line can know it.
_BETWEEN = os.urandom(8).hex()
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
        values = cast("list[object]", _decoder.decode(text.decode()))
    except (TypeError, ValueError, RecursionError):
        return None
    words = len(lines) - 1
    if len(values) != len(lines) + words or values[1::2] != [_BETWEEN] * words:
        return None
    return values[::2]


def _parse_one(parse: Callable[[bytes], object], line: bytes) -> object:
    if not isinstance(line, bytes):
        return line  # None, for one that was too large to be sent
    try:
        return parse(line)
    except (BadInput, ValueError, RecursionError) as error:
        return Bad(Failure("BadInput", str(error)))


def _text(line: bytes) -> str:
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        byte = line[error.start]
        raise BadInput(f"is not UTF-8 (byte 0x{byte:02x} at column {error.start + 1})") from None
    return text[:-2] if text.endswith("\r\n") else text.removesuffix("\n")


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")  # Python's json would take NaN and Infinity


_decoder = json.JSONDecoder(parse_constant=_no_constant)
_FIRST = frozenset('[{"-0123456789tfn \t\n\r')  # characters with which JSON may begin


def value_of(text: str) -> object:
    """JSON where it parses as JSON, a plain string where it does not.

    >>> value_of("1e3"), value_of("NaN"), value_of("[1, 2]"), value_of("007")
    (1000.0, 'NaN', [1, 2], '007')
    """
    if text and text[0] not in _FIRST:
        return text  # a name, say: to have the decoder raise costs eight times as much
    try:
        return _decoder.decode(text)
    except (ValueError, RecursionError):
        return text


def _json(text: str) -> object:
    try:
        return _decoder.decode(text)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"is not JSON: {error}") from None


class Source:
    """Inputs on their way from an iterable to batches.

    `take` never waits: what an iterator has to be waited for is read ahead by `feed`, in a
    thread of its own, into a buffer that both use without a lock (a deque is safe for one that
    appends and others that pop).

    Args:
        inputs: a sequence, whose length is known and whose items are at hand, or any iterable.
    """

    def __init__(self, inputs: Iterable[object]) -> None:
        self._items = iter(inputs)
        self.length = len(inputs) if isinstance(inputs, Sequence) else None
        self.buffer: deque[object] = deque()

    def take(self, count: int) -> list[object]:
        """The next `count` inputs, all of which are known to be there."""
        if self.length is not None:
            return list(itertools.islice(self._items, count))
        pop = self.buffer.popleft
        return [pop() for _ in range(count)]

    def read(self, count: int) -> bool:
        """Read up to `count` inputs ahead, however long that takes; False at the end."""
        for item in self._items:
            self.buffer.append(item)
            self.buffer.extend(itertools.islice(self._items, count - 1))
            return True
        return False


class Text:
    """Inputs from a text file, as lines of bytes that workers parse.

    Args:
        file: binary; may be a pipe that is slow.
        kind: "lines", "raw", "jsonl" or "csv".
        name: what to call it in errors.
        skips_blank: whether empty lines are no inputs.
    """

    def __init__(self, file: BinaryIO, kind: str, name: str, skips_blank: bool = False) -> None:
        self._file = file
        self.kind = kind
        self._skips_blank = skips_blank or kind == "jsonl"
        self._name = name
        self._skipped: list[int] = []  # for each skipped blank line, how many inputs came before
        self._header = 0
        self.fields = self._read_fields() if kind == "csv" else []

    def __iter__(self) -> Iterator[bytes]:
        if self.kind == "csv":
            return self._rows()
        return self._unblanked() if self._skips_blank else self._lines()

    def _lines(self) -> Iterator[bytes]:
        """The file's lines, at its own speed but for the first; then the file is closed."""
        first = (line.removeprefix(BOM) for line in itertools.islice(self._file, 1))
        return itertools.chain(first, self._file, self._end())

    def _end(self) -> Iterator[bytes]:
        # Not from outside: that would wait for whoever reads a slow pipe.
        self._file.close()
        yield from ()

    def place(self, index: int) -> str:
        """Where in the file an input stands."""
        line = index + 1 + self._header + bisect.bisect_right(self._skipped, index)
        return f"{self._name} line {line}"

    def _unblanked(self) -> Iterator[bytes]:
        index = 0
        for line in self._lines():
            if line.isspace():
                self._skipped.append(index)
            else:
                index += 1
                yield line

    def _rows(self) -> Iterator[bytes]:
        index = 0
        for record, more in _records(self._lines()):
            self._skipped += [index] * more
            if record.isspace():
                self._skipped.append(index)
            else:
                index += 1
                yield record

    def _read_fields(self) -> list[str]:
        record, more = b"", 0
        for record, more in _records(self._file):
            self._header += 1 + more
            if record.removeprefix(BOM).strip():
                break
        place = f"{self._name} line {self._header - more}"
        fields = _header(record, place)
        if not fields:
            raise BadInput(f"{self._name} has no header line that names its columns")
        double = {field for field in fields if fields.count(field) > 1}
        if double:
            names = ", ".join(sorted(double))
            raise BadInput(f"{place} names more than one column {names}")
        return fields


# The start of a record up to and with a quote that is still open: whole cells, then that.
_OPEN = re.compile(rb'(?:(?:"(?:[^"]|"")*"(?!")[^,]*|[^",][^,]*)?,)*"(?:[^"]|"")*')


def _records(file: Iterable[bytes]) -> Iterator[tuple[bytes, int]]:
    """CSV records, of which one goes on over a line's end while a quote is open, and how many
    lines each has besides its first. A quote that is never closed ends with what `csv` can take."""
    lines: list[bytes] = []
    size = 0
    for line in file:
        start = b'"' if lines else b""  # as if the line's first cell had just been opened
        lines.append(line)
        size += len(line)
        if b'"' in start + line and _OPEN.fullmatch(start + line) and size <= LONGEST_RECORD:
            continue
        yield b"".join(lines), len(lines) - 1
        lines, size = [], 0
    if lines:
        yield b"".join(lines), len(lines) - 1


def _header(record: bytes, place: str) -> list[str]:
    try:
        return _cells(_text(record.removeprefix(BOM)))
    except BadInput as error:
        raise BadInput(f"{place} {error}") from None


def open_text(path: str, kind: str | None = None, *, raw: bool = False) -> Text:
    """Open a file of inputs; ``-`` is standard input.

    Args:
        path: ``.csv`` gives rows, ``.jsonl`` and ``.ndjson`` values, anything else lines.
        kind: to decide that otherwise.
        raw: keep lines strings.

    Raises:
        BadInput: it cannot be read.
    """
    if kind is None:
        suffix = os.path.splitext(path)[1].lower()
        kind = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl"}.get(suffix, "lines")
    skips_blank = kind == "jsonl"
    if raw and kind != "csv":
        kind = "raw"
    if path == "-":
        if sys.stdin is None:
            raise BadInput("standard input is closed")
        # Not sys.stdin.buffer: the interpreter aborts at its end where a thread still waits in it.
        return Text(open(sys.stdin.fileno(), "rb", closefd=False), kind, STDIN, skips_blank)
    try:
        return Text(open(path, "rb"), kind, path, skips_blank)
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}") from None
