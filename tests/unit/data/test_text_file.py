"""Where the records of a file end, and what they are called."""

from __future__ import annotations

import csv
import io
import itertools
import os
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dq.core.records import Reading
from dq.data import csv_records
from dq.data.formats import FORMATS
from dq.data.text_file import TextFile
from dq.errors import BadInput
from support.reading import decoded


def text(data: bytes, kind: str = "lines") -> TextFile:
    return TextFile(io.BytesIO(data), FORMATS[kind], "a file")


def rows(data: bytes, *, raw: bool = False, delimiter: str = ",") -> list[object]:
    source = TextFile(io.BytesIO(data), FORMATS["csv"], "a file", delimiter)
    return decoded(Reading("csv", tuple(source.fields), raw, "", delimiter), *source)


@pytest.mark.parametrize("kind", ["lines", "jsonl", "csv"])
def test_a_byte_order_mark_is_not_part_of_the_first_line(kind: str) -> None:
    source = text(b"\xef\xbb\xbf1\n2\n", kind)
    assert [*source.fields, *source][0] in ("1", b"1\n")


def test_blank_lines_of_json_lines_are_passed_over_and_counted() -> None:
    source = text(b'1\n\n  \n"two"\n\n[3]\n', "jsonl")
    assert decoded("jsonl", *source) == [1, "two", [3]]
    assert [source.place(n) for n in range(3)] == [
        "a file line 1",
        "a file line 4",
        "a file line 6",
    ]


@pytest.mark.parametrize("line", [b'{"a"\n', b"words\n", b"NaN\n", b"1 2\n", b"[" * 100_000])
def test_a_broken_line_of_json_lines_says_what_it_is_not(line: bytes) -> None:
    [message] = decoded("jsonl", line)
    assert str(message).startswith("is not JSON: ")


def test_a_row_is_a_mapping_whose_cells_are_json_or_strings() -> None:
    assert rows(b"name,n\nadda,1\nbob,x\n") == [{"name": "adda", "n": 1}, {"name": "bob", "n": "x"}]


def test_raw_rows_keep_cells_strings() -> None:
    assert rows(b"n\n1\n", raw=True) == [{"n": "1"}]


def test_a_quoted_cell_may_go_over_lines_and_hold_quotes_and_commas() -> None:
    source = text(b'a,b\r\n1,"x\r\n""y"", z\n"\r\n\r\n2,w\r\n', "csv")
    values = decoded(Reading("csv", ("a", "b")), *source)
    assert values == [{"a": 1, "b": 'x\r\n"y", z\n'}, {"a": 2, "b": "w"}]
    assert source.place(1) == "a file line 6"


def test_a_quote_within_a_plain_cell_opens_nothing() -> None:
    assert rows(b'a,b\n1,5" pipe\n2,z\n') == [{"a": 1, "b": '5" pipe'}, {"a": 2, "b": "z"}]


def test_a_header_may_go_over_lines() -> None:
    source = text(b'"a\nb",c\n1,2\n', "csv")
    assert source.fields == ["a\nb", "c"]
    assert source.place(0) == "a file line 3"


def test_a_quote_that_is_never_closed_is_refused() -> None:
    [row, message] = rows(b'a,b\n1,x\n2,"open\n3,y\n')
    assert row == {"a": 1, "b": "x"}
    assert message == "is not CSV: unexpected end of data"


def test_a_quote_that_is_never_closed_does_not_swallow_a_whole_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(csv_records, "MAX_RECORD_BYTES", 1 << 20)
    line = b"x" * 1000 + b"\n"
    endless = itertools.chain([b"a\n", b'"open\n'], itertools.repeat(line))
    source = TextFile(_Lines(endless), FORMATS["csv"], "a file")  # type: ignore[arg-type]
    assert len(next(iter(source))) < 2 * csv_records.MAX_RECORD_BYTES


class _Lines:
    """As much of a file as is read by lines."""

    def __init__(self, lines: itertools.chain[bytes]) -> None:
        self._lines = lines

    def __iter__(self) -> itertools.chain[bytes]:
        return self._lines

    def readline(self) -> bytes:
        return next(self._lines, b"")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (b"1", "has 1 cells, the header has 2"),
        (b"1,2,3", "has 3 cells, the header has 2"),
        (b"1,x\ry", "is not CSV: new-line character seen in unquoted field"),
        (b"1,\xff", "is not UTF-8 (byte 0xff at column 3)"),
    ],
)
def test_a_bad_row_spoils_only_itself(row: bytes, message: str) -> None:
    assert rows(b"a,b\n" + row + b"\n2,z\n") == [message, {"a": 2, "b": "z"}]


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b"", "a file has no header line"),
        (b"\n\n", "a file has no header line"),
        (b"\n\na,a\n", "a file line 3 names more than one column a"),
        (b"a,\xff\n", "a file line 1 is not UTF-8"),
        (b"a,b,a\n", "a file line 1 names more than one column a"),
    ],
)
def test_a_csv_file_without_a_header_that_can_be_used_is_refused(
    header: bytes, message: str
) -> None:
    with pytest.raises(BadInput, match=message):
        text(header, "csv")


cells = st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), max_size=8)


@given(st.lists(st.lists(cells, min_size=2, max_size=2), max_size=8))
def test_whatever_the_csv_module_writes_is_read_back(table: list[list[str]]) -> None:
    file = io.StringIO(newline="")
    csv.writer(file).writerows([["a", "b"], *table])
    expected = [dict(zip(["a", "b"], row, strict=True)) for row in table]
    assert rows(file.getvalue().encode(), raw=True) == expected


def test_records_that_end_with_nul_may_hold_newlines() -> None:
    source = text(b"one\0two\nlines\n\0\0last", "null")
    assert decoded("raw", *source) == ["one", "two\nlines\n", "", "last"]
    assert source.place(1) == "a file record 2"


@given(st.lists(st.text(st.characters(exclude_characters="\0", codec="utf-8"))))
def test_whatever_ends_with_nul_is_read_back(names: list[str]) -> None:
    data = "".join(f"{name}\0" for name in names).encode()
    assert decoded("raw", *text(data, "null")) == names


def test_a_record_of_a_slow_pipe_is_there_once_it_is_whole() -> None:
    read, write = os.pipe()
    with open(write, "wb", buffering=0) as pipe:
        records = iter(TextFile(open(read, "rb"), FORMATS["null"], "a pipe"))  # noqa: SIM115  # closed at its end
        pipe.write(b"one\0tw")
        first: list[bytes] = []
        thread = threading.Thread(target=lambda: first.append(next(records)))
        thread.start()
        thread.join(30)
        assert decoded("raw", *first) == ["one"]
        pipe.write(b"o\0")
    assert decoded("raw", *records) == ["two"]


def test_cells_may_be_of_any_size_and_over_many_lines() -> None:
    wide, long = "x" * 300_000, "line\n" * 300_000
    assert rows(f'a,b\n{wide},"{long}"\n1,2\n'.encode()) == [
        {"a": wide, "b": long},
        {"a": 1, "b": 2},
    ]


@pytest.mark.parametrize("delimiter", [";", "\t", "|", "^", "]", " "])
def test_another_delimiter(delimiter: str) -> None:
    data = f'a{delimiter}b\n"1{delimiter}2"{delimiter}"two\nlines"\n'.encode()
    assert rows(data, delimiter=delimiter) == [{"a": f"1{delimiter}2", "b": "two\nlines"}]
