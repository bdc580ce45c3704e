"""`journal=` of the Python interface."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

import dq
from support import dq as sh
from tasks.journal import LOG, Unsendable, logged


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def runs() -> int:
    return len(Path(LOG).read_text().split())


def test_run_goes_on_from_its_journal(tmp_path: Path) -> None:
    first = dq.run(logged, [1, 2, 3], workers=1, journal="j")
    again = dq.run(logged, [1, 2, 3], workers=1, journal=tmp_path / "j")
    assert first == again == [1, 4, 9]
    assert runs() == 3


def test_run_refuses_a_changed_input() -> None:
    dq.run(logged, [1, 2, 3], workers=1, journal="j")
    with pytest.raises(dq.InputChanged) as caught:
        dq.run(logged, [1, 2, 4], workers=1, journal="j")
    assert caught.value.index == 2


def test_run_refuses_fewer_inputs_and_another_function() -> None:
    dq.run(logged, [1, 2, 3], workers=1, journal="j")
    with pytest.raises(dq.BadInput, match="there are 2 inputs"):
        dq.run(logged, iter([1, 2]), workers=1, journal="j")
    with pytest.raises(dq.BadJournal, match="of another run"):
        dq.run("math:sqrt", [1, 2, 3], workers=1, journal="j")


# Ends whichever process unpickles it.
DEADLY = """
import os

class Deadly:
    def __reduce__(self):
        return os._exit, (7,)

def f(x):
    if isinstance(x, tuple):
        raise ValueError("a tuple")
    return x
"""


def test_a_failures_input_is_kept_and_one_that_kills_is_not_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "deadly.py").write_text(DEADLY)
    monkeypatch.syspath_prepend(tmp_path)
    deadly = importlib.import_module("deadly")
    given = [1, deadly.Deadly(), (2, "b"), 3]
    options: dict[str, Any] = {"workers": 1, "return_exceptions": True, "journal": "j"}
    for _ in range(2):
        one, killed, failed, three = dq.run("deadly:f", given, **options)
        assert (one, three) == (1, 3)
        assert killed.result.error.type == "WorkerDied"
        assert repr(failed) == "ValueError('a tuple')"
        assert failed.__notes__[0].startswith("dq: task 2, input (2, 'b'), attempt 1, on ")
    listed = sh("journal", "j", "--failed", cwd=tmp_path).stdout.splitlines()
    assert listed[0].startswith("task 1 failed after 3 attempts: WorkerDied: ")
    assert listed[1] == 'task 2 ([2, "b"]) failed: ValueError: a tuple'


def test_a_failure_stays_one_until_it_is_retried() -> None:
    for _ in range(2):
        with pytest.raises(ValueError, match="no 5 today"):
            dq.run(logged, [4, 5], workers=1, journal="j")
    assert runs() == 2
    Path("mended").touch()
    assert dq.run(logged, [4, 5], workers=1, journal="j", retry_failed=True) == [16, 25]
    assert runs() == 3


def test_exceptions_are_returned_from_the_journal_too() -> None:
    first = dq.run(logged, [4, 5, 6], workers=1, journal="j", return_exceptions=True)
    again = dq.run(logged, [4, 5, 6], workers=1, journal="j", return_exceptions=True)
    assert [type(value) for value in again] == [int, ValueError, int]
    assert first[1].args == again[1].args
    assert first[1].__notes__ == again[1].__notes__
    assert str(first[1].__cause__) == str(again[1].__cause__) != ""


def test_map_goes_on_where_it_was_left() -> None:
    Path("mended").touch()
    with dq.Master(workers=1) as master:
        for value in master.map(logged, range(1000), journal="j"):
            if value == 100:
                break
        again = list(master.map(logged, iter(range(1000)), journal="j"))
    assert again == [x * x for x in range(1000)]


@pytest.mark.parametrize("name", ["map", "stream"])
def test_one_master_can_use_a_journal_again_and_again(name: str) -> None:
    with dq.Master(workers=1) as master:
        found = [len(list(getattr(master, name)(logged, [1, 2], journal="j"))) for _ in range(3)]
    assert found == [2, 2, 2]
    assert runs() == 2


def test_stream_has_the_records_of_the_first_run() -> None:
    with dq.Master(workers=1) as master:
        first = list(master.stream(logged, [4, 5], journal="j"))
        again = list(master.stream(logged, [4, 5], journal="j"))
    assert first == again
    assert [result.ok for result in again] == [True, False]


def test_two_runs_on_one_journal_at_once_are_refused() -> None:
    with dq.Master(workers=1) as master:
        values = master.map(logged, [1, 2], journal="j")
        with pytest.raises(dq.BadJournal, match="in use"):
            master.map(logged, [1, 2], journal="j")
        assert list(values) == [1, 4]


def test_an_input_that_cannot_be_sent_fails_again() -> None:
    inputs = [1, Unsendable(), 3]
    first = dq.run(logged, inputs, workers=1, journal="j", return_exceptions=True)
    again = dq.run(logged, inputs, workers=1, journal="j", return_exceptions=True)
    assert first[::2] == again[::2] == [1, 9]
    assert str(first[1]) == str(again[1])
    assert runs() == 2


def test_run_master_takes_a_journal() -> None:
    args = {"port": 0, "authkey": b"a key for tests", "workers": 1, "journal": "j"}
    found = [dq.run_master(logged, [1, 2], host="127.0.0.1", **args) for _ in range(2)]
    assert found == [[1, 4], [1, 4]]
    assert runs() == 2


def test_retrying_is_for_journals() -> None:
    with pytest.raises(dq.UsageError, match="retry_failed goes with journal"):
        dq.run(logged, [1], workers=1, retry_failed=True)
