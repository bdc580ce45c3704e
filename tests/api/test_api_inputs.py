"""Who reads the inputs, in which thread and context; and which inputs nobody opens."""

from __future__ import annotations

import contextvars
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest

import dq
from support import script
from tasks.calls import wait_for
from tasks.inputs import add_one, die, first, refuse

who = contextvars.ContextVar("who", default="nobody")


@pytest.fixture
def rows() -> Iterator[Callable[[], sqlite3.Cursor]]:
    """Makes cursors, which SQLite lets no other thread use."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("create table t (a)")
        connection.executemany("insert into t values (?)", [(n,) for n in range(200)])
        yield lambda: connection.execute("select a from t")


Rows = Callable[[], sqlite3.Cursor]


@pytest.mark.parametrize("return_exceptions", [False, True])
def test_run_reads_in_the_calling_thread(rows: Rows, return_exceptions: bool) -> None:
    values = dq.run(first, rows(), workers=1, return_exceptions=return_exceptions)
    assert values == list(range(200))


def test_run_master_reads_in_the_calling_thread(rows: Rows) -> None:
    values = dq.run_master(
        first, rows(), host="127.0.0.1", port=0, authkey=b"a key of 16 bytes", workers=1
    )
    assert values == list(range(200))


def test_run_reads_a_journal_s_inputs_in_the_calling_thread_too(rows: Rows, tmp_path: Path) -> None:
    for _ in range(2):
        values = dq.run(first, rows(), workers=1, journal=tmp_path / "j")
        assert values == list(range(200))


class Lazy(Sequence[int]):
    """A sequence that works out its items when it is asked for them."""

    def __init__(self) -> None:
        self.readers: set[str] = set()

    def __len__(self) -> int:
        return 50

    def __getitem__(self, index: object) -> int:  # type: ignore[override]
        if not isinstance(index, int) or index >= 50:
            raise IndexError
        self.readers.add(threading.current_thread().name)
        return index


def test_a_sequence_that_computes_its_items_is_read_there_as_well() -> None:
    lazy = Lazy()
    assert dq.run(abs, lazy, workers=1) == list(range(50))
    assert lazy.readers == {threading.current_thread().name}


def named() -> Iterator[str]:
    for _ in range(3):
        yield who.get()


def test_map_and_stream_read_with_the_caller_s_context_variables() -> None:
    who.set("me")
    with dq.Master(workers=1) as master:
        assert list(master.map(str, named())) == ["me"] * 3
        assert [result.value for result in master.stream(str, named())] == ["me"] * 3


def failing() -> Iterator[int]:
    yield 1
    raise LookupError("no more")


def test_what_the_inputs_raise_comes_out_of_run() -> None:
    with pytest.raises(LookupError, match="no more"):
        dq.run(abs, failing(), workers=1)


def test_run_stops_reading_at_the_first_failure() -> None:
    read = 0

    def endless() -> Iterator[int]:
        nonlocal read
        while True:
            read += 1
            yield -1

    import math

    with pytest.raises(ValueError, match="math domain error"):
        dq.run(math.sqrt, endless(), workers=1)
    assert read


def test_a_list_that_becomes_shorter_fails_what_it_no_longer_has(tmp_path: Path) -> None:
    go = tmp_path / "go"
    inputs = [None, *[str(go)] * 100]
    with dq.Master(workers=1, batch=1) as master:
        results = master.stream(wait_for, inputs)
        first = next(results)
        inputs.clear()
        go.touch()
        rest = list(results)
    assert first.ok
    assert {str(result.error) for result in rest if not result.ok} == {
        "IndexError: the list of inputs has become shorter since"
    }


# Inputs that end the process which unpickles them

DEADLY = """
import os, sys, time
import dq

class Deadly:
    def __reduce__(self):
        return deadly, ()

def deadly():
    if "dq.worker.main" in sys.modules:
        os._exit(3)
    os.write(1, b"opened where it was made\\n")
    os._exit(4)

def same(x):
    return x
"""
USES = {
    "run": "dq.run(same, [Deadly()], workers=1, max_deaths=1)",
    "map": "with dq.Master(workers=1, max_deaths=1) as m: next(m.map(same, [Deadly()]))",
    "stream": (
        "with dq.Master(workers=1, max_deaths=1) as m:\n"
        "        [r] = m.stream(same, [Deadly()])\n"
        "        raise dq.TaskError(r)"
    ),
    "submit": "with dq.Executor(1, max_deaths=1) as p: p.submit(same, Deadly()).result()",
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_an_input_that_ended_a_worker_is_not_opened_in_the_caller(tmp_path: Path, use: str) -> None:
    source = DEADLY + f"try:\n    {use}\nexcept dq.TaskError as error:\n    print(error.result)\n"
    path = tmp_path / "work.py"
    path.write_text(source)
    done = script(path, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Result(id=0, input=None" in done.stdout
    assert "WorkerDied" in done.stdout
    assert "opened where it was made" not in done.stdout


def test_plain_data_that_a_task_died_of_is_in_its_record() -> None:
    with pytest.raises(dq.TaskError) as caught:
        dq.run(die, [{"a": [1]}], workers=1, max_deaths=1)
    assert caught.value.result.input == {"a": [1]}


def test_an_object_that_a_task_refused_is_in_its_record() -> None:
    with dq.Master(workers=1) as master:
        [result] = master.stream(refuse, [Path("x")])
    assert (result.input, str(result.error)) == (Path("x"), "ValueError")
    assert sys.exc_info() == (None, None, None)


# What inputs share


def test_inputs_of_one_batch_share_what_they_shared_here() -> None:
    """As in a chunk of `multiprocessing.Pool`: it hurts tasks that change their inputs in place."""
    counts: list[int] = []
    assert dq.run(add_one, [counts] * 3, workers=1, batch=3) == [1, 2, 3]
    assert counts == []
    assert dq.run(add_one, [counts] * 3, workers=1, batch=1) == [1, 1, 1]


def test_calls_of_an_executor_share_nothing() -> None:
    counts: list[int] = []
    with dq.Executor(1, batch=3) as pool:
        calls = [pool.submit(add_one, counts) for _ in range(30)]
        assert {call.result() for call in calls} == {1}
