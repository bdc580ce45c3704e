"""How many tasks go out together."""

from __future__ import annotations

import heapq

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dq.core.batching import BatchSizer

seconds = st.floats(0, 1000)
counts, sizes = st.integers(1, 5000), st.integers(0, 10**9)
observations = st.lists(st.tuples(counts, seconds, seconds, sizes))
observations_nearby = st.lists(st.tuples(counts, seconds, st.floats(0, 0.005), sizes))
remainders = st.none() | st.integers(0, 10**7)


def fed(seen: list[tuple[int, float, float, int]]) -> BatchSizer:
    """A sizer that has seen these counts, busy times, waits and bytes."""
    sizer = BatchSizer()
    for count, busy, wait, nbytes in seen:
        sizer.observe(count, busy, busy + wait, nbytes)
    return sizer


def steady(task: float, count: int = 1, wait: float = 0.001, nbytes: int = 0) -> BatchSizer:
    """A sizer for which all tasks took the same time."""
    sizer = BatchSizer()
    for _ in range(50):
        sizer.observe(count, task * count, task * count + wait, nbytes * count)
    return sizer


@given(observations, remainders, st.integers(0, 1000))
def test_a_batch_has_at_least_one_task(
    seen: list[tuple[int, float, float, int]], remaining: int | None, slots: int
) -> None:
    assert fed(seen).size(remaining, slots) >= 1


@given(observations_nearby, remainders, st.integers(0, 1000))
def test_a_batch_is_at_most_eight_times_the_largest_one_seen(
    seen: list[tuple[int, float, float, int]], remaining: int | None, slots: int
) -> None:
    largest = max((count for count, *_ in seen), default=0)
    assert fed(seen).size(remaining, slots) <= max(8 * largest, 1)


@given(st.floats(1e-6, 0.01), st.floats(0.006, 1), st.integers(1, 10**7))
def test_over_a_slow_link_a_batch_grows_at_once_to_what_runs_as_long_as_handing_it_over(
    task: float, wait: float, remaining: int
) -> None:
    sizer = fed([(1, task, wait, 0)])
    worth = min(wait / task, 512)
    assert sizer.size(None, 2) >= int(0.99 * worth)
    assert sizer.size(None, 2) <= max(8, 1.01 * worth)
    assert sizer.size(remaining, 2) >= min(remaining, int(0.99 * worth))


