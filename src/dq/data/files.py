"""Files of inputs, of several formats and compressed or not, as records of bytes.

The master only finds where a record ends; `dq.data.inputs.Decoder`, in the worker, parses it.
"""

from __future__ import annotations

import bisect
import codecs
import importlib
import itertools
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import itemgetter

from dq._support.frozen import TYPE_CHECKING, frozen
from dq._support.naming import setting
from dq.core.records import Reading
from dq.data.inputs import cells, json_decoder, text_of
from dq.errors import BadInput, UsageError

if TYPE_CHECKING:
    from typing import BinaryIO


@frozen
class Format:
    """How files of some kind hold their inputs.

    Args:
        kind: that of `Reading` for one record.
        suffixes: of files that are taken for such.
        delimiter: what stands between two cells.
        noun: what to call a record, with its number.
    """

    kind: str
    suffixes: tuple[str, ...] = ()
    delimiter: str = ","
    noun: str = "line"


FORMATS = {
    "lines": Format("lines"),
    "null": Format("lines", noun="record"),
    "jsonl": Format("jsonl", (".jsonl", ".ndjson")),
    "json": Format("jsonl", (".json",), noun="item"),
    "csv": Format("csv", (".csv",)),
    "tsv": Format("csv", (".tsv",), delimiter="\t"),
}
# The modules that open files with these suffixes.
COMPRESSED = {".gz": "gzip", ".bz2": "bz2", ".xz": "lzma", ".lzma": "lzma"}

# What is not taken for lines of text.
UNREADABLE = (".zst", ".zip", ".7z", ".lz4", ".z", ".rar", ".tar", ".tgz")

STDIN = "standard input"
LONGEST_RECORD = 1 << 26  # bytes of a CSV record over several lines
BOM = b"\xef\xbb\xbf"  # that Windows programs put in front of UTF-8
CHUNK = 1 << 16  # bytes that are read at once, where lines do not matter
LONGEST_TOKEN = len("-Infinity")  # of JSON, but for strings and numbers
LINE_END = b"\r\n"  # which the worker cuts off; a newline before it is the input's own


class Files:
    """The inputs of one file or several, one after the other.

    Args:
        paths: their names; ``-`` is standard input.
        format: one of `FORMATS`; None goes by each name's suffix.
        delimiter: between two cells of CSV; None for the format's.
        raw: keep inputs strings.
        field: the one field of each record that is the input; "" for the record itself.

    Raises:
        BadInput: one cannot be read, or is not like the first.
        UsageError: the arguments do not go together.
    """

    def __init__(
        self,
        paths: Sequence[str],
        format: str | None = None,
        *,
        delimiter: str | None = None,
        raw: bool = False,
        field: str = "",
    ) -> None:
        if format is None and delimiter is not None:
            format = "csv"
        formats = [format or format_of(path) for path in paths]
        for path, other in zip(paths, formats, strict=True):
            if other != formats[0]:
                raise UsageError(
                    f"{paths[0]} is read as {formats[0]} and {path} as {other}: give"
                    f" {setting('input_format')}, or make a run of each"
                )
        self._format = formats[0]
        found = FORMATS[self._format]
        if delimiter is not None and found.kind != "csv":
            raise UsageError(f"{setting('delimiter')} goes with CSV, not with {self._format}")
        self._delimiter = delimiter or found.delimiter
        kind = "raw" if raw and found.kind != "csv" else found.kind
        if field and kind not in ("jsonl", "csv"):
            raise UsageError(
                f"{setting('field')} goes with records, and {paths[0]} has lines:"
                f" {setting('input_format')} jsonl or csv reads it as records"
            )
        self._paths = paths
        self._begun: list[Text] = []
        self._starts: list[int] = []  # index of each one's first input
        for path in paths[1:]:
            _check_readable(path)
        self._first = self._open(paths[0])
        self.reading = Reading(kind, tuple(self._first.fields), raw, field, self._delimiter)

    def __iter__(self) -> Iterator[bytes]:
        if len(self._paths) == 1:
            self._begin(self._first, 0)
            return iter(self._first)  # at the file's own speed
        return itertools.chain.from_iterable(self._each())

    def _each(self) -> Iterator[Iterator[bytes]]:
        start = 0
        for number, path in enumerate(self._paths):
            text = self._open(path) if number else self._first
            if text.fields != self._first.fields:
                text.close()
                raise BadInput(f"{text.name} has other columns than {self._first.name}")
            self._begin(text, start)
            counter = itertools.count(start)
            yield map(itemgetter(0), zip(text, counter))  # noqa: B905  # `counter` has no end
            start = next(counter)

    def _begin(self, text: Text, start: int) -> None:
        self._begun.append(text)
        self._starts.append(start)

    def _open(self, path: str) -> Text:
        return Text(_opened(path), self._format, _name_of(path), self._delimiter, _packer(path))

    def place(self, index: int) -> str:
        """Where an input stands that has been read."""
        number = bisect.bisect_right(self._starts, index) - 1
        return self._begun[number].place(index - self._starts[number])

    @property
    def name(self) -> str:
        """The file that is being read."""
        return (self._begun[-1] if self._begun else self._first).name

    @property
    def can_be_counted(self) -> bool:
        """Whether all of it can be read twice, at little cost."""
        return all(os.path.isfile(path) and _packer(path) is None for path in self._paths)


