"""From what a task raises to the outcome that is reported."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable

import pytest

from dq.core.records import LONGEST_TEXT, Failure
from dq.data import exceptions, outputs
from dq.worker import failure
from dq.worker.failure import BadItem, describe, failed

RAISED = ("values", "kept")  # forms of results whose reader raises exceptions


def chained() -> None:
    try:
        {}["a"]
    except KeyError as error:
        raise ValueError("chained") from error


def misspelt() -> None:
    descirbe  # type: ignore[name-defined]  # noqa: B018, F821


def deep(levels: int = failure.MOST_FRAMES) -> None:
    if levels:
        deep(levels - 1)
    raise LookupError(levels)


def group() -> None:
    if sys.version_info < (3, 11):
        raise OSError(2, "no group")
    raise ExceptionGroup("both", [ValueError(1), caught(chained)])  # noqa: F821


def no_syntax() -> None:
    compile("1 +", "a file", "exec")


def caught(raises: Callable[[], object]) -> Exception:
    try:
        raises()
    except Exception as error:
        return error
    raise AssertionError


@pytest.mark.parametrize("raises", [chained, misspelt, deep, group, no_syntax])
def test_its_text_is_what_python_prints_however_often_it_is_raised(
    raises: Callable[[], object],
) -> None:
    for _ in range(2):
        error = caught(raises)
        parts = traceback.format_exception(type(error), error, error.__traceback__)
        assert describe(error).traceback == "".join(parts)


def test_one_that_was_never_raised_has_no_stack() -> None:
    error = ValueError("a")
    assert describe(error).traceback == "".join(traceback.format_exception(ValueError, error, None))


def test_two_functions_that_differ_in_their_file_alone_have_each_their_own_text() -> None:
    for name in ("one.py", "two.py"):
        space: dict[str, Callable[[], object]] = {}
        exec(compile("def f():\n    return 1 / 0\n", name, "exec"), space)
        assert f'File "{name}", line 2, in f' in describe(caught(space["f"])).traceback


def test_only_so_many_stacks_are_kept() -> None:
    for _ in range(failure.MOST_STACKS + 5):
        space: dict[str, Callable[[], object]] = {}
        exec("def f():\n    return 1 / 0\n", space)
        describe(caught(space["f"]))
    before = dict(failure._stacks)
    describe(caught(deep))
    assert failure._stacks == before
    assert 0 < len(failure._stacks) <= failure.MOST_STACKS


def test_a_text_without_end_is_cut() -> None:
    found = describe(ValueError("a" * 10**6))
    assert (len(found.message), len(found.traceback)) == (LONGEST_TEXT, LONGEST_TEXT)


@pytest.mark.parametrize("form", outputs.OUTPUT_FORMATS)
def test_the_exception_goes_along_where_the_caller_raises_it(form: str) -> None:
    outcome = failed(ValueError("a"), form, 0.5)
    assert (str(outcome.failure), outcome.seconds, outcome.retry) == ("ValueError: a", 0.5, True)
    assert (repr(exceptions.load(outcome.exception)) == "ValueError('a')") is (form in RAISED)
    assert bool(outcome.exception) is (form in RAISED)


def test_an_input_that_could_not_be_read_has_no_exception_and_is_not_tried_again() -> None:
    outcome = failed(BadItem(Failure("BadInput", "is not JSON")), "values")
    assert (outcome.is_unreadable, outcome.exception) == (True, b"")
