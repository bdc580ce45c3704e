"""What a client asks of a job."""

from __future__ import annotations

import json

import pytest

from dq.functions.task_options import TaskOptions
from dq.service.options import JobOptions


@pytest.mark.parametrize("needs", ["gpu,eu", ["gpu", "eu"], ("gpu", "eu"), {"gpu", "eu"}])
def test_the_rules_of_a_job_come_through_json(needs: str | set[str]) -> None:
    options = JobOptions(priority=2, tasks=TaskOptions(needs=needs, rate="300/m", speculate=True))
    again = JobOptions.from_wire(json.loads(json.dumps(options.to_wire())))
    assert again.rules == options.rules
    assert (again.rules.priority, again.rules.needs) == (2, {"gpu", "eu"})
    assert (again.rules.rate, again.rules.speculate) == (5.0, True)
