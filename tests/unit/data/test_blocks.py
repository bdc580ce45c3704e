"""Records of bytes in blocks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dq.data import blocks
from dq.data.blocks import blocks_of, count_of, pack, unpack


@given(st.lists(st.binary(max_size=20), max_size=30), st.integers(0, 30))
def test_a_block_gives_its_records_from_any_of_them_on(records: list[bytes], start: int) -> None:
    block = pack(records)
    assert count_of(block) == len(records)
    assert list(unpack(block, start)) == records[start:]


@given(st.lists(st.binary(max_size=8), max_size=5), st.data())
def test_a_block_that_is_cut_or_longer_is_refused(
    records: list[bytes], data: st.DataObject
) -> None:
    block = pack(records)
    cut = data.draw(st.integers(0, len(block) - 1))
    for bad in (block[:cut], block + b"x"):
        with pytest.raises(ValueError, match="not a block"):
            count_of(bad)


def test_records_are_divided_by_their_bytes_and_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 10)
    monkeypatch.setattr(blocks, "BLOCK_RECORDS", 3)
    records = [b"", b"", b"", b"x" * 50, b"123456", b"78901", b"end"]
    found = list(blocks_of(iter(records)))
    assert [count for count, _ in found] == [3, 1, 2, 1]
    assert [record for _, block in found for record in unpack(block)] == records
