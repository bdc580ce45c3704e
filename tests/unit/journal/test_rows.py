"""A row comes back whole, or not at all."""

from __future__ import annotations

from dq.journal.rows import Row, row_of
from support.journals import (
    lines,
    record,
)


def test_a_row_that_is_not_whole_is_none() -> None:
    columns = row_of(record(0, lines(0, 2)), True).to_columns()
    assert Row.from_columns(columns) is not None
    for place in range(len(columns)):
        other = [*columns[:place], 7, *columns[place + 1 :]]
        assert Row.from_columns(other) is None
