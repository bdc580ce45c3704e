"""Text into inputs, inputs into batches, and batches back into values."""

from __future__ import annotations

import datetime
import io
import pickle
import random
import sys
import threading
import uuid
from argparse import Namespace
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
from dq.data.encoding import encode
from dq.data.sources import Source
from dq.security.safe_pickle import safe_loads

VALUES = Reading()


class Words(str):
    """A key that is no plain string."""

    __slots__ = ()


class LeaseHolder:
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


# -- batches


@given(st.lists(st.one_of(st.integers(), st.text(), st.binary(), st.tuples(st.floats(0, 1)))))
def test_a_batch_comes_back_as_it_was(values: list[object]) -> None:
    assert batches.load(batches.dump(values)) == values


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
    "values",
    [
        [(1, threading.Lock())],
        [(1, Fragile())],
        [{"a": Fragile()}],
        [[int]],
        [bytearray(b"x")],
        [(bytearray(b"x"),)],
        [(1j, range(3))],
        [{1}, {2}],
        [[b"]\x94"], ["x"]],
        [(0x945D, 0x947D)],
        [((1, Fragile()),)],
        [{"a": {"b": [bytearray(b"x")]}}],
        [{Words("a"): 1}],
        [1, (2,), [3], None],
    ],
    ids=range(14),
)
def test_a_batch_is_one_pickle_only_where_that_is_the_same(values: list[object]) -> None:
    try:
        alone = [batches.load(batches.dump([value]))[0] for value in values]
    except Exception as error:
        with pytest.raises(type(error)):
            batches.dump(values)
        return
    for one, other in zip(batches.load(batches.dump(values)), alone, strict=True):
        assert isinstance(one, BadValue) if isinstance(other, BadValue) else one == other


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
        lambda x: LeaseHolder.of(x),
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


def test_a_dict_that_is_refused_spoils_no_other() -> None:
    rng = random.Random(1)
    huge = {rng.getrandbits(50): None for _ in range(21_000)}
    bad, good = batches.load(batches.dump([huge, {"a": 1}]), safe_loads)
    assert isinstance(bad, BadValue)
    assert good == {"a": 1}
    many = [{rng.getrandbits(50): None} for _ in range(30_000)]
    assert batches.load(batches.dump(many), safe_loads) == many


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


def test_a_large_batch_is_loaded_some_at_a_time() -> None:
    chunks = [len(values) for values, _ in batches.load_chunks(batches.dump([None] * 100_000))]
    assert sum(chunks) == 100_000
    assert max(chunks) <= 25_000


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


class Raises(Plain):
    """What follows raises at the other end where it is asked to."""

    def __setstate__(self, state: dict[str, object]) -> None:
        if state["held"]:
            raise ValueError("in __setstate__")
        vars(self).update(state)


class Hashes:
    def __init__(self, held: object) -> None:
        self.held = held

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Hashes) and self.held == other.held

    def __hash__(self) -> int:
        if vars(self).get("held", 0):
            raise ValueError("in __hash__")
        return 0


class Reduces:
    def __init__(self, held: object, fails: bool = False) -> None:
        if fails:
            raise ValueError("in __init__")
        self.held = held

    def __reduce__(self) -> tuple[object, ...]:
        return Reduces, (self.held, bool(self.held))


@pytest.mark.parametrize("kind", [Raises, Reduces])
def test_an_object_that_cannot_be_unpickled_spoils_only_itself(
    kind: Callable[[object], object],
) -> None:
    values = [kind(n == 3) for n in range(6)]
    for apart in (True, False):
        got = batches.load(batches.dump(values, check_sharing=apart))
        assert [isinstance(value, BadValue) for value in got] == [n == 3 for n in range(6)]


def test_an_object_whose_hash_raises_elsewhere_spoils_only_what_has_it_as_a_key() -> None:
    values: list[object] = [{Hashes(0): n} for n in range(6)]
    next(iter(values[3])).held = 1  # type: ignore[call-overload]
    got = batches.load(batches.dump(values))
    assert [isinstance(value, BadValue) for value in got] == [n == 3 for n in range(6)]


