"""Which calls a master elsewhere has, whatever comes in between."""

from __future__ import annotations

import random

import pytest

from dq.master.call_queue import CallQueue


class FakeMaster:
    """Takes in calls as a master does, with room for some of them, and ends some."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.items: list[bytes] = []
        self.ended: set[int] = set()

    def push(self, first: int, items: list[bytes]) -> int:
        assert first <= len(self.items)
        new = items[len(self.items) - first :]
        self.items += new[: self.rng.randint(0, len(new))]
        return len(self.items)

    def end_one(self) -> int | None:
        running = [n for n in range(len(self.items)) if n not in self.ended]
        if not running:
            return None
        number = self.rng.choice(running)
        self.ended.add(number)
        return number


@pytest.mark.parametrize("seeds", [range(100), range(100, 200)])
def test_each_call_has_one_outcome_and_is_not_lost(seeds: range) -> None:
    for seed in seeds:
        run_through(random.Random(seed))


def run_through(rng: random.Random) -> None:
    queue, master = CallQueue(), FakeMaster(rng)
    added, outcomes, cancelled = 0, list[int](), set[int]()
    for _ in range(200):
        what = rng.choice(["add", "add", "push", "push", "end", "end", "cancel", "lose"])
        if what == "add":
            queue.add(added, b"%d" % added)
            added += 1
        elif what == "push":
            first, chosen = queue.send(rng.randint(0, 12))
            items = [queue.calls[index] for index in chosen]
            assert items == [b"%d" % index for index in chosen]
            stop = master.push(first, items)
            if rng.random() < 0.3:  # the answer was lost, and the same is sent again
                stop = master.push(first, items)
            early = master.end_one() if rng.random() < 0.3 else None
            if early is not None:  # an outcome may come before the answer does
                outcomes += take(queue, early)
            queue.accepted(stop)
        elif what == "end":
            number = master.end_one()
            if number is not None:
                outcomes += take(queue, number)
        elif what == "cancel" and queue.calls:
            index = rng.choice(list(queue.calls))
            queue.cancel(index)
            cancelled.add(index)
            for number in queue.take_cancelled():
                assert master.items[number] == b"%d" % index
        elif what == "lose" and rng.random() < 0.2:
            queue.begin_anew()
            master = FakeMaster(rng)
    while queue.calls:
        first, chosen = queue.send(100)
        queue.accepted(master.push(first, [queue.calls[index] for index in chosen]))
        number = master.end_one()
        if number is not None:
            outcomes += take(queue, number)
    assert sorted(outcomes) == [n for n in range(added) if n not in cancelled]


def take(queue: CallQueue, number: int) -> list[int]:
    """The calls that an outcome is for, without those that were cancelled."""
    return [index for index, item in queue.remove(number, 1) if item is not None]


def test_an_outcome_of_an_unknown_call_is_an_error() -> None:
    with pytest.raises(KeyError):
        CallQueue().remove(3, 1)
