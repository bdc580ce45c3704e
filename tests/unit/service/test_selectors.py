"""Which jobs somebody means."""

from __future__ import annotations

import pytest

from dq.errors import UsageError
from dq.service.selectors import select

NAMES = {1: "", 2: "nightly", 3: "", 5: "nightly", 6: "a-b"}


@pytest.mark.parametrize(
    ("selectors", "numbers"),
    [
        (["3"], [3]),
        (["2-5"], [2, 3, 5]),
        (["last"], [6]),
        (["all"], [1, 2, 3, 5, 6]),
        (["nightly"], [5]),
        (["a-b"], [6]),
        (["3", "1-3"], [3, 1, 2]),
        ([], []),
    ],
)
def test_a_selector_stands_for_jobs(selectors: list[str], numbers: list[int]) -> None:
    assert select(selectors, NAMES) == numbers


@pytest.mark.parametrize("selector", ["4", "7-9", "5-2", "weekly", "", "1,2", "-1"])
def test_one_that_stands_for_none_is_refused_with_those_that_there_are(selector: str) -> None:
    with pytest.raises(UsageError, match="there are 5, from 1 to 6"):
        select([selector], NAMES)


def test_without_jobs_only_all_stands_for_none() -> None:
    assert select(["all"], {}) == []
    with pytest.raises(UsageError, match="there are none yet"):
        select(["last"], {})