def test_a_class_that_is_missing_spoils_only_its_own_objects(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain: list[object] = [Plain(n) for n in range(600)]
    values = [*plain, *([1] * 500), *plain[:300], Words("text")]
    blob = batches.dump(values, check_sharing=False)
    lost = [type(value) is Plain for value in values]
    monkeypatch.delattr(sys.modules[__name__], "Plain")
    got = batches.load(blob)
    assert [type(value) is BadValue for value in got] == lost
    assert "Plain" in got[0].failure.message  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "values",
    [
        [1, "two", (3,), Plain(4), {"a": 5}],
        [(1, Plain(2)), (3, None)],
        [Plain(Namespace(a=1)), Plain(2)],
        [[Plain(1)], [Raises(0)]],
    ],
    ids=range(4),
)
def test_a_class_that_is_missing_spoils_nothing_that_is_without_it(values: list[object]) -> None:
    class WithoutPlain(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> object:
            if name == "Plain":
                raise AttributeError(name)
            return super().find_class(module, name)

    got = batches.load(batches.dump(values), lambda data: WithoutPlain(io.BytesIO(data)).load())
    assert [type(value) is BadValue for value in got] == [
        "Plain" in repr(value) for value in values
    ]


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


def test_an_object_that_is_a_key_of_itself_spoils_only_itself() -> None:
    one, other = Frozen("a"), Frozen("b")
    one.others.add(other)
    other.others.add(one)
    got = batches.load(batches.dump([0, Frozen("z"), one, 4, 5]))
    assert [isinstance(value, BadValue) for value in got] == [False, False, True, False, False]


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


def test_what_is_larger_when_unfolded_is_not_sent_folded() -> None:
    """Else a batch could have a thousand times as much in it as its bytes tell."""
    table = list(range(20_000))
    blob = batches.dump([(n, table) for n in range(20)])
    assert len(blob) > 20 * 2 * len(table)


def test_a_large_set_that_is_refused_spoils_no_other() -> None:
    values = [1, set(range(0, 65_536, 3)), 2, [1]]
    got = batches.load(batches.dump(values), safe_loads)
    assert [isinstance(value, BadValue) for value in got] == [False, True, False, False]


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


def test_objects_of_two_modules_are_not_in_one_pickle(monkeypatch: pytest.MonkeyPatch) -> None:
    values: list[object] = [Plain(1), Namespace(a=2)]
    blob = batches.dump(values)
    monkeypatch.delattr(sys.modules[__name__], "Plain")
    bad, good = batches.load(blob)
    assert isinstance(bad, BadValue)
    assert good == Namespace(a=2)


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


def test_a_made_up_batch_is_no_more_than_its_bytes() -> None:
    for size, items in [(-9, [b"x"]), (-1, [b"x", b"x"]), (-(10**9), [b"x" * 100]), (-1, [3])]:
        with pytest.raises(TypeError):
            batches.load(pickle.dumps((size, items)))
    for inner in ((True, [1, 2]), (3, [b"x"] * 3), (True, 5)):
        got = batches.load(pickle.dumps((-3, [pickle.dumps(inner)])))
        assert len(got) == 3


def test_results_are_not_copied_for_what_they_share() -> None:
    """A made-up one might have one large thing very many times over."""
    large = tuple(range(10_000))
    made_up = pickle.dumps((batches.CHECK_SHARING, [[large] for _ in range(1_000)]))
    got = batches.load(made_up, safe_loads)
    assert len({id(row[0]) for row in got}) == 1  # type: ignore[index]


def test_a_result_that_cannot_be_unpickled_spoils_only_itself() -> None:
    rng = random.Random(1)
    huge = {"k": {rng.getrandbits(50): None for _ in range(21_000)}}
    values = [(1,), Fragile(), [bytearray(b"x"), {2}], (3, Fragile())]
    for loads in (pickle.loads, safe_loads):
        got = batches.load(batches.dump(values, check_sharing=False), loads)
        assert [isinstance(value, BadValue) for value in got] == [False, True, False, True]
    bad, good = batches.load(batches.dump([huge, {"a": 1}], check_sharing=False), safe_loads)
    assert isinstance(bad, BadValue)
    assert good == {"a": 1}


def test_a_value_that_cannot_be_unpickled_spoils_only_itself() -> None:
    first, bad, last = batches.load(batches.dump([(1,), Fragile(), (3,)]))
    assert (first, last) == ((1,), (3,))
    assert isinstance(bad, BadValue)
    assert "ValueError" in bad.failure.message


def test_an_item_that_cannot_be_pickled_is_a_part_by_itself() -> None:
    parts = list(encode([1, threading.Lock(), 3, 4], 1000))
    assert [count for count, _ in parts] == [1, 1, 2]
    assert "cannot be pickled" in parts[1][1].message  # type: ignore[union-attr]
    assert batches.load(parts[2][1]) == [3, 4]  # type: ignore[arg-type]


def test_a_batch_over_the_limit_goes_in_parts_under_it() -> None:
    parts = list(encode([b"x" * 100] * 10, 500))
    assert all(len(blob) <= 500 for _, blob in parts)  # type: ignore[arg-type]
    assert sum(count for count, _ in parts) == 10


def test_an_item_over_the_limit_by_itself_is_a_failure_that_says_so() -> None:
    [(count, failure)] = encode([b"x" * 1000], 500)
    assert count == 1
    assert "over the limit of 500" in failure.message  # type: ignore[union-attr]


@pytest.mark.parametrize(("skip", "count"), [(0, 5), (2, 2), (4, 1), (5, 0)])
def test_a_part_of_a_batch_decodes_only_its_own_items(skip: int, count: int) -> None:
    blob = batches.dump([b"%d\n" % n for n in range(5)])
    assert (
        Decoder(Reading("lines")).decode(blob, skip, count) == list(range(5))[skip : skip + count]
    )


# -- sources


def test_a_sequence_is_at_hand_and_its_length_known() -> None:
    source = Source(range(10))
    assert source.length == 10
    assert source.take(3) == [0, 1, 2]


def test_an_iterator_is_read_no_further_than_asked() -> None:
    taken: list[int] = []
    source = Source(taken.append(n) or n for n in range(10))  # type: ignore[func-returns-value]
    assert source.read(4)
    assert taken == [0, 1, 2, 3]
    assert source.take(4) == taken
    assert source.read(100)
    assert not source.read(1)


def test_what_an_iterator_gave_before_it_raised_is_kept() -> None:
    def two() -> object:
        yield 1
        yield 2
        raise KeyError("third")

    source = Source(two())  # type: ignore[arg-type]
    with pytest.raises(KeyError):
        source.read(5)
    assert source.take(2) == [1, 2]
