"""What inputs have in common, and tasks do not."""

from __future__ import annotations

import datetime
import pickle
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dq.core.records import Reading
from dq.data import batches
from dq.data.batches import BadValue
from dq.data.decoding import Decoder
from dq.security.safe_pickle import safe_loads

VALUES = Reading()


class Holder:
    """An object; the values of its `__dict__` are in itself, from Python 3.13 on."""

    all: ClassVar[list[object]] = []

    @classmethod
    def of(cls, held: object) -> dict[str, object]:
        holder = cls()
        holder.held = held  # type: ignore[attr-defined]
        cls.all.append(holder)
        return vars(holder)


def as_tasks_get_them(values: list[object]) -> list[object]:
    chunks = Decoder(VALUES).chunks(batches.dump(values), 0, len(values))
    return [value for some, _ in chunks for value in some]


class Fragile:
    """Pickles, and raises when it is to be unpickled."""

    def __reduce__(self) -> tuple[object, ...]:
        return int, ("not a number",)


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
containers = st.lists(
    st.recursive(
        scalars,
        lambda item: st.one_of(
            st.tuples(item, item),
            st.lists(item),
            st.dictionaries(scalars, item),
            st.frozensets(scalars),
        ),
        max_leaves=10,
    ),
    max_size=5,
)


@given(containers)
def test_a_batch_of_containers_comes_back_as_it_was(values: list[object]) -> None:
    assert batches.load(batches.dump(values)) == values
    assert batches.load(batches.dump(values), safe_loads) == values
    assert as_tasks_get_them(values) == values


@pytest.mark.parametrize(
    "shared", [[1], {"a": 1}, [[1]], {"a": [1]}, {1}, bytearray(b"1"), [], {}, (0, [])]
)
@pytest.mark.parametrize(
    "around",
    [
        lambda x: x,
        lambda x: (0, x),
        lambda x: [x],
        lambda x: {"k": x},
        lambda x: [(0, {"k": x})],
        lambda x: Holder.of(x),
        lambda x: Plain(x),
        lambda x: [Frozen((0, Plain(x)))],
    ],
)
def test_what_inputs_share_tasks_do_not(around: Callable[[object], object], shared: object) -> None:
    """Else what one task changes in its input would be another's, if it was in the same batch."""
    values = as_tasks_get_them([around(shared), around(shared)])
    assert values == [around(shared)] * 2
    first, second = (_changeable(value) for value in values)
    assert first
    assert not first & second


def _changeable(value: object) -> set[int]:
    """What a task could change in it, by identity."""
    if isinstance(value, bytearray):
        return {id(value)}
    if isinstance(value, Plain | Frozen):
        return {id(value)} | _changeable(vars(value))
    if isinstance(value, dict):
        return {id(value)}.union(*map(_changeable, value.values()))
    if not isinstance(value, list | tuple | set):
        return set()
    own = set() if isinstance(value, tuple) else {id(value)}
    return own.union(*map(_changeable, value))


def test_what_an_input_has_twice_it_has_twice() -> None:
    one: list[object] = []
    round_: list[object] = []
    round_.append(round_)
    both, around, other = as_tasks_get_them([[one, one], round_, [one]])
    assert isinstance(both, list)
    assert isinstance(around, list)
    assert both[0] is both[1]
    assert around[0] is around
    assert other == [[]]


def test_tuples_that_are_large_only_when_unfolded_are_not() -> None:
    value: tuple[object, ...] = (1,)
    for _ in range(7):
        value = (value,) * 900
    assert len(batches.dump([(value,), (2, value)])) < 30_000
    assert len(as_tasks_get_them([(value,), (2, value)])) == 2


@pytest.mark.parametrize("kind", [int, str, lambda n: Fragile(), lambda n: [n, {"n": str(n)}]])
@pytest.mark.parametrize("apart", [True, False])
def test_any_part_of_a_large_batch_can_be_had(kind: Callable[[int], object], apart: bool) -> None:
    values = [kind(n) if n % 700 else n for n in range(3_300)]
    blob = batches.dump(values, check_sharing=apart)
    decoder = Decoder(VALUES)
    for skip, count in [(0, 3_300), (0, 1), (499, 2), (500, 500), (777, 2_000), (3_299, 1)]:
        got = decoder.decode(blob, skip, count)
        assert len(got) == count
        for value, wanted in zip(got, values[skip : skip + count], strict=True):
            assert isinstance(value, BadValue) if isinstance(wanted, Fragile) else value == wanted


def test_no_part_of_a_batch_is_more_than_was_asked_for() -> None:
    """Whatever somebody has made up."""
    blob = pickle.dumps((1, [batches.dump(list(range(500)))]))
    assert Decoder(VALUES).decode(blob, 0, 100) == [0]
    with pytest.raises(TypeError, match="not a batch"):
        batches.load(pickle.dumps((-1, [])))


def test_results_are_apart_only_where_that_is_asked_for() -> None:
    rows: list[object] = [[1]] * 3
    one, two, three = batches.load(batches.dump(rows, check_sharing=False))
    assert one is two is three
    one, two, three = as_tasks_get_them(rows)
    assert one == two == three == [1]
    assert one is not two


