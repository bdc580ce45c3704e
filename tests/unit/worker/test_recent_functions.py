"""Which functions of calls a task process keeps."""

from __future__ import annotations

import pytest

from dq.functions.by_value_classes import Scope
from dq.worker import call_program
from dq.worker.call_program import CallFunction, RecentFunctions


def function(nbytes: int = 0) -> CallFunction:
    return CallFunction(abs, Scope(), nbytes)


def test_those_called_the_longest_time_ago_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call_program, "MAX_FUNCTIONS", 3)
    recent = RecentFunctions()
    for key in "abc":
        recent.add(key, function())
    assert recent.get("a") is not None
    recent.add("d", function())
    assert [key for key in "abcd" if recent.get(key) is not None] == ["a", "c", "d"]


def test_no_more_bytes_are_kept_than_the_last_two_need(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call_program, "MAX_BYTES", 10)
    recent = RecentFunctions()
    for key, nbytes in ("a", 4), ("b", 4), ("c", 100), ("d", 100), ("e", 1):
        recent.add(key, function(nbytes))
    assert [key for key in "abcde" if recent.get(key) is not None] == ["d", "e"]
