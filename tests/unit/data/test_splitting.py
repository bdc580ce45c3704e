"""Values of one pickle: what they share, and how one is had without the others."""

from __future__ import annotations

import copyreg
import datetime
import os
import pickle
import random
import uuid
from collections import OrderedDict, defaultdict, namedtuple
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from typing import Any

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dq.core.records import Reading
from dq.data import batches
from dq.data.decoding import Decoder
from dq.data.pickling import dump_one
from dq.data.pieces import BadValue
from dq.data.splitting import split
from dq.security.safe_pickle import safe_loads

VALUES = Reading()


def as_tasks_get_them(values: list[Any]) -> list[Any]:
    chunks = Decoder(VALUES).chunks(batches.dump(values), 0, len(values))
    return [value for some, _ in chunks for value in some]


def apart(values: list[Any]) -> list[Any]:
    """Each value from a pickle of its own."""
    data = pickle.dumps((True, values), 4)
    return [
        pickle.loads(split(data, len(values), at, at + 1, hostile=False)[0])
        for at in range(len(values))
    ]


@dataclass
class Plain:
    """Nothing but what is in its `__dict__`."""

    held: object


@dataclass(frozen=True)
class Frozen:
    """The same, with a hash, which it cannot have before it has what it holds."""

    held: object
    others: set[object] = field(default_factory=set, compare=False)


class Color(Enum):
    RED = "red"
    BLUE = "blue"


Named = namedtuple("Named", "x y")


class Fragile:
    """Pickles, and raises when it is to be unpickled."""

    def __reduce__(self) -> tuple[object, ...]:
        return int, ("not a number",)


class Deadly:
    """Ends the process that unpickles it."""

    def __reduce__(self) -> tuple[object, ...]:
        return os._exit, (7,)


class WithKeywords:
    def __init__(self, *, name: str) -> None:
        self.name = name

    def __new__(cls, *, name: str) -> WithKeywords:
        return object.__new__(cls)

    def __getnewargs_ex__(self) -> tuple[tuple[()], dict[str, str]]:
        return (), {"name": self.name}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, WithKeywords) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.text(),
    st.binary(),
    st.datetimes(timezones=st.sampled_from([None, datetime.timezone.utc])),
    st.decimals(allow_nan=False),
    st.fractions(),
    st.uuids(),
)
nested = st.recursive(
    scalars,
    lambda item: st.one_of(
        st.tuples(item, item),
        st.lists(item),
        st.dictionaries(scalars, item),
        st.frozensets(scalars),
        st.sets(scalars),
        st.builds(Plain, item),
        st.builds(Frozen, item),
        st.builds(Named, item, item),
    ),
    max_leaves=10,
)


@given(st.lists(nested, max_size=5))
def test_values_come_back_as_they_were_together_and_apart(values: list[object]) -> None:
    assert batches.load(batches.dump(values)) == values
    assert as_tasks_get_them(values) == values
    assert apart(values) == values


OBJECTS: list[Any] = [
    datetime.datetime(2000, 1, 1, tzinfo=datetime.timezone.utc),
    Decimal("1.5"),
    Fraction(1, 3),
    uuid.UUID(int=7),
    1j,
    range(9),
    bytearray(b"x"),
    {1, 2},
    frozenset({1}),
    OrderedDict(a=[1], b=2),
    defaultdict(list, {"k": [1]}),
    Color.RED,
    Named(1, [2]),
    Plain({"k": Plain([Color.BLUE])}),
    Frozen((1, 2)),
    WithKeywords(name="x"),
    numpy.float64(1.5),
    numpy.int8(3),
    int,
    len,
    "x" * 7_000,
    list(range(2_500)),
]


def test_objects_of_all_kinds_are_one_pickle_and_can_be_had_apart() -> None:
    size, pickles = pickle.loads(batches.dump(OBJECTS))
    assert (size, len(pickles)) == (-len(OBJECTS), 1)
    assert as_tasks_get_them(OBJECTS) == OBJECTS
    assert apart(OBJECTS) == OBJECTS
    assert apart([*OBJECTS, *OBJECTS]) == [*OBJECTS, *OBJECTS]
    decoder = Decoder(VALUES)
    blob = batches.dump(OBJECTS)
    assert [decoder.decode(blob, n, 1)[0] for n in range(len(OBJECTS))] == OBJECTS