def format_of(path: str) -> str:
    """The format that a name stands for.

    >>> format_of("a/b.CSV"), format_of("b.jsonl.gz"), format_of("names")
    ('csv', 'jsonl', 'lines')
    """
    stem, suffix = os.path.splitext(path.lower())
    if suffix in COMPRESSED:
        suffix = os.path.splitext(stem)[1]
    return next((name for name, each in FORMATS.items() if suffix in each.suffixes), "lines")


def _packer(path: str) -> str | None:
    """The module that unpacks a file; None where it is as it is.

    Raises:
        BadInput: there is none for its kind.
    """
    stem, suffix = os.path.splitext(path.lower())
    for found in (suffix, os.path.splitext(stem)[1]):
        if found in UNREADABLE:
            raise BadInput(
                f"cannot read {path}: {', '.join(COMPRESSED)} are unpacked, but not {found}; unpack"
                f" it into a pipe, and read that with {setting('input')} -"
            )
    return COMPRESSED.get(suffix)


def _name_of(path: str) -> str:
    return STDIN if path == "-" else path


def _opened(path: str) -> BinaryIO:
    if path == "-":
        if sys.stdin is None:
            raise BadInput("standard input is closed")
        # Not sys.stdin.buffer: the interpreter aborts at its end where a thread still waits in it.
        return open(sys.stdin.fileno(), "rb", closefd=False)
    packer = _packer(path)
    opener: Callable[[str, str], BinaryIO]
    opener = open if packer is None else importlib.import_module(packer).open  # type: ignore[assignment]
    try:
        return opener(path, "rb")
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}") from None


def _check_readable(path: str) -> None:
    """Find out now what cannot be opened later, without waiting for what may be a pipe."""
    if path == "-" or (os.path.exists(path) and not os.path.isfile(path)):
        return
    _opened(path).close()


