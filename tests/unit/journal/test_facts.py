"""A journal is of one run, and of no other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dq.core.records import Reading
from dq.errors import BadJournal
from dq.journal.facts import Facts, facts
from dq.journal.writer import Journal
from support.journals import (
    some_records,
    write,
)


@pytest.mark.parametrize(
    "other",
    [
        facts("app:cube", reading=Reading("lines"), output="text", unpack=False),
        facts("app:square", reading=Reading("raw"), output="text", unpack=False),
        facts("app:square", reading=Reading("lines"), output="jsonl", unpack=False),
        facts("app:square", reading=Reading("lines"), output="text", unpack=True),
    ],
)
def test_the_journal_of_another_run_is_refused(tmp_path: Path, other: Facts) -> None:
    write(tmp_path / "j", some_records())
    with pytest.raises(BadJournal, match="of another run"):
        Journal(str(tmp_path / "j"), other)


@pytest.mark.parametrize("now", [{"fields": ("b", "a")}, {"fields": ("a", "b"), "raw": True}])
def test_rows_of_other_columns_are_another_run(tmp_path: Path, now: dict[str, Any]) -> None:
    def of(**how: Any) -> Facts:
        return facts("app:square", reading=Reading("csv", **how), output="text", unpack=False)

    write(tmp_path / "j", [], of(fields=("a", "b")))
    with pytest.raises(BadJournal, match="of another run"):
        Journal(str(tmp_path / "j"), of(**now))
