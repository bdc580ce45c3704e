"""A fork that waits until no other thread imports anything."""

from __future__ import annotations

import importlib
import sys
import threading
from pathlib import Path

import pytest

from dq._support import forking

WAITS = """
import threading
threading.current_thread().began.set()
threading.current_thread().go_on.wait(60)
"""


class Importing(threading.Thread):
    """A thread in the midst of an import."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.began, self.go_on = threading.Event(), threading.Event()

    def run(self) -> None:
        importlib.import_module("waits_in_its_import")


@pytest.fixture
def importing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Importing:
    (tmp_path / "waits_in_its_import.py").write_text(WAITS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "waits_in_its_import", raising=False)
    thread = Importing()
    thread.start()
    assert thread.began.wait(30)
    return thread


def test_an_import_of_another_thread_is_waited_for(
    importing: Importing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forking, "IMPORTS_TIMEOUT_S", 60.0)
    waited = threading.Thread(target=forking.await_imports)
    waited.start()
    waited.join(0.1)
    assert waited.is_alive()
    importing.go_on.set()
    waited.join(30)
    assert not waited.is_alive()


def test_one_that_takes_long_is_not(importing: Importing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forking, "IMPORTS_TIMEOUT_S", 0.01)
    forking.await_imports()
    importing.go_on.set()
    importing.join(30)