@given(st.integers(1, 10**7), st.integers(65, 1000))
def test_over_a_slow_link_one_of_many_slots_does_not_get_all(remaining: int, slots: int) -> None:
    size = fed([(1, 1e-7, 1.0, 0)]).size(remaining, slots)
    assert size <= max(-(-remaining // (slots // 2)), -(-remaining // 64))


@given(st.lists(st.floats(0.0001, 10), min_size=1), st.integers(1, 10**7), st.integers(65, 1000))
def test_many_slots_that_wait_for_a_master_nearby_are_no_slow_link(
    waits: list[float], remaining: int, slots: int
) -> None:
    sizer = fed([(1, 1e-7, wait, 0) for wait in [0.0003, *waits]])
    assert sizer.size(remaining, slots) <= max(-(-remaining // 64), 8)


@given(observations_nearby, st.integers(1, 10**7), st.integers(1, 1000))
def test_a_batch_is_at_most_a_slots_share_of_what_remains_or_what_runs_in_no_time(
    seen: list[tuple[int, float, float, int]], remaining: int, slots: int
) -> None:
    sizer = fed(seen)
    brief = min(0.0001 / max(sizer.seconds, 1e-9), max((count for count, *_ in seen), default=0))
    assert sizer.size(remaining, slots) <= max(1, -(-remaining // min(slots, 64)), brief)


@given(st.floats(1e-5, 0.1), st.floats(0, 1), st.integers(1, 10**6), st.integers(1, 1000))
def test_a_batch_is_at_most_half_of_that_if_it_takes_longer_than_handing_it_over(
    task: float, wait: float, remaining: int, slots: int
) -> None:
    size = steady(task, count=1000, wait=wait).size(remaining, slots)
    share = -(-remaining // (2 * min(slots, 32)))
    assert size <= max(share, 1.001 * wait / task, 1.001 * 0.0001 / task)


@given(st.floats(1e-7, 0.01), st.integers(1, 10**7), st.integers(65, 10_000))
def test_more_slots_than_a_master_can_serve_get_no_less_than_what_is_worth_its_while(
    task: float, remaining: int, slots: int
) -> None:
    size = steady(task, count=10**7).size(remaining, slots)
    aimed_at = size * task > 0.06 or size >= remaining // 64
    more = size + 1
    # At 0.1 ms each: giving all out takes the master no longer than one of them takes a slot.
    assert aimed_at or 0.0001 * remaining / more <= 1.01 * more * task


@given(observations, st.integers(0, 10**6), st.integers(1, 64))
def test_less_that_remains_never_makes_a_batch_larger(
    seen: list[tuple[int, float, float, int]], remaining: int, slots: int
) -> None:
    sizer = fed(seen)
    assert sizer.size(remaining, slots) <= sizer.size(remaining + 1, slots)
    assert sizer.size(remaining, slots) <= sizer.size(None, slots)


@given(st.integers(1, 10**8), st.booleans())
def test_a_batch_has_at_most_256_kib_or_16_large_values_or_4_mib_of_them(
    nbytes: int, of_inputs: bool
) -> None:
    sizer = steady(1e-6, count=1000, nbytes=0 if of_inputs else nbytes)
    if of_inputs:
        sizer.sent(1000, 1000 * nbytes)
    size = sizer.size(None, 2)
    assert size * nbytes <= 256 * 1024 or size <= 16
    assert size * nbytes <= 4 * 2**20 or size == 1
    assert (size + 1) * nbytes > 256 * 1024 or size == 8000  # eight times what it has seen


@given(st.floats(0.1001, 1e4), st.integers(1, 1000))
def test_tasks_over_a_tenth_of_a_second_go_alone(task: float, count: int) -> None:
    assert steady(task, count).size(None, 2) == 1


def test_the_first_batch_is_a_single_task() -> None:
    assert BatchSizer().size(10**6, 2) == 1


def test_batches_grow_eightfold_until_they_are_worth_150_ms() -> None:
    sizer, sizes = BatchSizer(), []
    for _ in range(6):
        sizes.append(sizer.size(None, 2))
        sizer.observe(sizes[-1], sizes[-1] * 1e-4, sizes[-1] * 1e-4 + 0.001)
    assert sizes[:4] == [1, 8, 64, 512]
    assert sizes[4:] == pytest.approx([1500, 1500], abs=2)


def test_a_batch_is_worth_twenty_times_what_handing_it_over_costs() -> None:
    assert steady(0.01, count=100, wait=0.02).size(None, 2) == pytest.approx(40, abs=1)


def test_not_even_a_slow_link_makes_a_batch_longer_than_five_seconds() -> None:
    assert steady(0.01, count=1000, wait=60.0).size(None, 2) == pytest.approx(500, abs=1)


def test_a_batch_that_is_reported_in_parts_says_the_same_of_its_tasks() -> None:
    whole, parts = BatchSizer(), BatchSizer()
    for _ in range(20):
        whole.observe(10, 1.0, 1.5)
        parts.part(5, 0.5)
        parts.observe(5, 0.5, 1.0)
    assert parts.seconds == pytest.approx(whole.seconds)
    assert parts.work == pytest.approx(whole.work)


def test_a_fixed_size_is_kept() -> None:
    sizer = BatchSizer(7)
    sizer.observe(7, 70.0, 70.0)
    assert sizer.size(1, 9) == 7


def test_a_sizer_follows_tasks_that_become_slower() -> None:
    sizer = steady(1e-4, count=100)
    before = sizer.size(None, 2)
    for _ in range(20):
        sizer.observe(100, 8.0, 8.001)
    assert sizer.size(None, 2) == 1 < before


def makespan(durations: list[float], slots: int, handing_over: float) -> tuple[float, int]:
    """When the last of so many workers is done, and how many batches that took."""
    sizer, place, batches = BatchSizer(), 0, 0
    free = [(0.0, slot, 0, 0.0) for slot in range(slots)]
    end = 0.0
    while free:
        now, slot, count, busy = heapq.heappop(free)
        if count:
            sizer.observe(count, busy, busy + handing_over)
            end = now
        size = min(sizer.size(len(durations) - place, slots), len(durations) - place)
        if size:
            busy = sum(durations[place : place + size])
            place += size
            batches += 1
            heapq.heappush(free, (now + handing_over + busy, slot, size, busy))
    return end, batches


@given(
    st.lists(st.floats(1e-5, 0.5), min_size=1, max_size=300),
    st.integers(1, 16),
    st.floats(1e-4, 0.005),
)
def test_workers_finish_close_to_together_whatever_the_tasks_take(
    durations: list[float], slots: int, handing_over: float
) -> None:
    end, batches = makespan(durations, slots, handing_over)
    ideal = sum(durations) / slots
    # One by one no schedule without foresight is better than the first two terms (Graham, 1969);
    # a batch is at most half a slot's share of what remains, so it costs at most that much more.
    assert end <= 1.5 * ideal + 2 * max(durations) + (batches / slots + 2) * handing_over


@given(st.floats(1e-5, 0.02), st.integers(1, 8))
def test_equal_tasks_end_within_a_tenth_of_the_ideal(task: float, slots: int) -> None:
    end, _ = makespan([task] * 5000, slots, 0.0002)
    assert end <= 1.1 * 5000 * task / slots + 0.02