@dataclass
class Plain:
    """Nothing but what is in its `__dict__`."""

    held: object


@dataclass(frozen=True)
class Frozen:
    """The same, with a hash, which it cannot have before it has what it holds."""

    held: object
    others: set[object] = field(default_factory=set, compare=False)


class Sum:
    """Can be added to a number, and then is that number."""

    def __init__(self, log: list[int]) -> None:
        self.log = log

    def __radd__(self, other: object) -> object:
        return other


class Vector(Plain):
    """Cannot, and says so in its own way."""

    def __radd__(self, other: Vector) -> object:
        return other.held


@dataclass
class Last:
    """Counts those that are there no longer."""

    held: object
    gone: ClassVar[int] = 0

    def __del__(self) -> None:
        Last.gone += 1


INFINITE = [0, 1, Decimal("inf"), Decimal("-inf"), Decimal("9E999999"), Decimal("9E999999")]


def test_nothing_is_added_up_that_is_no_number() -> None:
    log: list[int] = []
    one, two = as_tasks_get_them([0, Sum(log), Sum(log)])[1:]
    assert one.log is not two.log  # type: ignore[attr-defined]
    assert [type(value) for value in as_tasks_get_them([0, Vector(1)])] == [int, Vector]
    assert as_tasks_get_them(INFINITE) == INFINITE


def test_no_object_that_says_goodbye_is_copied() -> None:
    shared: list[int] = []
    values = as_tasks_get_them([*(Last(n) for n in range(9)), Last(shared), Last(shared)])
    before = Last.gone
    assert [value.held for value in values[:9]] == [*range(9)]  # type: ignore[attr-defined]
    assert Last.gone == before


def test_copies_are_made_some_at_a_time() -> None:
    """A table that all inputs have is sent once for many of them, but each task gets its own."""
    table = list(range(500))
    blob = batches.dump([(n, table) for n in range(20_000)])
    sizes = [len(some) for some, _ in Decoder(VALUES).chunks(blob, 0, 20_000)]
    assert sum(sizes) == 20_000
    assert max(sizes) <= batches.MAX_PIECE_VALUES


def test_values_deeper_than_any_row_are_told_apart_without_copies() -> None:
    def chain(n: int) -> object:
        return Plain(chain(n - 1)) if n else [n]

    deep = [chain(40) for _ in range(600)]
    [(values, _)] = Decoder(VALUES).chunks(batches.dump(deep), 0, 600)  # else some at a time
    assert values == deep


class Watched:
    """Has its attributes in another way."""

    @property
    def __dict__(self) -> dict[str, object]:  # type: ignore[override]
        return {}


class Slotted:
    __slotnames__: ClassVar[list[str]] = ["held"]

    @property
    def held(self) -> object:
        return 1

    @held.setter
    def held(self, value: object) -> None:
        raise ValueError("in a setter")


@pytest.mark.parametrize("kind", [Watched, Slotted])
def test_attributes_that_are_had_in_another_way_spoil_no_other(kind: Callable[[], object]) -> None:
    good, *_ = as_tasks_get_them([Plain(1), kind()])
    assert good == Plain(1)


@pytest.mark.parametrize("values", [[Plain, Plain(1)], [datetime.date, datetime.date(2000, 1, 1)]])
def test_a_class_among_its_objects_is_a_value_too(values: list[object]) -> None:
    assert as_tasks_get_them([*values, {"k": values[0]}]) == [*values, {"k": values[0]}]


def test_plain_objects_and_standard_values_are_one_pickle() -> None:
    """Which is what makes them as fast as in a pool."""
    day = datetime.datetime(2000, 1, 1, tzinfo=datetime.timezone.utc)
    leaves = [
        day,
        day.date(),
        day.time(),
        day - day,
        day.tzinfo,
        Decimal("1.5"),
        Fraction(1, 3),
        uuid.UUID(int=7),
        1j,
    ]
    for values in ([Plain(n) for n in range(9)], [Plain({n, day}) for n in range(9)], leaves):
        size, pickles = pickle.loads(batches.dump(values))
        assert (size, len(pickles)) == (-len(values), 1)
        assert batches.load(batches.dump(values)) == values
        assert as_tasks_get_them(list(values)) == values
    assert batches.load(batches.dump(leaves), safe_loads) == leaves
    refused = batches.load(batches.dump([Plain(1), Plain(2)]), safe_loads)
    assert [type(value) for value in refused] == [BadValue, BadValue]


@pytest.mark.parametrize("width", [1, 30, 300, 3_000])
def test_pieces_are_smaller_where_values_are_large(width: int) -> None:
    rows = [[float(n)] * width + ["end"] for n in range(1_000)]
    blob = batches.dump(rows)
    _, pieces = pickle.loads(blob)
    assert all(len(piece) < 100_000 for piece in pieces) or width == 3_000
    assert batches.load(blob) == rows
    assert Decoder(VALUES).decode(blob, 333, 40) == rows[333:373]
