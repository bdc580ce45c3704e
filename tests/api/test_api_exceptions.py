"""What a failed task raises in the caller: its own exception, or `dq.TaskError`."""

from __future__ import annotations

import gc
import os
import sys
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import dq
from support import python, script
from support.warm import dq as sh
from tasks.exceptions import (
    RAISED,
    OwnError,
    fail,
    fail_at_first,
    fail_slowly,
    fail_with,
    fail_with_notes,
    make,
)

PATIENCE = 30.0


@pytest.fixture
def master() -> Iterator[dq.Master]:
    with dq.Master(workers=1) as started:
        yield started


@pytest.fixture
def pool(master: dq.Master) -> Iterator[dq.Executor]:
    with dq.Executor(master=master) as pool:
        yield pool


# As itself

CALLS: dict[str, Callable[[dq.Master, dq.Executor], object]] = {
    "run": lambda master, pool: dq.run(fail_with, [0, 5], workers=1),
    "map": lambda master, pool: list(master.map(fail_with, [0, 5])),
    "unordered": lambda master, pool: list(master.map(fail_with, [0, 5], ordered=False)),
    "submit": lambda master, pool: pool.submit(fail_with, 5).result(PATIENCE),
    "executor's map": lambda master, pool: list(pool.map(fail_with, [0, 5], timeout=PATIENCE)),
}


@pytest.mark.parametrize("name", CALLS)
def test_each_call_raises_the_task_s_exception_as_itself(
    master: dq.Master, pool: dq.Executor, name: str
) -> None:
    with pytest.raises(OwnError) as caught:
        CALLS[name](master, pool)
    error = caught.value
    assert (type(error), error.args, vars(error)["detail"]) == (OwnError, (5,), "of the disk")
    assert isinstance(error.__cause__, dq.RemoteTraceback)
    assert 'raise OwnError(code, detail="of the disk")' in str(error.__cause__)


def test_it_is_in_the_list_where_exceptions_are_returned() -> None:
    zero, error = dq.run(fail_with, [0, 5], workers=1, return_exceptions=True)
    assert zero == 0
    assert isinstance(error, OwnError)
    assert isinstance(error.__cause__, dq.RemoteTraceback)


def test_run_master_raises_and_returns_it_too() -> None:
    found = dq.run_master(
        fail_with, [5], host="127.0.0.1", port=0, authkey=b"for tests only", workers=1,
        return_exceptions=True,
    )  # fmt: skip
    assert isinstance(found[0], OwnError)


