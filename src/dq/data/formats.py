"""The formats of files of inputs, and which of them a file's name stands for."""

from __future__ import annotations

import os

from dq._support.naming import setting
from dq.data.text_file import Format, TextFile
from dq.errors import BadInput

#: A new one needs a line here, and a kind in `dq.data.decoding` where no kind there fits.
FORMATS = {
    "lines": Format(kind="lines", records=TextFile.lines),
    "null": Format(kind="lines", records=TextFile.nul_ended, noun="record"),
    "jsonl": Format(kind="jsonl", records=TextFile.nonblank_lines, suffixes=(".jsonl", ".ndjson")),
    "json": Format(kind="jsonl", records=TextFile.json_items, suffixes=(".json",), noun="item"),
    "csv": Format(kind="csv", records=TextFile.csv_rows, suffixes=(".csv",)),
    "tsv": Format(kind="csv", records=TextFile.csv_rows, suffixes=(".tsv",), delimiter="\t"),
}
#: The modules that open files with these suffixes.
COMPRESSIONS = {".gz": "gzip", ".bz2": "bz2", ".xz": "lzma", ".lzma": "lzma"}

# Suffixes of binary files, which must not be read as lines.
UNREADABLE_SUFFIXES = (".zst", ".zip", ".7z", ".lz4", ".z", ".rar", ".tar", ".tgz")


def format_of(path: str) -> str:
    """The format that a name stands for.

    >>> format_of("a/b.CSV"), format_of("b.jsonl.gz"), format_of("names")
    ('csv', 'jsonl', 'lines')
    """
    stem, suffix = os.path.splitext(path.lower())
    if suffix in COMPRESSIONS:
        suffix = os.path.splitext(stem)[1]
    return next((name for name, each in FORMATS.items() if suffix in each.suffixes), "lines")


def compression_of(path: str) -> str | None:
    """The module that decompresses a file; None where it is not compressed.

    Raises:
        BadInput: its name stands for a compression that is not supported.
    """
    stem, suffix = os.path.splitext(path.lower())
    for found in (suffix, os.path.splitext(stem)[1]):
        if found in UNREADABLE_SUFFIXES:
            raise BadInput(
                f"cannot read {path}: {', '.join(COMPRESSIONS)} are unpacked, but not {found};"
                f" unpack it into a pipe, and read that with {setting('input')} -"
            )
    return COMPRESSIONS.get(suffix)
