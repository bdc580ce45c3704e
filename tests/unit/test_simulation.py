"""The controller of batch sizes, in simulations of as many slots as no machine has."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.simulate import (
    World,
    constant,
    mixed,
    one_by_one,
    pareto,
    simulate,
    uniform,
)

pytestmark = pytest.mark.slow

SEEDS = range(12)
durations = st.lists(st.sampled_from([0.0, 1e-5, 0.003, 0.05, 0.18, 0.25, 1.0]), min_size=1)
worlds = st.builds(
    World,
    slots=st.integers(1, 20),
    delay=st.sampled_from([0.0, 0.0003, 0.01, 0.2]),
    streamed=st.booleans(),
    batch=st.sampled_from([None, None, 1, 7]),
)


# -- the simulator


@given(durations, worlds, st.integers(0, 9))
def test_no_simulation_beats_the_bound(tasks: Sequence[float], world: World, seed: int) -> None:
    found = simulate(tasks, world, seed)
    assert found.makespan >= found.bound
    assert sum(found.batches) >= len(tasks)  # more, where some were handed back


def test_single_tasks_for_nothing_are_what_one_by_one_is() -> None:
    tasks = pareto(1000, 0.01)
    found = simulate(tasks, World(3, delay=0.0, master=0.0, overhead=0.0, batch=1))
    assert found.makespan == pytest.approx(one_by_one(tasks, 3))


def test_a_fixed_size_waits_as_long_for_its_results_as_it_takes() -> None:
    found = simulate(constant(100, 0.01), World(1, delay=0.0, batch=20))
    assert found.held == pytest.approx(0.19, abs=0.001)


def test_a_task_that_takes_seconds_has_nothing_wait_behind_it() -> None:
    tasks = [0.0] * 500 + [5.0] + [0.0] * 500
    found = simulate(tasks, World(2, batch=1001))
    assert 0.2 <= found.waited <= 0.301
    assert found.makespan == pytest.approx(5.0, abs=0.01)


# -- the controller


@pytest.mark.parametrize("slots", [1, 2, 8, 64])
@pytest.mark.parametrize("streamed", [False, True])
def test_a_heavy_tail_ends_within_a_tenth_of_the_bound(slots: int, streamed: bool) -> None:
    for seed in SEEDS if slots < 64 else SEEDS[:2]:
        tasks = pareto(1500 * slots, 0.01, seed)
        assert simulate(tasks, World(slots, streamed=streamed), seed).stretch <= 1.1


def test_a_heavy_tail_on_a_thousand_slots_ends_within_a_tenth_of_one_by_one() -> None:
    tasks = pareto(500_000, 0.04)
    assert simulate(tasks, World(1000)).excess <= 1.1


@pytest.mark.parametrize("slots", [2, 16])
def test_short_tasks_are_not_held_back_half_a_second_by_long_ones(slots: int) -> None:
    for seed in SEEDS:
        found = simulate(mixed(30_000, 10 * slots, 2.0, seed), World(slots), seed)
        assert found.held <= 0.35
        assert found.waited <= 0.35
        assert found.stretch <= 1.1


@pytest.mark.parametrize(("slots", "delay"), [(16, 0.1), (128, 0.0003), (128, 0.01), (128, 0.1)])
def test_no_slot_gets_all_of_what_may_hide_long_tasks(slots: int, delay: float) -> None:
    """It would come back from one after the other, a long task shorter each time."""
    for seed in SEEDS[:3]:
        found = simulate(mixed(100_000, 10 * slots, 2.0, seed), World(slots, delay), seed)
        assert found.stretch <= 1.4


def test_a_first_task_that_is_far_shorter_than_others_does_not_make_a_batch_of_half_of_them() -> (
    None
):
    tasks = [1e-6, *constant(16_000, 0.01)]
    assert simulate(tasks, World(16, delay=0.2)).stretch <= 1.3


@pytest.mark.parametrize("delay", [0.0003, 0.01, 0.1])
def test_no_result_is_held_back_half_a_second_whatever_the_others_take(delay: float) -> None:
    for seed in SEEDS[:4]:
        for make in (pareto, uniform):
            found = simulate(make(20_000, 0.01, seed), World(8, delay), seed)
            assert found.held <= 0.5


@settings(max_examples=30)
@given(st.floats(1e-6, 0.2), st.integers(1, 32), st.integers(0, 9))
def test_equal_tasks_nearby_end_within_a_twentieth_of_the_bound(
    task: float, slots: int, seed: int
) -> None:
    world = World(slots)
    tasks = constant(min(int(20 * slots / task), 20_000), task)
    found = simulate(tasks, world, seed)
    ideal = found.bound + len(tasks) * world.overhead / slots
    # Besides: one task for who is last, and the exchanges in which batches grow and shrink.
    assert found.makespan <= 1.05 * ideal + task + 16 * (world.delay + slots * world.master)


def test_batches_make_up_for_ten_milliseconds_of_delay() -> None:
    tasks = constant(20_000, 0.001)
    near, far = (simulate(tasks, World(2, delay)).makespan for delay in (0.0003, 0.01))
    assert near / far >= 0.9


def test_a_master_of_a_thousand_slots_is_not_asked_too_often() -> None:
    world = World(1000)
    found = simulate(constant(1_000_000, 0.01), world)
    assert found.exchanges * world.master <= found.makespan
    assert found.stretch <= 1.1
