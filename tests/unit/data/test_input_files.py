"""Files of inputs, by their names, one after the other, compressed or not."""

from __future__ import annotations

import bz2
import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import pytest

from dq.data.input_files import InputFiles
from dq.errors import BadInput, UsageError
from support.reading import decoded, written


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


def test_an_item_is_called_by_its_number(tmp_path: Path) -> None:
    source = InputFiles([written(tmp_path, "a.json", b"[1,\n\n2]")])
    assert list(source) == [b"1", b"2"]
    assert source.place(1) == f"{tmp_path}/a.json item 2"


@pytest.mark.parametrize("name", ["a.zip", "A.ZST", "a.tar.gz", "a.tgz"])
def test_a_file_that_nobody_can_unpack_here_is_not_taken_for_lines(
    tmp_path: Path, name: str
) -> None:
    with pytest.raises(BadInput, match="unpack it into a pipe"):
        InputFiles([written(tmp_path, name, b"x\n")])
