"""A submission gets there whole, however often the master is killed in the meantime."""

from __future__ import annotations

from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dq.core.records import Reading
from dq.data import blocks
from dq.data.blocks import unpack
from dq.errors import UsageError
from dq.functions.reference import TaskRef
from dq.functions.spec import JobSpec
from dq.service import submission
from dq.service.connection import JobsConnection
from dq.service.specs import OUTPUT

SPEC = JobSpec("s", TaskRef("module", "app", "f"), Reading("lines"), output=OUTPUT)


class Killed:
    """A master that loses, at some of its calls, all blocks that it has not written.

    Args:
        kills: whether it is killed before each of its next calls.
        slow: how many blocks are not written yet after each call.
    """

    max_message = 1 << 20

    def __init__(self, kills: list[bool], slow: int) -> None:
        self._kills = kills
        self._slow = slow
        self.received: list[bytes] = []
        self._written = 0

    def call(self, method: str, *args: object) -> object:
        if self._kills and self._kills.pop():
            del self.received[self._written :]
        return getattr(self, method)(*args)

    def begin(self, *_: object) -> int:
        return 0

    def block(self, id: str, number: int, data: bytes) -> tuple[int, int]:
        if number == len(self.received):
            self.received.append(data)
        self._written = max(self._written, len(self.received) - self._slow)
        return len(self.received), self._written

    def commit(self, id: str, count: int, total: int) -> tuple[int, int, int]:
        if len(self.received) < count:
            return 0, len(self.received), self._written
        assert sum(map(blocks.count_of, self.received)) == total
        return 7, count, count


@given(
    st.lists(st.binary(min_size=1, max_size=6), max_size=40),
    st.lists(st.booleans(), max_size=60),
    st.integers(0, 5),
)
def test_every_input_arrives_once_and_in_order(
    records: list[bytes], kills: list[bool], slow: int
) -> None:
    master = Killed(kills, slow)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "BLOCK_RECORDS", 3)
        number, _ = submission.submit(cast("JobsConnection", master), SPEC, records, {})
    assert number == 7
    assert [record for block in master.received for record in unpack(block)] == records


def test_an_input_over_the_limit_is_named() -> None:
    master = Killed([], 0)
    with pytest.raises(UsageError, match="the input of task 1 has 2000000 bytes"):
        submission.submit(cast("JobsConnection", master), SPEC, [b"1", bytes(2_000_000)], {})
