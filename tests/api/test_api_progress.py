"""`progress=`: a bar, lines, or a function that is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import dq
from support import DQ, python
from support.terminal import Terminal

Call = tuple[int, "int | None", int]


class Calls(list[Call]):
    """What a function was told."""

    def __call__(self, done: int, total: int | None, failed: int) -> None:
        self.append((done, total, failed))


def test_a_function_is_told_from_nothing_to_the_end() -> None:
    calls = Calls()
    assert dq.run("math:sqrt", [1, 4, 9], workers=1, progress=calls) == [1.0, 2.0, 3.0]
    assert calls[0] == (0, 3, 0)
    assert calls[-1] == (3, 3, 0)
    assert calls == sorted(calls)


def test_failures_are_told_by_themselves() -> None:
    calls = Calls()
    dq.run("math:sqrt", [1, -1, 9], workers=1, return_exceptions=True, progress=calls)
    assert calls[-1] == (2, 3, 1)


def test_the_total_of_an_iterator_is_told_at_its_end() -> None:
    calls = Calls()
    dq.run("math:sqrt", iter([1, 4, 9]), workers=1, progress=calls)
    assert calls[0] == (0, None, 0)
    assert calls[-1] == (3, 3, 0)


@pytest.mark.parametrize("call", ["map", "stream"])
def test_a_masters_calls_tell_it_too(call: str) -> None:
    calls = Calls()
    with dq.Master(workers=1) as master:
        assert len(list(getattr(master, call)("math:sqrt", [1, 4], progress=calls))) == 2
    assert (calls[0], calls[-1]) == ((0, 2, 0), (2, 2, 0))


def test_run_master_tells_it_too() -> None:
    calls = Calls()
    options: dict[str, Any] = {"host": "127.0.0.1", "port": 0, "authkey": b"k" * 32, "workers": 1}
    dq.run_master("math:sqrt", [1, 4], progress=calls, **options)
    assert calls[-1] == (2, 2, 0)


def test_what_the_function_raises_ends_the_call() -> None:
    def refuse(done: int, total: int | None, failed: int) -> None:
        if done:
            raise KeyError("enough")

    with pytest.raises(KeyError, match="enough"):
        dq.run("math:sqrt", [1, 4, 9], workers=1, progress=refuse)


@pytest.mark.parametrize("wanted", [3, "yes", None])
def test_anything_else_is_refused(wanted: Any) -> None:
    with pytest.raises(dq.UsageError, match=r"progress must be True, False or a function"):
        dq.run("math:sqrt", [1], workers=1, progress=wanted)


def test_without_a_terminal_the_end_is_a_line_of_plain_text(tmp_path: Path) -> None:
    done = python("import dq; dq.run('math:sqrt', [1, 4], workers=1, progress=True)", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.startswith("dq: 2 done in ")
    assert done.stderr.count("\n") == 1


def test_nothing_is_shown_that_nobody_asked_for(tmp_path: Path) -> None:
    done = python("import dq; dq.run('math:sqrt', [1, 4], workers=1)", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_terminal_shows_a_bar_that_makes_room_for_prints(tmp_path: Path) -> None:
    (tmp_path / "talk.py").write_text(
        "import time\ndef f(x):\n    print('printed', x)\n    time.sleep(0.1)\n    return x\n"
    )
    code = "import dq, sys; sys.path.insert(0, ''); print(dq.run('talk:f', [1, 2], progress=True))"
    with Terminal(DQ[0], "-c", code, cwd=tmp_path) as terminal:
        terminal.wait_for(r"\[ +\] 0 of 2")
        assert terminal.wait() == (0, "[1, 2]\n")
    assert sorted(line for line in terminal.lines if line.startswith("printed")) == [
        "printed 1",
        "printed 2",
    ]
    assert terminal.lines[-1].startswith("dq: 2 done in ")


def test_what_is_logged_has_the_bar_make_room(tmp_path: Path) -> None:
    (tmp_path / "die.py").write_text(
        "import os, time\n"
        "def f(x):\n"
        "    time.sleep(0.3)\n"
        "    if x == 2 and not os.path.exists('been'):\n"
        "        open('been', 'w').close()\n"
        "        os._exit(3)\n"
        "    return x\n"
    )
    code = (
        "import dq, sys; sys.path.insert(0, ''); dq.run('die:f', [1, 2], workers=1, progress=True)"
    )
    with Terminal(DQ[0], "-c", code, cwd=tmp_path) as terminal:
        assert terminal.wait()[0] == 0
    said, last = terminal.lines
    assert said.startswith("task process ")
    assert last.startswith("dq: 2 done in ")


def test_an_iterator_that_nobody_keeps_takes_its_bar_with_it(tmp_path: Path) -> None:
    code = (
        "import dq, time\n"
        "from dq._support import screen\n"
        "from dq.master import progress\n"
        "screen.takes_bar = progress.takes_bar = lambda: True\n"
        "with dq.Master(workers=1) as master:\n"
        "    values = master.map('math:sqrt', [1, 4, 9], progress=True)\n"
        "    next(values)\n"
        "    del values\n"
        "    until = time.monotonic() + 10\n"
        "    while screen.screen._bar is not None and time.monotonic() < until:\n"
        "        time.sleep(0.01)\n"
        "    print(screen.screen._bar)\n"
    )
    done = python(code, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "None\n"), done.stderr


def test_outcomes_of_a_journal_are_told_as_well(tmp_path: Path) -> None:
    calls = Calls()
    for _ in range(2):
        calls.clear()
        dq.run("math:sqrt", [1, 4], workers=1, journal=tmp_path / "j", progress=calls)
        assert calls[-1] == (2, 2, 0)
