"""What boards and dispatchers are given for the time: seconds that never go back."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from support.fakes import FakeClock


@pytest.mark.parametrize("clock", [time.monotonic, FakeClock()])
def test_it_returns_seconds_that_never_go_back(clock: Callable[[], float]) -> None:
    seen = [clock() for _ in range(100)]
    assert all(type(now) is float for now in seen)
    assert seen == sorted(seen)


def test_the_fake_goes_on_only_when_it_is_told_to() -> None:
    clock = FakeClock()
    before = clock()
    assert clock() == before
    clock.now += 2.5
    assert clock() == before + 2.5
