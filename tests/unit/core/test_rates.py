"""How many tasks of a job are leased in a second."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dq.core.board import Board
from dq.core.jobs import Job, Rules
from dq.core.leases import LeaseHolder, Report
from dq.core.rates import TokenBucket
from dq.core.records import Batch, Done, Failed, Failure

RATES = st.one_of(st.floats(0.01, 20), st.sampled_from([1.0, 10.0, 100.0, 150.0, 5000.0]))


@given(RATES, st.lists(st.tuples(st.floats(0, 3), st.integers(0, 60)), max_size=60))
def test_no_second_has_more_than_its_share(rate: float, steps: list[tuple[float, int]]) -> None:
    bucket, now, taken = TokenBucket(rate), 100.0, []
    for seconds, most in steps:
        now += seconds
        count = min(bucket.available(now), most)
        bucket.take(count)
        taken.append((now, count))
    for start, _ in taken:
        within = sum(count for at, count in taken if start <= at < start + 1 - 1e-6)
        assert within <= math.ceil(rate)


@pytest.mark.parametrize("rate", [0.5, 3.0, 10.0, 100.0, 1000.0, 20_000.0])
def test_a_minute_has_the_rate_within_two_percent(rate: float) -> None:
    bucket, now, count = TokenBucket(rate), 5.0, 0
    lateness = itertools.cycle([0.0, 0.0002, 0.001, 0.003])
    while now < 65.0:
        available = bucket.available(now)
        bucket.take(available)
        count += available
        now = (bucket.due or now) + next(lateness)
    assert count == pytest.approx(60 * rate, rel=0.02, abs=1)


def test_unused_tokens_return_but_no_more_than_can_be_saved_up() -> None:
    bucket = TokenBucket(10.0)
    assert bucket.available(0.0) == 1
    bucket.take(1)
    bucket.put_back(1)
    bucket.put_back(5)
    assert bucket.available(0.0) == 1


def board_of(count: int, rules: Rules) -> tuple[Board, Job, LeaseHolder]:
    board, me = Board(iter(range(1, 10**6))), LeaseHolder(1)
    board.join(me)
    job = board.open_job("j", rules)
    board.supply("j", count)
    board.end("j")
    return board, job, me


def test_the_board_leases_at_the_rate_and_says_when_there_is_more() -> None:
    board, job, me = board_of(300, Rules(rate=10.0))
    now, starts = 0.0, []
    while not job.finished:
        wanted = board.wanted(me, now)
        if wanted is None:
            due = board.due()
            assert due is not None
            assert due > now
            now = due
            continue
        batch = wanted if isinstance(wanted, Batch) else Batch("j", *board.take_batch("j"), b"")
        lease = board.grant(me, batch, now)
        assert lease is not None
        starts += [now] * batch.count
        failed = Failed(Failure("ValueError", "no"))
        outcome = failed if len(starts) % 7 == 0 else Done(batch.count, b"")
        board.report(me, Report(lease.id, batch.start, (outcome,), 0, 0.0001), now)
    assert 29.5 < now < 31


def test_retries_count_towards_the_rate() -> None:
    board, _, me = board_of(1, Rules(rate=1.0, retries=1))
    wanted = board.wanted(me, 0.0)
    lease = board.grant(me, Batch("j", *board.take_batch("j"), b""), 0.0)
    assert wanted == "j"
    assert lease is not None
    board.report(me, Report(lease.id, 0, (Failed(Failure("ValueError", "no")),)), 0.1)
    assert board.wanted(me, 0.2) is None
    assert board.due() == pytest.approx(1.0, abs=0.02)
    assert isinstance(board.wanted(me, 1.02), Batch)
    assert board.wanted(me, 1.03) is None


def test_a_task_that_is_handed_back_returns_its_token() -> None:
    board, _, me = board_of(2, Rules(rate=1.0))
    assert board.wanted(me, 0.0) == "j"
    lease = board.grant(me, Batch("j", *board.take_batch("j"), b""), 0.0)
    assert lease is not None
    assert board.wanted(me, 0.0) is None
    board.report(me, Report(lease.id, 0, (), handed_back=1), 0.1)
    assert isinstance(board.wanted(me, 0.1), Batch)


def test_the_tasks_of_a_batch_start_about_when_it_is_leased() -> None:
    board, _, me = board_of(1000, Rules(rate=1000.0))
    now = 0.0
    for _ in range(20):
        now += 0.1
        assert board.wanted(me, now) == "j"
        start, count = board.take_batch("j")
        lease = board.grant(me, Batch("j", start, count, b""), now)
        assert lease is not None
        busy = count * 0.004
        board.report(me, Report(lease.id, start, (Done(count, b""),), 0, busy), now + busy)
    assert count == 2