class Text:
    """The inputs of one file.

    Args:
        file: binary; may be a pipe that is slow.
        format: one of `FORMATS`.
        name: what to call it in errors.
        delimiter: between two cells.
        packer: what it was packed with; None where it was not.
    """

    def __init__(
        self,
        file: BinaryIO,
        format: str,
        name: str,
        delimiter: str = ",",
        packer: str | None = None,
    ) -> None:
        self._file = file
        self.name = name
        self._packer = packer
        self._source = file if packer is None else self._unpacked()
        self._format = format
        self._delimiter = delimiter
        # A row of empty cells is not blank, where a tab stands between two of them.
        self._blanks = bytes(set(b" \t\r\n\v\f") - set(delimiter.encode()))
        self._skipped: list[int] = []  # for each skipped blank line, how many inputs came before
        self._header = 0
        self.fields = self._read_fields() if FORMATS[format].kind == "csv" else []

    def __iter__(self) -> Iterator[bytes]:
        readers = {"null": self._split, "jsonl": self._unblanked, "json": self._items}
        if self._format in readers:
            return readers[self._format]()
        return self._rows() if FORMATS[self._format].kind == "csv" else self._lines()

    def close(self) -> None:
        self._file.close()

    def place(self, index: int) -> str:
        """Where in the file an input stands."""
        number = index + 1 + self._header + bisect.bisect_right(self._skipped, index)
        return f"{self.name} {FORMATS[self._format].noun} {number}"

    # What there is to read

    def _lines(self) -> Iterator[bytes]:
        """The file's lines, at its own speed but for the first; then the file is closed."""
        first = (line.removeprefix(BOM) for line in itertools.islice(self._source, 1))
        return itertools.chain(first, self._source, self._end())

    def _unpacked(self) -> Iterator[bytes]:
        try:
            yield from self._file
        except Exception as error:  # each packer has errors of its own
            raise self._unreadable(error) from None

    def _chunks(self) -> Iterator[bytes]:
        """What there is, as it comes."""
        try:
            while chunk := self._file.read1(CHUNK):  # type: ignore[attr-defined]  # all files here have it
                yield chunk
        except Exception as error:  # each packer has errors of its own
            raise self._unreadable(error) from None
        self._file.close()

    def _unreadable(self, error: Exception) -> BadInput:
        what = getattr(error, "strerror", None) or str(error)
        packed = f" as {self._packer}" if self._packer else ""
        return BadInput(f"cannot read {self.name}{packed}: {what}")

    def _end(self) -> Iterator[bytes]:
        # Not from outside: that would wait for whoever reads a slow pipe.
        self._file.close()
        yield from ()

    # Records

    def _unblanked(self) -> Iterator[bytes]:
        index = 0
        for line in self._lines():
            if line.isspace():
                self._skipped.append(index)
            else:
                index += 1
                yield line

    def _split(self) -> Iterator[bytes]:
        """Records that end with NUL."""
        parts: list[bytes] = []
        for chunk in self._chunks():
            first, *rest = chunk.split(b"\0")
            parts.append(first)
            for record in rest:
                yield b"".join(parts) + LINE_END
                parts = [record]
        if last := b"".join(parts):
            yield last + LINE_END

    def _items(self) -> Iterator[bytes]:
        """The items of a JSON array, each as it is written there."""
        return JsonArray(self._chunks(), self.name).items()

    def _rows(self) -> Iterator[bytes]:
        index = 0
        for record, more in _records(self._lines(), self._delimiter):
            self._skipped += [index] * more
            if not record.strip(self._blanks):
                self._skipped.append(index)
            else:
                index += 1
                yield record

    def _read_fields(self) -> list[str]:
        record, more = b"", 0
        for record, more in _records(self._source, self._delimiter):
            self._header += 1 + more
            if record.removeprefix(BOM).strip(self._blanks):
                break
        place = f"{self.name} line {self._header - more}"
        fields = self._cells(record, place)
        if not fields:
            raise BadInput(f"{self.name} has no header line that names its columns")
        double = {field for field in fields if fields.count(field) > 1}
        if double:
            names = ", ".join(sorted(double))
            raise BadInput(f"{place} names more than one column {names}")
        return fields

    def _cells(self, record: bytes, place: str) -> list[str]:
        try:
            return cells(text_of(record.removeprefix(BOM)), self._delimiter)
        except BadInput as error:
            raise BadInput(f"{place} {error}") from None


def _open_quote(delimiter: str) -> re.Pattern[bytes]:
    """The start of a record up to and with a quote that is still open: whole cells, then that."""
    no, comma = f"[^{re.escape(delimiter)}]".encode(), re.escape(delimiter).encode()
    first = f'[^"{re.escape(delimiter)}]'.encode()
    cell = rb'(?:"(?:[^"]|"")*"(?!")%b*|%b%b*)?' % (no, first, no)
    return re.compile(rb'(?:%b%b)*"(?:[^"]|"")*' % (cell, comma), re.DOTALL)