def test_a_class_of_a_script_comes_as_the_scripts_and_one_of_a_task_as_new(tmp_path: Path) -> None:
    (tmp_path / "work.py").write_text("""
import dq
class Mine(Exception):
    def __init__(self, a, b=0):
        super().__init__(a)
        self.b = b
def f(x):
    class Local(LookupError):
        def __str__(self):
            return "of the task"
    raise Mine(x, b=2) if x else Local(x)
if __name__ == "__main__":
    with dq.Executor(1) as pool:
        for error in (*dq.run(f, [1, 0], workers=1, return_exceptions=True),
                      *(pool.submit(f, x).exception() for x in (1, 0))):
            print(isinstance(error, (Mine, LookupError)), type(error).__name__, error)
            assert type(error) is not Mine or error.b == 2
""")
    done = script(tmp_path / "work.py", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "True Mine 1\nTrue Local of the task\n" * 2


def test_only_the_last_attempt_s_exception_is_raised(tmp_path: Path) -> None:
    with pytest.raises(OwnError) as caught:
        dq.run(fail_at_first, [str(tmp_path / "tried")], workers=1, retries=1)
    assert ", attempt 2, on " in caught.value.__notes__[0]  # type: ignore[attr-defined]


def test_each_failure_has_an_object_of_its_own(pool: dq.Executor, master: dq.Master) -> None:
    found = [pool.submit(fail_with, 5).exception(PATIENCE) for _ in range(3)]
    found += dq.run(fail_with, [5] * 3, workers=1, return_exceptions=True)  # type: ignore[arg-type]
    assert len({id(error) for error in found}) == 6
    assert {type(error) for error in found} == {OwnError}


def test_an_exception_that_a_task_returns_is_a_value(pool: dq.Executor) -> None:
    [value] = dq.run(make, [5], workers=1)
    assert (type(value), value.__cause__) == (OwnError, None)
    assert pool.submit(make, 5).result(PATIENCE).code == 5
    failed = dq.TaskError(dq.Result(0, 1))
    assert dq.run(type(failed), [failed.result], workers=1)[0].result == failed.result


def test_stream_gives_the_failure_as_text(master: dq.Master) -> None:
    [result] = master.stream(fail_with, [5])
    assert str(result.error) == "OwnError: 5"


# Otherwise as a TaskError


def test_what_cannot_or_must_not_be_raised_here_is_a_task_error(
    pool: dq.Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DQ_TEST_CALLER", str(os.getpid()))
    listed = dq.run(fail, RAISED, workers=1, return_exceptions=True)
    for name, error in zip(RAISED, listed, strict=True):
        assert isinstance(error, dq.TaskError), name
        assert (error.result.input, error.result.ok) == (name, False)
        assert isinstance(error.__cause__, dq.RemoteTraceback)
    calls = [pool.submit(fail, name) for name in RAISED]
    assert {type(call.exception(PATIENCE)) for call in calls} == {dq.TaskError}


@pytest.mark.parametrize("name", ["exit", "interrupt", "end of a loop"])
def test_what_would_end_the_callers_program_or_loop_ends_the_map_in_an_error(
    master: dq.Master, name: str
) -> None:
    with pytest.raises(dq.TaskError, match=r"^task 0 failed: ") as caught:
        for _ in master.map(fail, [name]):
            pass
    assert "raise RAISED[name]()" in str(caught.value.__cause__)


def test_a_class_that_only_the_worker_can_import_is_a_task_error(tmp_path: Path) -> None:
    (tmp_path / "elsewhere.py").write_text("class There(Exception):\n    pass\n")
    with pytest.raises(dq.TaskError, match="There: it is there"):
        dq.run(fail_elsewhere, [str(tmp_path)], workers=1)
    assert "elsewhere" not in sys.modules


def fail_elsewhere(folder: str) -> None:
    sys.path.insert(0, folder)
    import elsewhere  # type: ignore[import-not-found]

    raise elsewhere.There("it is there")


def test_an_exception_that_never_ends_its_pickling_is_over_the_task_s_time() -> None:
    with pytest.raises(dq.TaskError, match="TimeoutError: ran longer than 1 s"):
        dq.run(fail_slowly, [1], workers=1, timeout=1)


# What a person sees


def test_a_note_says_which_task_it_was_in_one_line(master: dq.Master) -> None:
    with pytest.raises(ValueError, match="noted") as caught:
        list(master.map(fail_with_notes, ["a\nb" * 100]))
    own, note = caught.value.__notes__  # type: ignore[attr-defined]
    assert own == "a note of its own"
    assert note.startswith("dq: task 0, input 'a\\nba\\nb")
    assert ", attempt 1, on " in note
    assert len(note) < 200
    assert "\n" not in note


def test_a_call_of_an_executor_needs_no_note(pool: dq.Executor) -> None:
    error = pool.submit(fail_with, 5).exception(PATIENCE)
    assert not hasattr(error, "__notes__")


def test_an_uncaught_one_shows_the_task_s_line_then_the_call_s(tmp_path: Path) -> None:
    path = tmp_path / "work.py"
    path.write_text("import dq\ndef f(x):\n    return 1 // x\ndq.run(f, [0], workers=1)\n")
    done = script(path, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.count("Traceback (most recent call last):") == 2
    theirs, _, ours = done.stderr.partition("\n\nThe above exception was the direct cause")
    assert theirs.startswith("dq.errors.RemoteTraceback: \nTraceback (most recent call last):\n")
    assert theirs.endswith("\nZeroDivisionError: integer division or modulo by zero")
    assert f'File "{path}", line 3, in f' in theirs
    assert f'File "{path}", line 4, in <module>' in ours
    if sys.version_info >= (3, 11):
        assert ours.splitlines()[-1].startswith("dq: task 0, input 0, attempt 1, on ")


def test_a_caught_one_is_freed_without_a_collection(master: dq.Master) -> None:
    def call() -> weakref.ref[OwnError]:
        try:
            list(master.map(fail_with, [0, 5]))
        except OwnError as error:
            return weakref.ref(error)
        raise AssertionError

    gc.disable()
    try:
        assert call()() is None
    finally:
        gc.enable()


# From a journal


def test_a_run_continued_from_a_journal_raises_the_same(tmp_path: Path) -> None:
    (tmp_path / "work.py").write_text("""
import dq
class Mine(Exception):
    pass
def f(x):
    print("called")
    raise Mine(x, "again")
if __name__ == "__main__":
    try:
        dq.run(f, [1], workers=1, journal="j")
    except Mine as error:
        print(error, error.__notes__, error.__cause__)
""")
    first, second = (script(tmp_path / "work.py", cwd=tmp_path) for _ in range(2))
    assert first.stdout.startswith("(1, 'again') ['dq: task 0, input 1, attempt 1, on ")
    assert (second.returncode, second.stdout, second.stderr) == (0, first.stdout, "")
    assert first.stderr == "called\n"


# Where it is not needed


def test_a_command_does_not_unpickle_it_and_a_call_does(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("""
import os, sys
def loud():
    if "dq.worker.main" not in sys.modules:
        print("opened", flush=True)
    return ValueError(3)
class Loud(Exception):
    def __reduce__(self):
        return loud, ()
def f(x):
    raise Loud(x)
""")
    done = sh("run", "app:f", "1", "-w", "1", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    code = "import dq, app; print(repr(dq.run(app.f, [1], workers=1, return_exceptions=True)[0]))"
    done = python(code, cwd=tmp_path)
    assert done.stdout == "opened\nValueError(3)\n"
