"""What a worker makes of a line."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dq.core.records import Reading
from dq.data import batches, decoding
from dq.data.decoding import Decoder
from dq.data.parsing import value_of
from support.reading import decoded


@pytest.mark.parametrize(("skip", "count"), [(0, 5), (2, 2), (4, 1), (5, 0)])
def test_a_part_of_a_batch_decodes_only_its_own_items(skip: int, count: int) -> None:
    blob = batches.dump([b"%d\n" % n for n in range(5)])
    assert (
        Decoder(Reading("lines")).decode(blob, skip, count) == list(range(5))[skip : skip + count]
    )


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
