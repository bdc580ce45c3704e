"""What can be asked of a job's tasks."""

from __future__ import annotations

from typing import Any

import pytest

from dq._support.fields import names_of
from dq.core.jobs import Rules
from dq.errors import UsageError
from dq.functions.task_options import TaskOptions


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"retries": -1}, "retries must be a whole number of 0 or more, not -1"),
        ({"max_deaths": 0}, "max_deaths must be a whole number of 1 or more, not 0"),
        ({"max_failures": 0}, "max_failures must be a whole number of 1 or more, not 0"),
        ({"batch": 1.5}, "batch must be a whole number of 1 or more, not 1.5"),
        ({"retry_delay": "2s"}, "retry_delay must be a number of seconds"),
        ({"timeout": -1}, "timeout must be a number of seconds"),
        ({"timeout": 0}, "a task cannot run for 0 s"),
        ({"rate": 0}, "rate: 0 is not a rate: give a number above 0"),
        ({"rate": "fast"}, "rate: 'fast' is not a rate: give a number above 0"),
        ({"rate": float("nan")}, "rate: nan is not a rate"),
        ({"rate": [10]}, "rate: "),
        ({"needs": "gpu, e u"}, "needs 'e u' is not a tag"),
        ({"needs": ["gpu,eu"]}, "needs 'gpu,eu' is not a tag"),
        ({"needs": iter(["gpu"])}, "needs is a list of tags"),
    ],
)
def test_a_value_that_cannot_be_used_is_refused_by_its_name(
    wrong: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        TaskOptions(**wrong)


def test_the_board_is_told_the_options_that_have_the_names_of_its_rules() -> None:
    asked = {"retries": 2, "retry_delay": 0.5, "timeout": 9.0, "max_deaths": 1, "max_failures": 4}
    assert TaskOptions(**asked, batch=5, unpack=True).rules == Rules(**asked, batch=5)


def test_a_rate_and_needs_are_given_as_people_write_them() -> None:
    rules = TaskOptions(rate="300/m", needs="gpu, eu").rules
    assert (rules.rate, rules.needs) == (5.0, {"gpu", "eu"})
    rules = TaskOptions(rate=2, needs=["gpu"]).rules
    assert (rules.rate, rules.needs) == (2.0, {"gpu"})


def test_every_rule_is_an_option_but_what_the_master_decides() -> None:
    assert {*names_of(Rules)} - {*names_of(TaskOptions)} == {"window", "pushed", "priority"}
    assert TaskOptions().rules == Rules()
