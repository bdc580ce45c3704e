"""An input that has changed is noticed, and one that has not is taken for the same."""

from __future__ import annotations

import threading
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy
import pytest

from dq.core.records import Done, Recorded
from dq.errors import InputChanged
from support.journals import (
    VALUES,
    lines,
    read,
    record,
    some_records,
    write,
)


def test_a_changed_input_is_found_by_its_index(tmp_path: Path) -> None:
    write(tmp_path / "j", some_records())
    items = lines(0, 100)
    items[17] = b"other\n"
    with pytest.raises(InputChanged) as caught:
        read(tmp_path / "j", items)
    assert caught.value.index == 17


@pytest.mark.parametrize("length", [10, 3_000, 70_000])
def test_lines_of_any_length_are_known_again(tmp_path: Path, length: int) -> None:
    items: list[object] = [b"%d" % n * length + b"\n" for n in range(5)]
    write(tmp_path / "j", [record(0, items)])
    assert len(read(tmp_path / "j", items)) == 1


def test_an_input_that_moved_is_a_changed_one(tmp_path: Path) -> None:
    write(tmp_path / "j", [record(0, [b"1\n", b"23\n"])])
    with pytest.raises(InputChanged):
        read(tmp_path / "j", [b"12\n", b"3\n"])


def test_the_last_line_may_get_its_end(tmp_path: Path) -> None:
    write(tmp_path / "j", [record(0, [b"1\n", b"2"])])
    assert read(tmp_path / "j", [b"1\n", b"2\n"])


class Point:
    def __init__(self, x: Any) -> None:
        self.x = x


WORD = "".join(["a", " ", "word"])  # one object, in several of the inputs below


@pytest.mark.parametrize(
    "items",
    [
        [1, "two", 3.0, None, True, b"x\n"],
        [1, (2, 3), {"a": [4]}, "five"],
        [{"name": "a", "list": ["name", "".join(["na", "me"])]}],
        [10**5000, "\udcff"],
        [Point("x"), Point(["x"]), 7],
        [("".join(["na", "me"]), WORD, WORD, 1.0), (WORD, "na" + "me"), ("", b"", "n", b"n")],
        [{WORD: WORD, "".join(["na", "me", "d"]): 1}, {1: WORD}],
        [(str(n), str(n)) for n in range(10)],  # each a string of its own, until it is unpickled
        [[n, [str(n), str(n), {str(n): (str(n),)}]] for n in range(10)],
        [{"tags": set(range(100)) - {0, *range(2, 64), *range(65, 100)}}],
        [set(range(100)) - {0, *range(2, n), *range(65, 100)} for n in range(60, 64)],
        [Point("x"), Point(WORD), Point({WORD: [WORD, "x"], "x": {"x"}}), Point(Point(WORD))],
        [(date(2000, 1, 1 + n), Decimal(n), str(n)) for n in range(9)],
        [b"x" * 70_000, bytearray(70_000), "y" * 3_000],
        [numpy.arange(3), {"k": numpy.arange(20_000)}],
        [1, *(numpy.arange(n) for n in range(9))],
    ],
    ids=[
        *("scalars", "mixed", "shared", "huge", "objects", "rows", "dicts"),
        *("digits", "digits in rows", "set", "sets", "plain objects", "dates"),
        *("bytes", "arrays", "small arrays"),
    ],
)
def test_values_are_known_again(tmp_path: Path, items: list[object]) -> None:
    write(tmp_path / "j", [record(0, items)], VALUES)
    assert len(read(tmp_path / "j", items, VALUES)) == 1


@pytest.mark.parametrize(
    ("then", "now"),
    [
        (1, b"1"),
        (1, "1"),
        (1, 1.0),
        (1, True),
        ("x", b"x"),
        (b"x", b"x\n"),
        (10**5000, 10**5001),
        (["x", "y"], ["x", "x"]),
    ],
    ids=range(8),
)
def test_values_that_look_alike_are_not_the_same(tmp_path: Path, then: object, now: object) -> None:
    write(tmp_path / "j", [record(0, [then])], VALUES)
    with pytest.raises(InputChanged):
        read(tmp_path / "j", [now], VALUES)


def test_a_value_that_cannot_be_pickled_is_a_changed_one(tmp_path: Path) -> None:
    write(tmp_path / "j", [record(0, [1])], VALUES)
    with pytest.raises(InputChanged):
        read(tmp_path / "j", [threading.Lock()], VALUES)


def test_a_part_of_a_mixed_batch_is_known_without_the_rest(tmp_path: Path) -> None:
    whole = record(0, [1, (2,), 3])
    part = Recorded(whole.batch.part(2, 3), Done(1, b""), 1, "")
    write(tmp_path / "j", [part], VALUES)
    assert len(read(tmp_path / "j", [1, (2,), 3], VALUES)) == 1
