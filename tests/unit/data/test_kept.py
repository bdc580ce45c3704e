"""Results as a serving master keeps them."""

from __future__ import annotations

import datetime
import decimal
import json
import pickle

from dq.data import kept, outputs
from dq.data.pieces import BadValue
from dq.security.safe_pickle import safe_loads


class Point:
    """What no reader needs to have."""

    def __init__(self, x: int) -> None:
        self.x = x

    def __str__(self) -> str:
        return f"P{self.x}"


class Locked:
    """What cannot be pickled."""

    def __reduce__(self) -> str:
        raise TypeError("not this one")


def keep(*values: object) -> list[object]:
    timed = [(value, 0.5) for value in values]
    blob = outputs.encode("kept", 0, [None] * len(values), timed, 1, "here:1")
    found, seconds = kept.load(blob, safe_loads)
    assert seconds == [0.5] * len(values)
    return found


def test_built_in_values_are_kept_as_they_are() -> None:
    values = [1, "two", [3.5, {"a": None}], (4,), {5}, b"6", float("inf")]
    assert keep(*values) == values


def test_others_are_kept_as_text_and_as_json_and_pickled() -> None:
    day, price = datetime.date(2026, 1, 2), decimal.Decimal("1.50")
    one, two, three = keep(day, 7, price)
    assert two == 7
    assert isinstance(one, kept.Forms)
    assert isinstance(three, kept.Forms)
    assert (one.text, json.loads(one.json or "")) == ("2026-01-02", {"result": "2026-01-02"})
    assert (one.value(pickle.loads), three.value(pickle.loads)) == (day, price)


def test_a_value_of_any_class_can_be_read_by_who_does_not_have_it() -> None:
    [found] = keep(Point(3))
    assert isinstance(found, kept.Forms)
    assert found.text == "P3"
    value = found.value(pickle.loads)
    assert isinstance(value, Point)
    assert value.x == 3
    assert isinstance(found.value(safe_loads), BadValue)


def test_a_value_that_cannot_be_pickled_has_its_text() -> None:
    [found] = keep(Locked())
    assert isinstance(found, kept.Forms)
    assert "Locked object" in found.text
    assert (found.json, found.pickled) == (None, None)
    assert isinstance(found.value(pickle.loads), BadValue)
