"""Parses lines and cells: text, JSON, CSV."""

from __future__ import annotations

import csv
import json

from dq.errors import BadInput

MAX_CELL_CHARS = 1 << 30


def text_of(line: bytes) -> str:
    """A line without its end.

    Raises:
        BadInput: it is not UTF-8.
    """
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        byte = line[error.start]
        raise BadInput(f"is not UTF-8 (byte 0x{byte:02x} at column {error.start + 1})") from None
    return _without_end(text)


def name_of(line: bytes) -> str:
    """A line that may be a file's name, in any encoding. Bytes that are not UTF-8 are decoded as
    `os.fsdecode` does, so that they are written again as they were."""
    return _without_end(line.decode(errors="surrogateescape"))


def _without_end(text: str) -> str:
    return text[:-2] if text.endswith("\r\n") else text.removesuffix("\n")


def cells_of(record: str, delimiter: str = ",") -> list[str]:
    """The cells of a CSV record.

    Raises:
        BadInput: it is not CSV.
    """
    csv.field_size_limit(MAX_CELL_CHARS)  # the default of 131,072 is too low
    try:
        # Strict, or a quote that is never closed would be accepted.
        return next(csv.reader([record], delimiter=delimiter, strict=True), [])
    except csv.Error as error:
        reason, *_ = str(error).split(" - ")  # what follows is advice for callers of csv
        raise BadInput(f"is not CSV: {reason}") from None


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")  # Python's json would accept NaN and Infinity


def _float(text: str) -> float | str:
    """A number with a fraction or an exponent. If the float would be infinite, keep the text,
    because JSON cannot represent infinity."""
    value = float(text)
    return value if value - value == 0 else text


json_decoder = json.JSONDecoder(parse_constant=_no_constant, parse_float=_float)
# For text in which no number is too large for a float.
fast_json_decoder = json.JSONDecoder(parse_constant=_no_constant)
_JSON_STARTS = frozenset('[{"-0123456789tfn \t\n\r')


def value_of(text: str) -> object:
    """JSON where the text is JSON, else the text itself.

    >>> value_of("1e3"), value_of("NaN"), value_of("[1, 2]"), value_of("007"), value_of("1e999")
    (1000.0, 'NaN', [1, 2], '007', '1e999')
    """
    if text and text[0] not in _JSON_STARTS:
        return text  # for example a name; an error of the decoder costs eight times as much
    try:
        return json_decoder.decode(text)
    except (ValueError, RecursionError):
        return text


def json_of(text: str) -> object:
    """The value of JSON.

    Raises:
        BadInput: it is not JSON.
    """
    try:
        return json_decoder.decode(text)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"is not JSON: {error}") from None