def test_a_value_apart_has_the_pickle_that_it_would_have_alone() -> None:
    values = [value for value in OBJECTS if type(value) is not bytearray]
    data = pickle.dumps((True, values), 4)
    alone = [dump_one(value) for value in values]
    assert split(data, len(values), 0, len(values), hostile=False) == alone


# What inputs share


def test_what_inputs_of_a_batch_share_they_share_in_the_worker() -> None:
    """As in a chunk of `multiprocessing.Pool`. It can hurt tasks that change their inputs in place:
    here, each would get what the one before it has left."""
    settings = {"seen": 0}
    for around in (lambda x: x, lambda x: (x, 1), lambda x: {"k": x}, Plain):
        values = [around(settings) for _ in range(3)]
        one, two, three = map(_settings_of, as_tasks_get_them(values))
        one["seen"] += 1
        assert one is two is three
        assert settings == {"seen": 0}


def _settings_of(value: Any) -> Any:
    """The dict in it that has the key "seen"."""
    if isinstance(value, Plain):
        return value.held
    if isinstance(value, tuple):
        return value[0]
    return value.get("k", value)


@pytest.mark.parametrize("together", [batches.ANYTHING, batches.DATA])
def test_inputs_that_are_large_share_nothing(together: str) -> None:
    table = list(range(20_000))
    (_, one), (_, two) = batches.load(batches.dump([(1, table), (2, table)], together=together))
    assert one == two == table
    assert one is not two


@pytest.mark.parametrize("shared", [[1], {"a": 1}, Plain([1])])
def test_calls_share_nothing(shared: object) -> None:
    one, two = batches.load(batches.dump([shared, shared], together=batches.NOTHING))
    assert one == two == shared
    assert one is not two


def test_what_an_input_has_twice_it_has_twice() -> None:
    one: list[object] = []
    round_: list[object] = []
    round_.append(round_)
    in_tuple: tuple[object, ...] = ([],)
    in_tuple[0].append(in_tuple)  # type: ignore[attr-defined]
    in_object = Plain(None)
    in_object.held = (in_object,)
    for have in (as_tasks_get_them, apart):
        both, around, other, tupled, held = have([[one, one], round_, [one], in_tuple, in_object])
        assert both[0] is both[1]
        assert around[0] is around
        assert other == [[]]
        assert tupled[0][0] is tupled
        assert held.held[0] is held


# What they do not


@pytest.mark.parametrize("loads", [pickle.loads, safe_loads])
def test_what_cannot_be_unpickled_takes_no_other_value_along(
    loads: Callable[[bytes], object],
) -> None:
    values: list[Any] = [(n, datetime.date(2000, 1, 1), "text") for n in range(300)]
    values[3] = values[200] = Fragile()
    values[70] = [[{"k": (Fragile(), 1)}]]
    got = batches.load(batches.dump(values), loads)
    bad = [n for n, value in enumerate(got) if isinstance(value, BadValue)]
    assert bad == [3, 70, 200]
    assert [got[n] for n in range(300) if n not in bad] == [
        values[n] for n in range(300) if n not in bad
    ]


def test_a_value_that_ends_its_process_is_had_alone_or_not_at_all() -> None:
    values = [Plain(1), Deadly(), Plain([2]), 3]
    blob = batches.dump(values)
    decoder = Decoder(VALUES)
    for start, stop in [(0, 1), (2, 4), (3, 4)]:
        assert decoder.decode(blob, start, stop - start) == values[start:stop]


def test_what_is_refused_takes_no_other_value_along() -> None:
    values = [1, Plain(2), {"k": {3}}, Color.RED, Decimal(4)]
    got = batches.load(batches.dump(values), safe_loads)
    assert [isinstance(value, BadValue) for value in got] == [False, True, False, True, False]


def test_values_nested_too_deeply_to_be_taken_apart_are_still_had() -> None:
    def chain(n: int) -> object:
        return Plain(chain(n - 1)) if n else [n]

    deep = [chain(230) for _ in range(20)]
    with pytest.raises(RecursionError):
        apart(deep)
    assert batches.load(batches.dump(deep)) == deep
    assert Decoder(VALUES).decode(batches.dump(deep), 7, 2) == deep[7:9]


class Setter:
    """Has a sixth item in what `__reduce__` returns."""

    held = 0

    def __reduce__(self) -> Any:
        return Setter, (), self.held, None, None, _set_held


def _set_held(setter: Setter, held: int) -> None:
    setter.held = held


