"""A row comes back whole, or not at all."""

from __future__ import annotations

import json
from dataclasses import replace

from dq.core.records import Failed, Failure
from dq.journal.rows import Row, row_of, sealed
from support.journals import (
    lines,
    record,
)

FAILED = Failed(Failure("ValueError", "no", "Traceback"), 0.25, exception=b"\x00\xffpickled")


def failed_columns(failed: Failed) -> list[object]:
    row = row_of(replace(record(0, lines(0, 1)), outcome=failed), True)
    return list(row.to_columns())


def test_a_failure_comes_back_with_its_exception() -> None:
    row = Row.from_columns(failed_columns(FAILED))
    assert row is not None
    assert row.outcome == FAILED


def test_a_failure_without_an_exception_is_as_in_older_journals() -> None:
    plain = replace(FAILED, exception=b"")
    columns = failed_columns(plain)
    assert json.loads(str(columns[5])) == ["ValueError", "no", "Traceback", True]
    row = Row.from_columns(sealed(*columns[:-1]))
    assert row is not None
    assert row.outcome == plain


def test_a_row_that_is_not_whole_is_none() -> None:
    columns = row_of(record(0, lines(0, 2)), True).to_columns()
    assert Row.from_columns(columns) is not None
    for place in range(len(columns)):
        other = [*columns[:place], 7, *columns[place + 1 :]]
        assert Row.from_columns(other) is None
