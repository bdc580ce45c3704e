"""When a master works."""

from __future__ import annotations

import os

import pytest

from dq.errors import UsageError
from dq.master.lifetime import Lifetime


def test_it_is_ended_once() -> None:
    lifetime = Lifetime()
    assert (lifetime.closed, lifetime.wait(0)) == (False, False)
    assert [lifetime.end(), lifetime.end()] == [True, False]
    assert (lifetime.closed, lifetime.wait(0)) == (True, True)


def test_a_fork_neither_uses_nor_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    lifetime = Lifetime()
    lifetime.check_process()
    monkeypatch.setattr(os, "getpid", lambda: -1)
    with pytest.raises(UsageError, match="make another one here"):
        lifetime.check_process()
    assert not lifetime.end()
    assert not lifetime.closed
