"""From what a user names to a reference by which workers find it."""

from __future__ import annotations

import pytest

from dq.errors import BadTask
from dq.functions import loading, reference


def top_level(x: object) -> object:
    return x


@pytest.mark.parametrize(
    "text", ["", "app", ":f", "app:", "app:1f", "app:f.", "a b:f", "app:f-g", "dir/app:f", "./x:f"]
)
def test_what_is_no_task_is_refused(text: str) -> None:
    with pytest.raises(BadTask, match="TASK"):
        reference.parse(text)


def test_a_function_of_a_module_is_referred_to_by_its_path() -> None:
    assert str(reference.refer(top_level)) == f"{__name__}:top_level"
    assert loading.load(reference.refer(top_level)) is top_level


def test_a_lambda_is_sent_by_value() -> None:
    ref = reference.refer(lambda x: x + 1)
    assert ref.kind == "value"
    assert loading.load(ref)(1) == 2


def test_a_function_that_shadows_another_is_sent_by_value() -> None:
    """Its import path would lead to the other."""

    def top_level(x: object) -> object:
        return "local"

    top_level.__qualname__ = "top_level"
    assert loading.load(reference.refer(top_level))(0) == "local"


@pytest.mark.parametrize("task", [12, None, ["math:sqrt"]])
def test_what_is_not_callable_is_refused(task: object) -> None:
    with pytest.raises(BadTask, match="a task must be callable or an import path, not"):
        reference.refer(task)  # type: ignore[arg-type]
