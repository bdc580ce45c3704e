"""Values into batches, and batches back into values."""

from __future__ import annotations

import pickle
import random
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dq.data import batches
from dq.data.pieces import BadValue
from dq.security.safe_pickle import safe_loads


class Words(str):
    """A key that is no plain string."""

    __slots__ = ()


class Fragile:
    """Pickles, and raises when it is to be unpickled."""

    def __reduce__(self) -> tuple[object, ...]:
        return int, ("not a number",)


@given(st.lists(st.one_of(st.integers(), st.text(), st.binary(), st.tuples(st.floats(0, 1)))))
def test_a_batch_comes_back_as_it_was(values: list[object]) -> None:
    assert batches.load(batches.dump(values)) == values


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
def test_in_a_batch_a_value_is_what_it_is_alone(values: list[object]) -> None:
    try:
        alone = [batches.load(batches.dump([value]))[0] for value in values]
    except Exception as error:
        with pytest.raises(type(error)):
            batches.dump(values)
        return
    for one, other in zip(batches.load(batches.dump(values)), alone, strict=True):
        assert isinstance(one, BadValue) if isinstance(other, BadValue) else one == other


def test_a_dict_that_is_refused_spoils_no_other() -> None:
    rng = random.Random(1)
    huge = {rng.getrandbits(50): None for _ in range(21_000)}
    bad, good = batches.load(batches.dump([huge, {"a": 1}]), safe_loads)
    assert isinstance(bad, BadValue)
    assert good == {"a": 1}
    many = [{rng.getrandbits(50): None} for _ in range(30_000)]
    assert batches.load(batches.dump(many), safe_loads) == many


def test_a_large_batch_is_loaded_some_at_a_time() -> None:
    chunks = [len(values) for values, _ in batches.load_chunks(batches.dump([None] * 100_000))]
    assert sum(chunks) == 100_000
    assert max(chunks) <= 25_000


def test_a_large_set_that_is_refused_spoils_no_other() -> None:
    values = [1, set(range(0, 65_536, 3)), 2, [1]]
    got = batches.load(batches.dump(values), safe_loads)
    assert [isinstance(value, BadValue) for value in got] == [False, True, False, False]


def test_a_made_up_batch_is_no_more_than_its_bytes() -> None:
    for size, items in [(-9, [b"x"]), (-1, [b"x", b"x"]), (-(10**9), [b"x" * 100]), (-1, [3])]:
        with pytest.raises(TypeError):
            batches.load(pickle.dumps((size, items)))
    for inner in ((True, [1, 2]), (3, [b"x"] * 3), (True, 5)):
        got = batches.load(pickle.dumps((-3, [pickle.dumps(inner)])))
        assert len(got) == 3


def test_a_result_that_cannot_be_unpickled_spoils_only_itself() -> None:
    rng = random.Random(1)
    huge = {"k": {rng.getrandbits(50): None for _ in range(21_000)}}
    values = [(1,), Fragile(), [bytearray(b"x"), {2}], (3, Fragile())]
    for loads in (pickle.loads, safe_loads):
        got = batches.load(batches.dump(values), loads)
        assert [isinstance(value, BadValue) for value in got] == [False, True, False, True]
    bad, good = batches.load(batches.dump([huge, {"a": 1}]), safe_loads)
    assert isinstance(bad, BadValue)
    assert good == {"a": 1}


def test_a_value_that_cannot_be_unpickled_spoils_only_itself() -> None:
    first, bad, last = batches.load(batches.dump([(1,), Fragile(), (3,)]))
    assert (first, last) == ((1,), (3,))
    assert isinstance(bad, BadValue)
    assert "ValueError" in bad.failure.message
