"""Large values: their memory is not copied into their pickles, and arrives as the task's own."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

from dq._support.arrays import LARGE_BYTES
from dq.core.blobs import Blob, LargeBlob
from dq.data import batches, outputs
from dq.data.buffers import copy_of
from dq.data.pieces import BadValue
from dq.security.safe_pickle import safe_loads

N = 20_000
NUMBERS = np.arange(N * 3, dtype="f8")


def read_only() -> Any:
    array = NUMBERS.copy()
    array.flags.writeable = False
    return array


class Own(np.ndarray):  # type: ignore[type-arg]
    """A class of a user's."""


ARRAYS = {
    "in one dimension": NUMBERS,
    "in three": NUMBERS.reshape(3, 10, -1),
    "by column": np.asfortranarray(NUMBERS.reshape(300, -1)),
    "transposed": NUMBERS.reshape(300, -1).T,
    "every other": NUMBERS[::2],
    "backwards": NUMBERS[::-1],
    "a part": NUMBERS.reshape(300, -1)[10:200, 3:150],
    "read-only": read_only(),
    "broadcast": np.broadcast_to(NUMBERS, (2, N * 3)),
    "bytes swapped": NUMBERS.astype(">f8"),
    "booleans": NUMBERS > 3,
    "complex": NUMBERS * 1j,
    "records": np.zeros(N, dtype=[("a", "i4"), ("b", "f8")]),
    "texts": np.full(N, "text"),
    "dates": np.arange(N).astype("M8[s]"),
    "durations": np.arange(N * 2).astype("m8[ms]").reshape(2, -1),
    "objects": np.array([None, "x", 3] * N, dtype=object),
    "small": np.arange(3),
    "small, read-only": read_only()[:3],
    "empty": np.empty((0, 5)),
    "a scalar": np.array(7),
    "of another class": NUMBERS.view(Own),
}


def again(blob: Blob) -> Blob:
    """A blob as it arrives at the other end."""
    if isinstance(blob, bytes):
        return blob
    memory = memoryview(bytearray(b"".join(blob.buffers)))
    buffers, at = [], 0
    for buffer in blob.buffers:
        buffers.append(memory[at : at + buffer.nbytes])
        at += buffer.nbytes
    return LargeBlob(blob.head, tuple(buffers))


@pytest.mark.parametrize("name", ARRAYS)
def test_an_array_arrives_as_it_was_and_writable(name: str) -> None:
    array = ARRAYS[name]
    [found] = batches.load(again(batches.dump([array])))
    assert type(found) is type(array)
    assert found.dtype == array.dtype
    assert found.shape == array.shape
    plain = pickle.loads(pickle.dumps(array))
    assert found.flags.f_contiguous == plain.flags.f_contiguous
    assert np.array_equal(found, array)
    assert found.flags.writeable
    assert not np.shares_memory(found, array)


@pytest.mark.parametrize("name", [name for name in ARRAYS if ARRAYS[name].nbytes > LARGE_BYTES])
def test_the_memory_of_a_large_array_is_not_in_its_pickle(name: str) -> None:
    blob = batches.dump([ARRAYS[name]])
    if name in ("objects", "of another class"):  # numpy does not hand these out
        assert isinstance(blob, bytes)
    else:
        assert isinstance(blob, LargeBlob)
        assert len(blob.head) < 1000


def test_a_contiguous_array_is_not_copied() -> None:
    blob = batches.dump([NUMBERS])
    assert isinstance(blob, LargeBlob)
    assert np.shares_memory(np.frombuffer(blob.buffers[0]), NUMBERS)


def test_a_memory_map_arrives_as_one_without_its_file(tmp_path: Any) -> None:
    path = tmp_path / "numbers"
    NUMBERS.tofile(path)
    mapped = np.memmap(path, dtype="f8", mode="r")
    blob = batches.dump([mapped])
    assert isinstance(blob, LargeBlob)
    [found] = batches.load(again(blob))
    assert type(found) is np.memmap
    assert np.array_equal(found, NUMBERS)
    assert found.flags.writeable


VALUES: list[Any] = [
    b"x" * LARGE_BYTES,
    bytearray(b"y") * LARGE_BYTES,
    b"small",
    {"a": NUMBERS, "b": [NUMBERS[:3], b"z" * LARGE_BYTES], "c": NUMBERS},
    None,
    NUMBERS[1:],
]


def same(a: Any, b: Any) -> bool:
    return pickle.dumps(a) == pickle.dumps(b)


@pytest.mark.parametrize("skip", range(len(VALUES)))
def test_any_part_of_a_batch_with_large_values_can_be_read(skip: int) -> None:
    blob = again(batches.dump(VALUES))
    for count in range(len(VALUES) - skip + 1):
        [(found, bad)] = list(batches.load_chunks(blob, skip=skip, count=count)) or [([], False)]
        assert not bad
        assert list(map(type, found)) == list(map(type, VALUES[skip : skip + count]))
        assert all(map(same, found, VALUES[skip : skip + count]))


def test_an_array_twice_in_a_value_is_one_array_there() -> None:
    [found] = batches.load(again(batches.dump([{"a": NUMBERS, "b": NUMBERS}])))
    assert found["a"] is found["b"]


def test_no_two_values_share_an_array() -> None:
    first, second = batches.load(again(batches.dump([NUMBERS, NUMBERS])))
    assert not np.shares_memory(first, second)


def test_a_blob_of_large_values_survives_a_file() -> None:
    found = batches.load(batches.joined(batches.dump(VALUES)))
    assert all(map(same, found, VALUES))
    assert found[-1].flags.writeable  # type: ignore[attr-defined]


def test_results_with_seconds_survive_a_file_too() -> None:
    blob = outputs.encode("results", 0, [1], [(NUMBERS, 0.5)], 1, "host:1")
    for form in (again(blob), batches.joined(blob)):
        [value], seconds, bad = outputs.load_timed(form)
        assert same(value, NUMBERS)
        assert (seconds, bad) == ([0.5], False)


def test_the_values_of_a_copy_are_not_those_of_the_blob() -> None:
    blob = batches.dump([NUMBERS])
    [found] = batches.load(copy_of(blob))
    assert same(found, NUMBERS)
    assert not np.shares_memory(found, NUMBERS)


def test_a_class_of_numpy_is_none_of_the_standard_data_types() -> None:
    [found] = batches.load(again(batches.dump([NUMBERS])), safe_loads)
    assert isinstance(found, BadValue)
    assert "only standard data types" in found.failure.message


def test_large_bytes_are_standard_data() -> None:
    values = [b"x" * LARGE_BYTES, bytearray(b"y") * LARGE_BYTES]
    assert batches.load(again(batches.dump(values)), safe_loads) == values


@pytest.mark.parametrize(
    "head",
    [
        [(b"", 1)], [("str", 1)], [("bytes", 0)], [(b"\x80\x05\x97.", 0)],
    ],
)  # fmt: skip
def test_a_made_up_value_is_bad_by_itself(head: list[Any]) -> None:
    blob = LargeBlob(pickle.dumps((3, [*head, ("bytes", 1)])), (memoryview(b"abc"),) * 2)
    found = batches.load(blob)
    assert isinstance(found[0], BadValue)
