"""Which tasks a job passes over."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dq.core.board import Board
from dq.core.jobs import Rules
from dq.core.leases import LeaseHolder, Report
from dq.core.records import Batch, Done
from dq.core.skips import Skips

#: Lengths of ranges that are skipped, and of those between them, in turn.
LENGTHS = st.lists(st.integers(0, 5), max_size=12)


def ranges(lengths: list[int]) -> list[tuple[int, int]]:
    edges = [0]
    for length in lengths:
        edges.append(edges[-1] + length)
    return list(zip(edges[::2], edges[1::2], strict=False))


@given(LENGTHS, st.integers(0, 80))
def test_what_is_not_skipped_is_found(lengths: list[int], index: int) -> None:
    skips = Skips(ranges(lengths))
    skipped = {i for start, stop in ranges(lengths) for i in range(start, stop)}
    left = (i for i in range(index, 100) if i not in skipped)
    assert skips.after(index) == next(left)
    first = skips.after(index)
    later = [i for i in skipped if i > first]
    assert skips.room(first) == (min(later) - first if later else None)


@given(LENGTHS, st.integers(1, 40), st.integers(1, 7))
def test_a_job_runs_every_task_but_those_that_it_skips(
    lengths: list[int], count: int, batch: int
) -> None:
    skipped = {i for start, stop in ranges(lengths) for i in range(start, stop)}
    expected = [i for i in range(len(skipped) + count) if i not in skipped][:count]
    board, me = Board(iter(range(1000))), LeaseHolder(1)
    ran: list[int] = []
    board.join(me)
    job = board.open_job("j", Rules(batch=batch), skips=iter(ranges(lengths)))
    board.supply("j", count)
    board.end("j")
    while board.wanted(me, 0.0) is not None:
        assert job.remaining == count - len(ran)
        start, taken = board.take_batch("j")
        lease = board.grant(me, Batch("j", start, taken, b""), 0.0)
        assert lease is not None
        ran += range(start, start + taken)
        board.report(me, Report(lease.id, start, (Done(taken, b""),)), 1.0)
    assert ran == expected
    assert job.finished


@pytest.mark.parametrize("wrong", [[(3, 5), (4, 6)], [(3, 5), (0, 1)], [(5, 3)], [(-1, 2)]])
def test_ranges_that_are_not_ascending_are_refused(wrong: list[tuple[int, int]]) -> None:
    board = Board(iter(()))
    with pytest.raises(ValueError, match=r"the range .* comes after"):
        board.open_job("j", Rules(), skips=wrong)
    assert not board.jobs