def test_values_in_a_pickle_that_cannot_be_taken_apart_are_still_had() -> None:
    setters = [Setter(), Setter()]
    setters[1].held = 5
    with pytest.raises(ValueError, match="for its effect alone"):
        apart(setters)
    [one] = Decoder(VALUES).decode(batches.dump(setters), 1, 1)
    assert one.held == 5  # type: ignore[attr-defined]


class Registered:
    """Pickled by a number that each process may give to something else."""


def test_a_class_that_has_a_number_is_still_had() -> None:
    copyreg.add_extension(__name__, "Registered", 0xDA01)
    try:
        blob = batches.dump([Registered(), Registered()])
        assert [type(one) for one in Decoder(VALUES).decode(blob, 0, 1)] == [Registered]
    finally:
        copyreg.remove_extension(__name__, "Registered", 0xDA01)


# Any part of a batch


@pytest.mark.parametrize(
    "kind", [int, str, lambda n: Fragile(), lambda n: [n, {"n": str(n)}], lambda n: Plain(n)]
)
@pytest.mark.parametrize("together", [batches.ANYTHING, batches.DATA, batches.NOTHING])
def test_any_part_of_a_large_batch_can_be_had(kind: Callable[[int], object], together: str) -> None:
    values = [kind(n) if n % 700 else n for n in range(3_300)]
    blob = batches.dump(values, together=together)
    decoder = Decoder(VALUES)
    for skip, count in [(0, 3_300), (0, 1), (499, 2), (500, 500), (777, 2_000), (3_299, 1)]:
        got = decoder.decode(blob, skip, count)
        assert len(got) == count
        for value, wanted in zip(got, values[skip : skip + count], strict=True):
            assert isinstance(value, BadValue) if isinstance(wanted, Fragile) else value == wanted


@pytest.mark.parametrize("width", [1, 30, 300, 3_000])
def test_pieces_are_smaller_where_values_are_large(width: int) -> None:
    rows = [[float(n)] * width + ["end"] for n in range(1_000)]
    blob = batches.dump(rows)
    _, pieces = pickle.loads(blob)
    assert all(len(piece) < 100_000 for piece in pieces)
    assert batches.load(blob) == rows
    assert Decoder(VALUES).decode(blob, 333, 40) == rows[333:373]


def test_no_part_of_a_batch_is_more_than_was_asked_for() -> None:
    """Whatever somebody has made up."""
    blob = pickle.dumps((1, [batches.dump(list(range(500)))]))
    assert Decoder(VALUES).decode(blob, 0, 100) == [0]
    with pytest.raises(TypeError, match="not a batch"):
        batches.load(pickle.dumps((-1, [])))


# What somebody has made up


def test_what_is_far_larger_apart_is_not_taken_apart() -> None:
    large = ["x" * 1_000 for _ in range(100)]
    made_up = pickle.dumps((True, [Plain(1), *([large] for _ in range(10_000))]))
    got = batches.load(pickle.dumps((-10_001, [made_up])), safe_loads)
    assert len(got) == 10_001
    assert {type(value) for value in got} == {BadValue}
    assert len(set(map(id, got))) == 1


def test_a_large_number_many_times_over_is_not_written_as_often() -> None:
    number = b"\x8b" + (2**20).to_bytes(4, "little") + b"\x01" * 2**20 + b"\x94"
    made_up = b"\x80\x04\x88](" + number + b"0" + b"h\x00" * 100_000 + b"e\x86."
    with pytest.raises(ValueError, match="too large"):
        split(made_up, 100_000, 0, 100_000, hostile=True)


def test_a_pickle_with_a_huge_memo_is_refused_before_it_is_read() -> None:
    with pytest.raises(pickle.UnpicklingError, match="memo"):
        split(b"\x80\x04\x88]r\xff\xff\xff\xffa\x86.", 1, 0, 1, hostile=True)


def test_bytes_in_any_order_do_no_harm() -> None:
    rng = random.Random(1)
    data = bytearray(pickle.dumps((True, [Plain(n) for n in range(5)]), 4))
    for _ in range(3_000):
        changed = bytearray(data)
        for _ in range(rng.randint(1, 4)):
            changed[rng.randrange(len(changed))] = rng.randrange(256)
        got = batches.load(pickle.dumps((-5, [bytes(changed)])), safe_loads)
        assert len(got) == 5
