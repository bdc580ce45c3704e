"""One file of inputs, read as records of bytes: where each record ends, and its line in the file.

The master only finds the ends; `dq.data.decoding`, in the worker, parses the records.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Callable, Iterator

from dq._support.frozen import TYPE_CHECKING, frozen
from dq.data.csv_records import csv_records
from dq.data.decoding import INPUT_KINDS
from dq.data.json_array import JsonArray
from dq.data.parsing import cells_of, text_of
from dq.errors import BadInput

if TYPE_CHECKING:
    from typing import BinaryIO

BOM = b"\xef\xbb\xbf"  # Windows programs put it in front of UTF-8
CHUNK_BYTES = 1 << 16  # read at once, where records are not lines
LINE_END = b"\r\n"  # removed by the worker; a newline in front of it belongs to the input


@frozen
class Format:
    """How files of one format hold their inputs.

    Args:
        kind: of the inputs, one of `dq.data.decoding.INPUT_KINDS`.
        records: reads a file's records.
        suffixes: of the names of such files.
        delimiter: what stands between two cells.
        noun: what to call a record, with its number.
    """

    kind: str
    records: Callable[[TextFile], Iterator[bytes]]
    suffixes: tuple[str, ...] = ()
    delimiter: str = ","
    noun: str = "line"

    @property
    def has_columns(self) -> bool:
        """Whether a header names the columns, and a delimiter separates them."""
        return INPUT_KINDS[self.kind].has_columns


class TextFile:
    """The inputs of one file.

    Args:
        file: binary; may be a pipe that is slow.
        format: how it holds the inputs.
        name: what to call it in errors.
        delimiter: what stands between two cells; None for the format's own.
        compression: the module that decompresses it; None where it is not compressed.

    Attributes:
        fields: the names in its header; none where the format has no header.
    """

    def __init__(
        self,
        file: BinaryIO,
        format: Format,
        name: str,
        delimiter: str | None = None,
        compression: str | None = None,
    ) -> None:
        self._file = file
        self.name = name
        self._compression = compression
        self._source = file if compression is None else self._decompressed()
        self._format = format
        self._delimiter = delimiter or format.delimiter
        # A row of empty cells is not blank where the delimiter is a tab.
        self._blanks = bytes(set(b" \t\r\n\v\f") - set(self._delimiter.encode()))
        self._skipped: list[int] = []  # for each skipped blank line, how many inputs came before
        self._header = 0  # how many lines the header has, with those before it
        self.fields = self._read_fields() if format.has_columns else []

    def __iter__(self) -> Iterator[bytes]:
        return self._format.records(self)

    def close(self) -> None:
        self._file.close()

    def place(self, index: int) -> str:
        """The place of an input in the file, for messages."""
        number = index + 1 + self._header + bisect.bisect_right(self._skipped, index)
        return f"{self.name} {self._format.noun} {number}"

    # Records: `dq.data.formats` has one of these for each format

    def lines(self) -> Iterator[bytes]:
        """All lines. Only the first passes through Python code; then the file is closed."""
        first = (line.removeprefix(BOM) for line in itertools.islice(self._source, 1))
        return itertools.chain(first, self._source, self._close_at_end())

    def nonblank_lines(self) -> Iterator[bytes]:
        index = 0
        for line in self.lines():
            if line.isspace():
                self._skipped.append(index)
            else:
                index += 1
                yield line

    def nul_ended(self) -> Iterator[bytes]:
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

    def json_items(self) -> Iterator[bytes]:
        """The items of a JSON array, each as it is written in the file."""
        return JsonArray(self._chunks(), self.name).items()

    def csv_rows(self) -> Iterator[bytes]:
        index = 0
        for record, more in csv_records(self.lines(), self._delimiter):
            self._skipped += [index] * more
            if not record.strip(self._blanks):
                self._skipped.append(index)
            else:
                index += 1
                yield record

    # The file

    def _decompressed(self) -> Iterator[bytes]:
        try:
            yield from self._file
        except Exception as error:  # each module for compression has errors of its own
            raise self._unreadable(error) from None

    def _chunks(self) -> Iterator[bytes]:
        """The file's bytes as they come; then it is closed."""
        try:
            while chunk := self._file.read1(CHUNK_BYTES):  # type: ignore[attr-defined]  # all files here have it
                yield chunk
        except Exception as error:  # each module for compression has errors of its own
            raise self._unreadable(error) from None
        self._file.close()

    def _unreadable(self, error: Exception) -> BadInput:
        what = getattr(error, "strerror", None) or str(error)
        how = f" as {self._compression}" if self._compression else ""
        return BadInput(f"cannot read {self.name}{how}: {what}")

    def _close_at_end(self) -> Iterator[bytes]:
        # The reader closes the file itself: another thread would have to wait for it while it reads
        # a slow pipe.
        self._file.close()
        yield from ()

    # The header

    def _read_fields(self) -> list[str]:
        record, more = b"", 0
        for record, more in csv_records(self._source, self._delimiter):
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
            return cells_of(text_of(record.removeprefix(BOM)), self._delimiter)
        except BadInput as error:
            raise BadInput(f"{place} {error}") from None
