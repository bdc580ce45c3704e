"""Where inputs come from."""

from __future__ import annotations

import pytest

from dq.data.sources import Source


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
