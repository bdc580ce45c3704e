"""What stands in a record for values that JSON does not know."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import enum
import fractions
import ipaddress
import json
import types
import uuid
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import pytest

from dq.core.records import Result
from dq.data import outputs

np: Any = pytest.importorskip("numpy")


class Point(NamedTuple):
    x: int
    y: object


@dataclasses.dataclass(frozen=True)
class Shape:
    name: str
    corner: Point


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Series:
    """As tensors and data frames' columns are: not numpy's, but with its way out."""

    def tolist(self) -> list[float]:
        return [0.5, float("nan")]


class Frame:
    def to_dict(self) -> dict[str, object]:
        raise AssertionError("nobody has asked for it")


def refuse(name: str) -> object:
    raise AssertionError(f"{name} is not JSON")


def written(value: object) -> object:
    """What a strict reader finds as a task's result."""
    line = outputs.encode("jsonl", 0, [1], [(value, 0.5)], 1, "w")
    found: dict[str, object] = json.loads(line, parse_constant=refuse)
    return found["result"]


UTC = datetime.timezone.utc


@pytest.mark.parametrize(
    ("value", "form"),
    [
        (float("nan"), None),
        ([1.5, float("inf"), -float("inf")], [1.5, None, None]),
        ({"loss": float("nan"), "epoch": 2}, {"loss": None, "epoch": 2}),
        (Point(1, Point(2, 3)), {"x": 1, "y": {"x": 2, "y": 3}}),
        ([{"at": Point(1, 2)}], [{"at": {"x": 1, "y": 2}}]),
        (Shape("dot", Point(1, None)), {"name": "dot", "corner": {"x": 1, "y": None}}),
        ({3, 10, 1}, [1, 3, 10]),
        (frozenset({"b", "a"}), ["a", "b"]),
        ({1, "a", None}, ["a", 1, None]),
        (datetime.date(2026, 1, 2), "2026-01-02"),
        (datetime.datetime(2026, 1, 2, 3, 4, tzinfo=UTC), "2026-01-02T03:04:00+00:00"),
        (datetime.time(3, 4), "03:04:00"),
        (datetime.timedelta(days=1, milliseconds=50), "PT86400.05S"),
        (PurePosixPath("a/b"), "a/b"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (decimal.Decimal("1.10"), "1.10"),
        (fractions.Fraction(1, 3), "1/3"),
        (ipaddress.ip_address("::1"), "::1"),
        (b"\x00\xff", {"base64": "AP8="}),
        (bytearray(b"a"), {"base64": "YQ=="}),
        (Colour.RED, "red"),
        ([Level.HIGH, Colour.RED], [3, "red"]),
        (range(3), [0, 1, 2]),
        (collections.deque([1, (2,)]), [1, [2]]),
        (types.MappingProxyType({"a": 1}), {"a": 1}),
        (collections.Counter("aab"), {"a": 2, "b": 1}),
        (Series(), [0.5, None]),
    ],
)
def test_a_value_that_json_does_not_know_has_this_form(value: object, form: object) -> None:
    assert written(value) == form


@pytest.mark.parametrize(
    ("value", "form"),
    [
        (np.int64(3), 3),
        (np.uint8(3), 3),
        (np.float32(0.5), 0.5),
        (np.float64("nan"), None),
        (np.longdouble(1.5), 1.5),
        (np.bool_(True), True),
        (np.str_("a"), "a"),
        (np.datetime64("2026-01-02T03:04"), "2026-01-02T03:04"),
        (np.datetime64("NaT", "s"), None),
        (np.timedelta64(90, "s"), "PT90S"),
        (np.arange(2000), list(range(2000))),
        (np.array([[1.0, np.nan]]), [[1.0, None]]),
        (np.array(2.5), 2.5),
        (np.ones(2, dtype=np.longdouble), [1.0, 1.0]),
        (np.array(["a", "b"]), ["a", "b"]),
        (np.array([Point(1, 2), None], dtype=object), [{"x": 1, "y": 2}, None]),
        (np.array(["2026-01-02"], dtype="M8[ns]"), ["2026-01-02T00:00:00.000000000"]),
        (np.array([(1, 0.5)], dtype=[("n", int), ("p", float)]), [{"n": 1, "p": 0.5}]),
        (np.ma.masked_array([1, 2], [False, True]), [1, None]),
        ({"n": np.int64(3), "ok": np.bool_(False)}, {"n": 3, "ok": False}),
    ],
)
def test_numpys_values_stand_as_numbers_and_lists(value: object, form: object) -> None:
    assert written(value) == form
    assert type(written(value)) is type(form)


@pytest.mark.parametrize(
    ("key", "text"),
    [
        (1, "1"),
        (True, "true"),
        (None, "null"),
        (0.5, "0.5"),
        (float("nan"), "NaN"),
        (datetime.date(2026, 1, 2), "2026-01-02"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Colour.RED, "red"),
        (np.int64(3), "3"),
    ],
)
def test_a_key_that_is_no_string_becomes_one(key: object, text: str) -> None:
    assert written({key: 1}) == {text: 1}


def cycle() -> list[object]:
    items: list[object] = []
    items.append(items)
    return items


def deep() -> list[object]:
    items: list[object] = []
    for _ in range(10_000):
        items = [items]
    return items


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (object(), "object has no form in JSON; return a dict, a list or a text"),
        ([1, {"a": object}], "type has no form"),
        (1j, "complex has no form"),
        (np.complex128(1), "numpy.complex128 has no form"),
        (np.ones(1, dtype=complex), "numpy.complex128 has no form"),
        (ValueError("no"), "ValueError has no form"),
        (Frame(), r"Frame has no form in JSON; return its to_dict\(\)"),
        ({(1, 2): 3}, "a key of type tuple has no form in JSON"),
        ({1: 1, "1": 2, "else": {1}}, "two of its keys are '1' in JSON"),
        (cycle(), "it contains itself"),
        (deep(), "it is nested too deeply for JSON"),
    ],
)
def test_what_has_no_form_is_refused_and_never_becomes_its_repr(value: object, why: str) -> None:
    with pytest.raises(TypeError, match=why):
        written(value)


def test_the_same_value_twice_is_no_cycle() -> None:
    shared = {1, 2}
    assert written([shared, shared]) == [[1, 2], [1, 2]]


def test_plain_values_are_looked_at_once_for_all_of_a_batch() -> None:
    assert outputs.are_plain([1, "a", [None, {"b": 1.5}], (True,)])
    assert not outputs.are_plain([1, [Point(1, 2)]])


def test_an_input_has_the_same_forms() -> None:
    line = outputs.jsonl(Result(0, {"when": datetime.date(2026, 1, 2)}, 1))
    assert json.loads(line)["input"] == {"when": "2026-01-02"}
