"""What can be asked of task processes."""

from __future__ import annotations

from typing import Any

import pytest

from dq.errors import UsageError
from dq.worker.process_options import ProcessOptions


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"count": -1}, "workers must be a whole number from 0 to 10000, not -1"),
        ({"threads": 0}, "threads must be a whole number from 1 to 1000, not 0"),
        ({"max_tasks": 0}, "max_tasks must be a whole number of 1 or more, not 0"),
        ({"max_memory": 1}, "max_memory must be a whole number of 33554432 or more, not 1"),
        ({"grace": None}, "grace must be a number of seconds"),
    ],
)
def test_a_value_that_cannot_be_used_is_refused_by_its_name(
    wrong: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        ProcessOptions(**wrong)


def test_the_slots_are_those_of_all_processes() -> None:
    assert ProcessOptions(count=3, threads=4).slots == 12
