"""Which tasks are charged when a task process has died, or is over its time."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import cast

import pytest

from dq._support import platform
from dq.worker import cells, charges
from dq.worker.cells import DEADLINE, ENCODED, ENCODING, LAST, SlotCells
from dq.worker.charges import Charge
from dq.worker.child import Child

NOW = 5.0  # seconds of the clock that deadlines are in


@pytest.fixture
def child() -> Iterator[Child]:
    memory = platform.shared_cells(cells.count(1))
    # Nothing here is a process: only what it shares is looked at.
    yield Child(cast("object", SimpleNamespace(pid=0)), memory, 0)  # type: ignore[arg-type]
    memory.close()


def slot(child: Child) -> SlotCells:
    return SlotCells(child.slot_views(1)[0])


def of_dead(child: Child) -> list[Charge]:
    return list(charges.of_dead(child, 1, -9))


def of_overdue(child: Child) -> list[Charge]:
    return list(charges.of_overdue(child, 1, NOW, "late"))


def died(**fields: int) -> Charge:
    detail = "was killed by SIGKILL"
    return Charge(**{"what": "died", "lease": 7, "span": 1, "detail": detail, **fields})  # type: ignore[arg-type]


def test_a_process_that_had_no_lease_charges_nothing(child: Child) -> None:
    assert of_dead(child) == []


def test_the_task_that_a_process_died_in_is_charged(child: Child) -> None:
    slot(child).announce(7, 3, 1)
    assert of_dead(child) == [died(index=3)]


def test_tasks_whose_results_were_being_encoded_are_charged_too(child: Child) -> None:
    slot(child).announce(7, 5, 1)
    view = slot(child).view
    view[ENCODED], view[ENCODING] = 2, 3
    assert of_dead(child) == [died(index=2, span=4)]


def test_between_batches_no_task_is_charged(child: Child) -> None:
    slot(child).announce(7, 3, 1)
    slot(child).end_lease()
    assert of_dead(child) == []


def test_one_that_was_killed_for_its_memory_is_charged_for_what_it_had_yet_to_report(
    child: Child,
) -> None:
    slot(child).announce(7, 3, 1)
    slot(child).end_lease()
    child.kill_reason = "grew"
    assert of_dead(child) == [Charge(what="died", lease=7, index=3, span=1, detail="grew")]


def test_after_a_timeout_no_other_task_is_charged(child: Child) -> None:
    slot(child).announce(7, 3, 1)
    child.is_charged = True
    assert of_dead(child) == []


@pytest.mark.parametrize(("span", "what"), [(1, "timeout"), (64, "died")])
def test_a_task_over_its_time_is_charged_and_of_several_each_is_tried(
    child: Child, span: int, what: str
) -> None:
    slot(child).announce(7, 3, span)
    slot(child).view[DEADLINE] = int(NOW * 1e9) - 1
    assert of_overdue(child) == [Charge(what=what, lease=7, index=3, span=span, detail="late")]


@pytest.mark.parametrize("deadline", [0, int(NOW * 1e9) + 1])
def test_a_task_in_time_or_without_limit_is_not_charged(child: Child, deadline: int) -> None:
    slot(child).announce(7, 3, 1)
    slot(child).view[DEADLINE] = deadline
    assert of_overdue(child) == []


def test_a_deadline_outside_of_any_lease_charges_nothing(child: Child) -> None:
    view = slot(child).view
    view[DEADLINE], view[LAST] = 1, 7
    assert of_overdue(child) == []
