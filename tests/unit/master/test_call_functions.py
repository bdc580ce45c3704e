"""How calls name their functions, and what is kept of these."""

from __future__ import annotations

import math
from functools import partial

import pytest

from dq.errors import BadTask
from dq.functions.called import ByValue, named
from dq.master.call_functions import INLINE_BYTES, CallFunctions


@pytest.fixture
def functions() -> CallFunctions:
    return CallFunctions()


def test_a_function_that_can_be_imported_is_its_name(functions: CallFunctions) -> None:
    for _ in range(2):
        name = functions.name(math.sqrt)
        assert isinstance(name, str)
        assert str(named(name)[0]) == "math:sqrt"
    assert str(named(str(functions.name("math:sqrt")))[0]) == "math:sqrt"


def test_a_small_function_goes_with_each_call(functions: CallFunctions) -> None:
    name = functions.name(partial(pow, 2))
    assert isinstance(name, ByValue)
    assert name.data
    assert not functions.table


def test_equal_pickles_share_a_place_until_no_call_needs_it(functions: CallFunctions) -> None:
    data = bytes(range(256)) * (INLINE_BYTES // 100)
    one, same, other = (functions.name(partial(add, data, n)) for n in (1, 1, 2))
    assert isinstance(one, ByValue)
    assert isinstance(same, ByValue)
    assert one.digest == same.digest
    assert len(functions.table) == 2
    functions.retain(one)
    for name in (one, same, other):
        functions.release(name)
    assert [*functions.table] == [one.digest]
    functions.release_later(one)
    assert [*functions.table] == [one.digest]
    functions.release_dropped()
    assert not functions.table


def add(*_: object) -> None:
    """Stands for a function that is called with a lot."""


def test_what_cannot_be_called_is_refused(functions: CallFunctions) -> None:
    with pytest.raises(BadTask):
        functions.name(3)  # type: ignore[arg-type]
