"""Tables fit the terminal."""

from __future__ import annotations

import pytest

from dq.cli.job_lists import jobs_table
from dq.cli.tables import Column, table
from dq.service.status import JobStatus


def test_columns_with_nothing_in_them_are_left_out() -> None:
    columns = [Column("A", ["1", "2"], right=True), Column("B", ["", ""]), Column("C", ["", "x"])]
    assert table(columns, 80) == ["A  C", "1", "2  x"]


def test_cells_are_cut_before_columns_are_left_out() -> None:
    columns = [Column("NUMBER", ["1"]), Column("AGE", ["1h"], spare=1)]
    columns.append(Column("NAME", ["n" * 30], shrinks=True))
    assert table(columns, 22) == ["NUMBER  AGE  NAME", "1       1h   nnnnn..."]
    assert table(columns, 20) == ["NUMBER  NAME", "1       nnnnnnnn..."]


@pytest.mark.parametrize("width", [80, 100, 200])
def test_a_job_about_which_there_is_everything_to_say_fits(width: int) -> None:
    job = JobStatus(
        number=12345, id="", name="n" * 100, task="package.module:" + "f" * 100, state="cancelled",
        total=1_000_000, done=999_999, failed=123_456, running=10_000, priority=-1000,
        left=86_399.0,
    )  # fmt: skip
    assert all(len(line) < width for line in jobs_table([job], width).splitlines())
