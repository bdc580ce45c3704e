"""Files of inputs, one after the other, of several formats and compressed or not."""

from __future__ import annotations

import bisect
import importlib
import itertools
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from operator import itemgetter

from dq._support.frozen import TYPE_CHECKING
from dq._support.naming import setting
from dq.core.records import Reading
from dq.data.decoding import INPUT_KINDS
from dq.data.formats import FORMATS, compression_of, format_of
from dq.data.text_file import Format, TextFile
from dq.errors import BadInput, UsageError

if TYPE_CHECKING:
    from typing import BinaryIO

STDIN = "standard input"


class InputFiles:
    """The inputs of one file or several, one after the other.

    Args:
        paths: their names; ``-`` is standard input.
        format: one of `FORMATS`; None goes by the files' suffixes.
        delimiter: between two cells of CSV; None for the default of the format.
        raw: keep inputs strings.
        field: the one field of each record that is the input; "" for the record itself.

    Raises:
        BadInput: a file cannot be read, or is not like the first.
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
        name = format or _common_format(paths)
        self._format = FORMATS[name]
        if delimiter is not None and not self._format.has_columns:
            raise UsageError(f"{setting('delimiter')} goes with CSV, not with {name}")
        self._delimiter = delimiter or self._format.delimiter
        kind = _kind_of(self._format, raw=raw)
        if field and not INPUT_KINDS[kind].has_fields:
            raise UsageError(
                f"{setting('field')} goes with records, and {paths[0]} has lines:"
                f" {setting('input_format')} jsonl or csv reads it as records"
            )
        self._paths = paths
        self._begun: list[TextFile] = []
        self._starts: list[int] = []  # index of the first input of each file that is begun
        for path in paths[1:]:
            _check_readable(path)
        self._first = self._open(paths[0])
        self.reading = Reading(
            kind=kind,
            fields=tuple(self._first.fields),
            raw=raw,
            field=field,
            delimiter=self._delimiter,
        )

    def __iter__(self) -> Iterator[bytes]:
        if len(self._paths) == 1:
            self._begin(self._first, 0)
            return iter(self._first)  # no Python code between two lines
        return itertools.chain.from_iterable(self._each_file())

    def _each_file(self) -> Iterator[Iterator[bytes]]:
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

    def _begin(self, text: TextFile, start: int) -> None:
        self._begun.append(text)
        self._starts.append(start)

    def _open(self, path: str) -> TextFile:
        name = STDIN if path == "-" else path
        return TextFile(_opened(path), self._format, name, self._delimiter, compression_of(path))

    def place(self, index: int) -> str:
        """The file and line of an input that has been read."""
        number = bisect.bisect_right(self._starts, index) - 1
        return self._begun[number].place(index - self._starts[number])

    @property
    def name(self) -> str:
        """The file that is being read."""
        return (self._begun[-1] if self._begun else self._first).name

    @property
    def can_be_counted(self) -> bool:
        """Whether all of it can be read twice, at little cost."""
        return all(os.path.isfile(path) and compression_of(path) is None for path in self._paths)


def _common_format(paths: Sequence[str]) -> str:
    """The format that the names of all files stand for."""
    formats = [format_of(path) for path in paths]
    for path, other in zip(paths, formats, strict=True):
        if other != formats[0]:
            raise UsageError(
                f"{paths[0]} is read as {formats[0]} and {path} as {other}: give"
                f" {setting('input_format')}, or make a run of each"
            )
    return formats[0]


def _kind_of(format: Format, *, raw: bool) -> str:
    """The kind of the inputs. If there are columns, `raw` applies to the cells."""
    return "raw" if raw and not format.has_columns else format.kind


def _opened(path: str) -> BinaryIO:
    if path == "-":
        if sys.stdin is None:
            raise BadInput("standard input is closed")
        # Not sys.stdin.buffer: the interpreter aborts at exit if a thread still waits in it.
        return open(sys.stdin.fileno(), "rb", closefd=False)
    compression = compression_of(path)
    opener: Callable[[str, str], BinaryIO]
    opener = open if compression is None else importlib.import_module(compression).open  # type: ignore[assignment]
    try:
        return opener(path, "rb")
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}") from None


def _check_readable(path: str) -> None:
    """Check now whether a file can be opened later. Skip pipes, because opening one may block."""
    if path == "-" or (os.path.exists(path) and not os.path.isfile(path)):
        return
    _opened(path).close()
