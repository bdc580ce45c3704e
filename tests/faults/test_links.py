"""The line between master and worker: cut, reset, slow, frozen, at the worst of moments."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from faults.scene import Hazards
from support import FaultProxy, Running, wait_until
from support.proxy import Direction

pytestmark = pytest.mark.slow


@contextmanager
def linked(
    hazards: Hazards, task: str, inputs: list[int], *args: str, processes: int = 1
) -> Iterator[tuple[Running, FaultProxy, Running]]:
    """A master, a line, a worker at its other end."""
    with (
        hazards.serving(task, inputs, *args) as (master, port),
        FaultProxy(("127.0.0.1", port)) as proxy,
        hazards.worker(proxy.port, "-p", str(processes)) as worker,
    ):
        yield master, proxy, worker


def disturb(
    run: Running, seeded: random.Random, faults: list[Callable[[], None]], pause: float = 0.2
) -> int:
    """Do one of the faults now and then until the run has ended; returns how often."""
    done = 0
    while run.process.poll() is None:
        seeded.choice(faults)()
        done += 1
        assert done < 400, run.printed
        try:
            wait_until(lambda: run.process.poll() is not None, seeded.uniform(0, 2 * pause))
        except AssertionError:
            continue
    return done


@pytest.mark.parametrize("nbytes", [0, 1, 3])
def test_a_report_whose_answer_is_cut_off_is_recorded_once(hazards: Hazards, nbytes: int) -> None:
    with linked(hazards, "gated", [1, 2]) as (master, proxy, worker):
        hazards.wait_for_executions()
        proxy.cut_after(nbytes, "down")  # the master has the report then; the worker can't know
        hazards.open_gate()
        assert [master.wait(), worker.wait()] == [0, 0], master.printed
    history = hazards.history([1, 2], master.stdout_text).check()
    assert history.runs[1] == 1
    assert history.extra <= 1  # of the batch that was in the answer


def test_a_report_that_is_cut_off_on_its_way_is_made_again(hazards: Hazards) -> None:
    with linked(hazards, "gated", [1, 2]) as (master, proxy, worker):
        hazards.wait_for_executions()
        proxy.cut_after(7, "up")
        hazards.open_gate()
        assert [master.wait(), worker.wait()] == [0, 0], master.printed
    history = hazards.history([1, 2], master.stdout_text).check()
    assert {record["attempts"] for record in history.records} == {1}


@pytest.mark.parametrize("direction", ["up", "down"])
def test_cuts_anywhere_in_a_conversation_lose_and_double_nothing(
    hazards: Hazards, seeded: random.Random, direction: Direction
) -> None:
    inputs = list(range(800))
    with linked(hazards, "short", inputs, "--batch", "10", processes=2) as (master, proxy, worker):

        def cut() -> None:
            # The larger ones let a handshake go by, with TLS too.
            proxy.cut_after(seeded.randrange(seeded.choice([100, 600, 4000])), direction)

        assert disturb(master, seeded, [cut])
        assert [master.wait(), worker.wait(90)] == [0, 0], master.printed
    hazards.history(inputs, master.stdout_text).check()


def test_resets_at_random_moments_lose_and_double_nothing(
    hazards: Hazards, seeded: random.Random
) -> None:
    inputs = list(range(1500))
    with linked(hazards, "short", inputs, processes=2) as (master, proxy, worker):
        assert disturb(master, seeded, [proxy.reset])
        assert [master.wait(), worker.wait(90)] == [0, 0], master.printed
    hazards.history(inputs, master.stdout_text).check()


def test_a_slow_link_only_takes_longer(hazards: Hazards) -> None:
    inputs = list(range(300))
    with linked(hazards, "short", inputs, processes=2) as (master, proxy, worker):
        proxy.delay(0.02)
        proxy.limit(50_000)
        assert [master.wait(60), worker.wait()] == [0, 0], master.printed
    assert hazards.history(inputs, master.stdout_text).check().extra == 0


def test_a_stuttering_link_only_takes_longer(hazards: Hazards, seeded: random.Random) -> None:
    inputs = list(range(1000))
    with linked(hazards, "short", inputs, processes=2) as (master, proxy, worker):
        disturb(master, seeded, [proxy.freeze, proxy.thaw], pause=0.1)
        proxy.thaw()
        assert [master.wait(), worker.wait()] == [0, 0], master.printed
    assert hazards.history(inputs, master.stdout_text).check().extra == 0


def test_a_worker_behind_a_frozen_link_holds_up_no_other(hazards: Hazards) -> None:
    inputs = list(range(300))
    with linked(hazards, "short", inputs, "--batch", "5", "--unordered") as (master, proxy, _):
        hazards.wait_for_executions()
        proxy.freeze()
        with hazards.worker(proxy.target[1], "-p", "1"):
            master.wait_for(r"(.*\n){295}", stream="stdout")  # all but what the frozen one has
            proxy.thaw()
            assert master.wait() == 0, master.printed
    hazards.history(inputs, master.stdout_text).check()
