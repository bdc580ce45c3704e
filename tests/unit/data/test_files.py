"""InputFiles of inputs: where a record ends, what it is called, and what a worker makes of it."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import itertools
import json
import lzma
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dq.core.records import Reading
from dq.data import batches, csv_records, decoding
from dq.data.batches import BadValue
from dq.data.decoding import Decoder
from dq.data.formats import FORMATS
from dq.data.input_files import InputFiles
from dq.data.json_array import JsonArray
from dq.data.parsing import value_of
from dq.data.text_file import TextFile
from dq.errors import BadInput, UsageError


def decoded(reading: Reading | str, *items: object) -> list[object]:
    decoder = Decoder(Reading(reading) if isinstance(reading, str) else reading)
    values = decoder.decode(batches.dump(items), 0, len(items))
    return [value.failure.message if isinstance(value, BadValue) else value for value in values]


def text(data: bytes, kind: str = "lines") -> TextFile:
    return TextFile(io.BytesIO(data), FORMATS[kind], "a file")


def rows(data: bytes, *, raw: bool = False, delimiter: str = ",") -> list[object]:
    source = TextFile(io.BytesIO(data), FORMATS["csv"], "a file", delimiter)
    return decoded(Reading("csv", tuple(source.fields), raw, "", delimiter), *source)


def written(tmp_path: Path, name: str, data: bytes) -> str:
    path = tmp_path / name
    path.write_bytes(data)
    return str(path)


# -- lines


@pytest.mark.parametrize(
    ("line", "value"),
    [
        (b"12\n", 12),
        (b"-1.5e3", -1500.0),
        (b'{"a": [1, null]}\r\n', {"a": [1, None]}),
        (b'"quoted"\n', "quoted"),
        (b"plain words\n", "plain words"),
        (b"[1, 2\n", "[1, 2"),
        (b"007\n", "007"),
        (b"NaN\n", "NaN"),
        (b"-Infinity\n", "-Infinity"),
        (b"\n", ""),
        (b"a\r\r\n", "a\r"),
        ("grün\n".encode(), "grün"),
    ],
)
def test_a_line_is_json_where_it_parses_and_a_string_where_not(line: bytes, value: object) -> None:
    assert decoded("lines", line) == [value]


def test_a_line_of_a_hundred_thousand_brackets_is_a_string() -> None:
    line = b"[" * 100_000
    assert decoded("lines", line) == [line.decode()]


HALVES = ["[", "]", "{", "}", ",", ":", '"', "1", "2", "null", "a", "\\", "[]", " ", "\r", "NaN"]


@pytest.mark.parametrize("kind", ["lines", "jsonl"])
@given(lines=st.lists(st.lists(st.sampled_from(HALVES), max_size=5).map("".join), max_size=6))
@example(lines=["1,2", "[3", "4]"])
@example(lines=["[1", "2]"])
@example(lines=['"a', 'b"'])
@example(lines=["1", "[2", "3]", "4,5"])
def test_lines_mean_together_what_each_means_by_itself(kind: str, lines: list[str]) -> None:
    whole = [f"{line}\n".encode() for line in lines]
    assert decoded(kind, *whole) == [decoded(kind, line)[0] for line in whole]


@pytest.mark.parametrize(
    "lines",
    [
        [b'{"a": 1}\n', b'{"b": [2]}\n', b"3\r\n", b'"four"'],
        [b"1\n", b"no json\n", b"2\n"],
    ],
)
def test_lines_of_json_are_parsed_at_once_and_others_one_by_one(
    lines: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed: list[str] = []

    def watched(text: str, parse: Callable[[str], object] = value_of) -> object:
        parsed.append(text)
        return parse(text)

    monkeypatch.setattr(decoding, "value_of", watched)
    one_by_one = "no json" in decoded("lines", *lines)
    assert len(parsed) == (len(lines) if one_by_one else 0)


def test_raw_lines_stay_strings() -> None:
    assert decoded("raw", b"1\n", b" [2]\n", b'"3"') == ["1", " [2]", '"3"']


def test_bytes_that_are_not_utf8_spoil_only_their_line() -> None:
    first, bad, last = decoded("jsonl", b'"a"\n', b'"b\xff"\n', b'"c"\n')
    assert bad == "is not UTF-8 (byte 0xff at column 3)"
    assert (first, last) == ("a", "c")


@given(st.binary().filter(lambda name: b"\n" not in name and not name.endswith(b"\r")))
def test_a_name_is_read_as_the_system_has_it(name: bytes) -> None:
    [read] = decoded("raw", name + b"\n")
    assert str(read).encode(errors="surrogateescape") == name


def test_a_list_may_hold_a_name_that_is_not_utf8() -> None:
    assert decoded("lines", b'["caf\xe9", 1]\n', b"2\n") == [["caf\udce9", 1], 2]


@pytest.mark.parametrize("kind", ["lines", "jsonl"])
def test_a_number_that_no_float_can_hold_stays_a_string(kind: str) -> None:
    read = decoded(kind, b"1e999\n", b"[-1e999, 1e-5]\n", b"%d.5\n" % 10**400)
    assert read == ["1e999", ["-1e999", 1e-5], f"{10**400}.5"]


@pytest.mark.parametrize("kind", ["lines", "jsonl", "csv"])
def test_a_byte_order_mark_is_not_part_of_the_first_line(kind: str) -> None:
    source = text(b"\xef\xbb\xbf1\n2\n", kind)
    assert [*source.fields, *source][0] in ("1", b"1\n")


# -- JSON Lines


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


# -- CSV


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


# -- files


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.csv", "csv"),
        ("A.CSV", "csv"),
        ("a.jsonl", "jsonl"),
        ("a.txt", "lines"),
        ("csv", "lines"),
    ],
)
def test_a_files_name_says_what_it_holds(tmp_path: Path, name: str, kind: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"a\n")
    source = InputFiles([str(path)])
    assert source.reading.kind == kind
    assert list(source) == ([] if kind == "csv" else [b"a\n"])


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.csv", "jsonl"), ("a.txt", "lines"), ("a.jsonl", None)],
)
def test_raw_holds_whatever_the_format(tmp_path: Path, name: str, kind: str | None) -> None:
    path = tmp_path / name
    path.write_bytes(b"1\n")
    source = InputFiles([str(path)], kind, raw=True)
    assert decoded(source.reading, *source) == ["1"]


@pytest.mark.parametrize("name", ["missing.txt", "."])
def test_a_file_that_cannot_be_read_is_refused(name: str) -> None:
    with pytest.raises(BadInput, match="cannot read"):
        InputFiles([name])


# -- several files, packed files


def test_several_files_are_one_after_the_other_and_each_input_has_its_place(
    tmp_path: Path,
) -> None:
    one = written(tmp_path, "1.txt", b"a\nb\n")
    none = written(tmp_path, "2.txt", b"")
    two = written(tmp_path, "3.txt", b"c\nd")
    source = InputFiles([one, none, two])
    assert list(source) == [b"a\n", b"b\n", b"c\n", b"d"]
    places = [f"{one} line 1", f"{one} line 2", f"{two} line 1", f"{two} line 2"]
    assert [source.place(index) for index in range(4)] == places


def test_files_of_two_formats_are_refused(tmp_path: Path) -> None:
    names = [written(tmp_path, name, b"1\n") for name in ("a.jsonl", "b.txt")]
    with pytest.raises(UsageError, match=r"a\.jsonl is read as jsonl and .*b\.txt as lines"):
        InputFiles(names)
    assert list(InputFiles(names, "lines")) == [b"1\n", b"1\n"]


def test_rows_of_several_files_have_the_same_columns(tmp_path: Path) -> None:
    one = written(tmp_path, "1.csv", b"a,b\n1,2\n")
    two = written(tmp_path, "2.csv", b"a,b\n3,4\n")
    source = InputFiles([one, two])
    assert decoded(source.reading, *source) == [{"a": 1, "b": 2}, {"a": 3, "b": 4}]
    assert source.place(1) == f"{two} line 2"
    other = written(tmp_path, "3.csv", b"a,c\n3,4\n")
    with pytest.raises(BadInput, match=r"3\.csv has other columns than .*1\.csv"):
        list(InputFiles([one, other]))


def test_a_file_that_is_missing_is_refused_before_the_first_is_read(tmp_path: Path) -> None:
    one = written(tmp_path, "1.txt", b"a\n")
    with pytest.raises(BadInput, match=r"cannot read .*2\.txt: No such file"):
        InputFiles([one, str(tmp_path / "2.txt")])


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
}


@pytest.mark.parametrize("suffix", PACKERS)
@pytest.mark.parametrize(
    ("name", "data", "values"),
    [
        ("a.txt", b"1\ntwo\n", [1, "two"]),
        ("a.csv", b"a\n1\n", [{"a": 1}]),
        ("a.jsonl", b"[1]\n\n2\n", [[1], 2]),
        ("a.json", b"[1, 2]", [1, 2]),
    ],
)
def test_a_packed_file_is_what_its_name_says_before_that(
    tmp_path: Path, suffix: str, name: str, data: bytes, values: list[object]
) -> None:
    source = InputFiles([written(tmp_path, name + suffix, PACKERS[suffix](data))])
    assert decoded(source.reading, *source) == values


@pytest.mark.parametrize("suffix", PACKERS)
@pytest.mark.parametrize("name", ["a.txt", "a.json", "a.csv"])
@pytest.mark.parametrize("spoil", [lambda data: data[:-5], lambda data: b"no such thing"])
def test_a_damaged_packed_file_is_named(
    tmp_path: Path, suffix: str, name: str, spoil: Callable[[bytes], bytes]
) -> None:
    data = PACKERS[suffix](b"[" + b",\n".join(b"%d" % n for n in range(20_000)) + b"]")
    path = written(tmp_path, name + suffix, spoil(data))
    with pytest.raises(BadInput, match=f"cannot read .*{name}{suffix} as "):
        list(InputFiles([path]))


# -- records that end with NUL


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


# -- CSV of other kinds


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


def test_tsv_has_tabs_and_a_row_of_empty_cells_is_a_row(tmp_path: Path) -> None:
    source = InputFiles([written(tmp_path, "a.tsv", b"a\tb\n1\t\n\t\n\n2\t3\n")])
    cells = [{"a": 1, "b": ""}, {"a": "", "b": ""}, {"a": 2, "b": 3}]
    assert decoded(source.reading, *source) == cells
    assert source.place(2) == f"{tmp_path}/a.tsv line 5"


def test_a_delimiter_says_that_a_file_is_csv(tmp_path: Path) -> None:
    path = written(tmp_path, "a.txt", b"a;b\n1;2\n")
    source = InputFiles([path], delimiter=";")
    assert decoded(source.reading, *source) == [{"a": 1, "b": 2}]
    with pytest.raises(UsageError, match="delimiter goes with CSV, not with jsonl"):
        InputFiles([path], "jsonl", delimiter=";")


# -- JSON arrays


def array(data: bytes, size: int = 7) -> list[object]:
    chunks = [data[at : at + size] for at in range(0, len(data), size)]
    return decoded("jsonl", *JsonArray(chunks, "a.json").items())


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(
    st.lists(values),
    st.sampled_from([None, 2]),
    st.booleans(),
    st.integers(1, 40),
)
def test_the_items_of_an_array_are_what_json_has(
    items: list[object], indent: int | None, ascii: bool, size: int
) -> None:
    data = json.dumps(items, indent=indent, ensure_ascii=ascii)
    assert array(data.encode(errors="surrogatepass" if ascii else "replace"), size) == json.loads(
        data.encode(errors="surrogatepass" if ascii else "replace")
    )


def test_items_of_an_endless_array_come_as_they_are_there() -> None:
    chunks = itertools.chain([b"["], itertools.repeat(b'{"a": 1},\n'))
    assert list(itertools.islice(JsonArray(chunks, "x").items(), 3)) == [b'{"a": 1}'] * 3


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'{"a": 1}', "a.json does not hold a JSON array; for one JSON value on each line give"),
        (b"", "a.json does not hold a JSON array"),
        (b"[1, 2", "a.json item 2 is not followed by a comma or the array's end"),
        (b"[1 2]", "a.json item 1 is not followed by a comma or the array's end"),
        (b"[1, x]", "a.json item 2 is not JSON: Expecting value"),
        (b"[1,]", "a.json item 2 is not JSON: Expecting value"),
        (b"[NaN]", "a.json item 1 is not JSON: NaN is not JSON"),
        (b"[1] 2", "a.json has more after its JSON array"),
        (b'["\xe9"]', "a.json item 1 is not UTF-8"),
    ],
)
def test_what_is_no_array_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(BadInput) as caught:
        array(data)
    assert str(caught.value).startswith(message)


def test_an_item_is_called_by_its_number(tmp_path: Path) -> None:
    source = InputFiles([written(tmp_path, "a.json", b"[1,\n\n2]")])
    assert list(source) == [b"1", b"2"]
    assert source.place(1) == f"{tmp_path}/a.json item 2"


@pytest.mark.parametrize("item", [b'{"a" 1}', b"[1, NaN]", b"[" * 100_000])
def test_no_more_is_read_of_an_array_than_it_takes_to_see_that_it_is_none(item: bytes) -> None:
    read = 0

    def chunks() -> Iterator[bytes]:
        nonlocal read
        yield b"[1, " + item
        while read < 10_000:
            read += 1
            yield b", 2" * 1000

    with pytest.raises(BadInput, match=r"a\.json item 2 is not JSON"):
        list(JsonArray(chunks(), "a.json").items())
    assert read < 100


def test_a_number_that_is_cut_off_at_an_arrays_end_is_no_item() -> None:
    items = JsonArray([b"[12, 34"], "a.json").items()
    assert next(items) == b"12"
    with pytest.raises(BadInput, match="item 2 is not followed by"):
        next(items)


@pytest.mark.parametrize("name", ["a.zip", "A.ZST", "a.tar.gz", "a.tgz"])
def test_a_file_that_nobody_can_unpack_here_is_not_taken_for_lines(
    tmp_path: Path, name: str
) -> None:
    with pytest.raises(BadInput, match="unpack it into a pipe"):
        InputFiles([written(tmp_path, name, b"x\n")])
