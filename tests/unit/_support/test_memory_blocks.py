"""Memory for large values: a block is used again only if nothing refers to it any more."""

from __future__ import annotations

import numpy as np
import pytest

from dq._support.memory import KEPT_BYTES, MAPPED_FROM, Memory


@pytest.fixture
def memory() -> Memory:
    return Memory()


@pytest.mark.parametrize("size", [1, 100_000, MAPPED_FROM, MAPPED_FROM + 5])
def test_memory_has_the_size_that_was_asked_for_and_can_be_written(
    memory: Memory, size: int
) -> None:
    view = memory.take(size)
    assert view.nbytes == size
    view[:] = b"x" * size
    assert bytes(view) == b"x" * size


@pytest.mark.parametrize("size", [100_000, MAPPED_FROM])
def test_a_block_that_an_array_has_is_not_used_again(memory: Memory, size: int) -> None:
    array = np.frombuffer(memory.take(size), dtype="u1")[10:]  # which refers to it by others
    array[:] = 7
    for _ in range(3):
        memory.take(size)[:] = bytes(size)
    assert (array == 7).all()


@pytest.mark.parametrize("size", [100_000, MAPPED_FROM])
def test_a_block_that_nothing_refers_to_is_used_again(memory: Memory, size: int) -> None:
    array = np.frombuffer(memory.take(size), dtype="u1")
    where = array.ctypes.data
    del array
    assert np.frombuffer(memory.take(size), dtype="u1").ctypes.data == where
    assert np.frombuffer(memory.take(size - 1), dtype="u1").ctypes.data == where


def test_a_much_larger_block_is_left_for_larger_values(memory: Memory) -> None:
    memory.take(100_000)
    memory.take(70_000)[:] = bytes(70_000)
    memory.take(200_000)
    assert sorted(map(len, memory.blocks)) == [100_000, 200_000]


def test_only_so_much_is_kept(memory: Memory) -> None:
    held = [memory.take(KEPT_BYTES // 3) for _ in range(10)]
    assert sum(map(len, memory.blocks)) <= KEPT_BYTES
    held.append(memory.take(2 * KEPT_BYTES))
    assert sum(map(len, memory.blocks)) <= KEPT_BYTES
    assert len(held) == 11