def _records(file: Iterable[bytes], delimiter: str) -> Iterator[tuple[bytes, int]]:
    """CSV records, of which one goes on over a line's end while a quote is open, and how many
    lines each has besides its first. A quote that is never closed ends with a record that is as
    long as one may be."""
    opens = _open_quote(delimiter).fullmatch
    lines: list[bytes] = []
    size = 0
    for line in file:
        start = b'"' if lines else b""  # as if the line's first cell had just been opened
        lines.append(line)
        size += len(line)
        if b'"' in start + line and opens(start + line) and size <= LONGEST_RECORD:
            continue
        yield b"".join(lines), len(lines) - 1
        lines, size = [], 0
    if lines:
        yield b"".join(lines), len(lines) - 1


_SPACE = re.compile(r"[ \t\n\r]*")


class JsonArray:
    """The items of a JSON array that is read bit by bit: no more of it than the largest item, and
    a chunk, is in memory.

    Args:
        chunks: the file's bytes.
        name: what to call it in errors.

    >>> list(JsonArray([b'[1, {"a": ', b'[2, 3]}]'], "x").items())
    [b'1', b'{"a": [2, 3]}']
    """

    def __init__(self, chunks: Iterable[bytes], name: str) -> None:
        self._chunks = iter(chunks)
        self._name = name
        self._utf8 = codecs.getincrementaldecoder("utf-8-sig")()
        self._text = ""
        self._at = 0
        self._count = 0

    def items(self) -> Iterator[bytes]:
        if self._next() != "[":
            raise BadInput(
                f"{self._name} does not hold a JSON array; for one JSON value on each line give"
                f" {setting('input_format')} jsonl"
            )
        self._at += 1
        if self._next() == "]":
            self._finish()
            return
        while True:
            self._count += 1
            item = self._item()
            end = self._next()  # first: a number may be cut off there
            if end not in (",", "]"):
                raise self._bad("is not followed by a comma or the array's end")
            yield item.encode()
            if end == "]":
                self._finish()
                return
            self._at += 1

    def _item(self) -> str:
        """One item, and past it; more is read where it may go on."""
        while True:
            self._next()
            try:
                _, end = json_decoder.raw_decode(self._text, self._at)
            except (ValueError, RecursionError) as error:
                if self._may_go_on(error) and self._read(len(self._text)):
                    continue
                raise self._bad(f"is not JSON: {getattr(error, 'msg', None) or error}") from None
            if end == len(self._text) and self._read(CHUNK):
                continue  # a number may have more digits
            item, self._at = self._text[self._at : end], end
            return item

    def _may_go_on(self, error: Exception) -> bool:
        """Whether more of the file may make JSON of what is none: nothing else is worth having the
        rest of it in memory."""
        if not isinstance(error, json.JSONDecodeError):
            return False
        is_open = error.msg.startswith("Unterminated string")
        return is_open or error.pos >= len(self._text) - LONGEST_TOKEN

    def _next(self) -> str:
        """The next character that is no space; "" at the end."""
        while True:
            match = _SPACE.match(self._text, self._at)
            assert match is not None
            self._at = match.end()
            if self._at < len(self._text) or not self._read(CHUNK):
                return self._text[self._at : self._at + 1]

    def _read(self, size: int) -> bool:
        """Have so many characters more, or as many as there are; False where there are none."""
        parts: list[str] = []
        while size > 0:
            chunk = next(self._chunks, b"")
            try:
                parts.append(self._utf8.decode(chunk, final=not chunk))
            except UnicodeDecodeError:
                raise self._bad("is not UTF-8") from None
            if not chunk:
                break
            size -= len(parts[-1])
        self._text, self._at = self._text[self._at :] + "".join(parts), 0
        return any(parts)

    def _finish(self) -> None:
        self._at += 1
        if self._next():
            raise BadInput(f"{self._name} has more after its JSON array")

    def _bad(self, what: str) -> BadInput:
        return BadInput(f"{self._name} item {max(self._count, 1)} {what}")
