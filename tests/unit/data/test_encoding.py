"""Inputs into blobs that fit into messages."""

from __future__ import annotations

import threading

from dq.data import batches
from dq.data.encoding import encode


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
