"""What people see: progress, help, version, completion."""

from __future__ import annotations

import os
import re
import signal
import sys
from pathlib import Path

import pytest

import dq as package
from support import DQ, python, run
from support.terminal import Terminal
from support.warm import dq

# Waits for its input's file, so that a test can look at the bar meanwhile.
STAY = """
import os, time
def f(x):
    while x and not os.path.exists("go"):
        time.sleep(0.01)
    return x
def g(row):
    return f(row["x"])
"""


@pytest.fixture
def stay(project: Path) -> Path:
    (project / "stay.py").write_text(STAY)
    return project


# -- progress


def test_a_terminal_shows_a_bar_with_rate_and_time_left(project: Path) -> None:
    argv = (*DQ, "run", "app:sleepy", *["0.05"] * 40, "-w", "1", "--batch", "1")
    with Terminal(*argv, cwd=project) as terminal:
        terminal.wait_for(r"^\r\x1b\[K\[ +\] 0 of 40\r")
        terminal.wait_for(r"\[#+ +\] \d+ of 40, [\d.]+/s, \S+ left")
        code, out = terminal.wait()
    assert (code, out) == (0, "0.05\n" * 40)
    assert re.search(r"dq: 40 done in \S+\r\n$", terminal.screen)


def test_a_terminal_shows_a_count_where_nobody_knows_the_total(project: Path) -> None:
    os.mkfifo(project / "pipe")
    argv = (*DQ, "run", "app:sleepy", "-i", "pipe", "-w", "1", "--batch", "1")
    with Terminal(*argv, cwd=project) as terminal, open(project / "pipe", "w") as pipe:
        pipe.write("0.05\n" * 20)
        pipe.flush()
        terminal.wait_for(r"\r\x1b\[K0 done\r")
        terminal.wait_for(r"\r\x1b\[K\d+ done, [\d.]+/s")
        pipe.close()
        assert terminal.wait()[0] == 0


def test_the_bar_never_is_among_the_results(project: Path) -> None:
    argv = (*DQ, "run", "app:sleepy", *["0.05"] * 10, "-w", "1", "--batch", "1")
    with Terminal(*argv, cwd=project) as terminal:
        _, out = terminal.wait()
    assert out == "0.05\n" * 10


def test_a_failure_is_a_line_of_its_own_beside_the_bar(project: Path) -> None:
    (project / "work.py").write_text(
        "import time\ndef f(x):\n    time.sleep(0.05)\n    assert x != 9, 'nine'\n"
    )
    argv = (*DQ, "run", "work:f", *map(str, range(12)), "-w", "1", "--batch", "1")
    with Terminal(*argv, cwd=project) as terminal:
        code, _ = terminal.wait()
    assert code == 1
    assert re.search(
        r"(^|\n|\x1b\[K)dq: task 9 \(9\) failed: AssertionError: nine\r\n", terminal.screen
    )


# What its tasks print and return, and what dq says, in a run of a few seconds.
TALK = """
import os, sys, time

def talk(x):
    print(f"printed {x}")
    os.system(f"echo program {x}")
    sys.stderr.write(f"part {x}, ")
    sys.stderr.flush()
    time.sleep(0.3)
    sys.stderr.write("whole\\n")
    if x == 3:
        raise ValueError("three")
    return f"returned {x}"
"""


@pytest.fixture
def talk(project: Path) -> Path:
    (project / "talk.py").write_text(TALK)
    return project


def test_results_prints_and_the_bar_do_not_collide_on_one_terminal(talk: Path) -> None:
    argv = (*DQ, "run", "talk:talk", *map(str, range(6)), "-w", "1", "--batch", "1")
    with Terminal(*argv, cwd=talk, shared=True) as terminal:
        terminal.wait_for(r"of 6")
        assert terminal.wait()[0] == 1
    *lines, group, last = terminal.lines
    # A result is there when it is: the next task may have printed by then.
    assert sorted(lines) == sorted(
        line
        for x in range(6)
        for line in (
            f"printed {x}",
            f"program {x}",
            f"part {x}, whole",
            f"returned {x}" if x != 3 else "dq: task 3 (3) failed: ValueError: three",
        )
    )
    assert group.startswith("dq: 1 x ValueError in talk (talk.py:")
    assert re.fullmatch(r"dq: 5 done in \S+, 1 failed", last)


def test_a_task_that_prints_much_is_shown_all_of_it(project: Path) -> None:
    (project / "flood.py").write_text(
        "import os\n"
        "def f(x):\n"
        "    os.write(2, b''.join(b'%d %0100d\\n' % (x, n) for n in range(5000)))\n"
        "    return x\n"
    )
    argv = (*DQ, "run", "flood:f", "1", "2", "-w", "2")
    with Terminal(*argv, cwd=project) as terminal:
        assert terminal.wait() == (0, "1\n2\n")
    shown = [line for line in terminal.lines if not line.startswith("dq: ")]
    assert sorted(shown) == sorted(f"{x} {n:0100d}" for x in (1, 2) for n in range(5000))


def test_what_is_no_text_goes_to_the_terminal_as_it_is(project: Path) -> None:
    source = "import os\ndef f(x):\n    os.write(2, bytes(range(256)) + b'\\n')\n    return x\n"
    (project / "binary.py").write_text(source)
    with Terminal(*DQ, "run", "binary:f", "1", "-w", "1", cwd=project) as terminal:
        assert terminal.wait() == (0, "1\n")
    assert bytes(range(14, 128)).decode() in terminal.screen


def test_a_program_that_a_task_leaves_does_not_keep_the_run(project: Path) -> None:
    (project / "leave.py").write_text(
        "import subprocess, sys\n"
        "def f(x):\n"
        "    code = 'import time; time.sleep(60)'\n"
        "    left = subprocess.Popen([sys.executable, '-c', code], start_new_session=True)\n"
        "    return left.pid\n"
    )
    with Terminal(*DQ, "run", "leave:f", "1", "-w", "1", cwd=project) as terminal:
        code, pid = terminal.wait(20)
        os.kill(int(pid), signal.SIGKILL)
    assert code == 0


def test_the_mark_of_ctrl_c_is_not_left_on_the_terminal(stay: Path) -> None:
    argv = (*DQ, "run", "stay:f", "0", "1", "2", "-w", "1", "--batch", "1")
    with Terminal(*argv, cwd=stay, shared=True, columns=60) as terminal:
        terminal.wait_for(r"1 of 3")
        terminal.type("\x03")
        terminal.wait_for("finishing running tasks")
        (stay / "go").touch()
        assert terminal.wait()[0] == 130
    assert terminal.lines[:3] == [
        "0",
        "dq: finishing running tasks; once more to leave now",
        "1",
    ]
    assert "^C" in terminal.screen


def test_a_bar_fits_forty_columns_and_any_that_come_later(stay: Path) -> None:
    argv = (*DQ, "run", "stay:f", "0", "1", "-w", "1", "--batch", "1")
    with Terminal(*argv, cwd=stay, columns=40) as terminal:
        terminal.wait_for(r"1 of 2")
        terminal.resize(20)
        terminal.wait_for(r"\r\x1b\[K1 of 2\S* [^\r]{0,8}\r")
        narrow = len(terminal.screen)
        (stay / "go").touch()
        assert terminal.wait()[0] == 0
    bars = re.findall(r"\x1b\[K([^\r\n]+)", terminal.screen[:narrow])
    assert max(map(len, bars)) <= 35
    assert len(bars[-1]) <= 15


@pytest.mark.parametrize("env", [{"CI": "true"}, {"TERM": "dumb"}], ids=lambda env: next(iter(env)))
def test_there_is_no_bar_where_it_cannot_be_erased(project: Path, env: dict[str, str]) -> None:
    argv = (*DQ, "run", "app:sleepy", *["0.1"] * 5, "-w", "1")
    with Terminal(*argv, cwd=project, env=env) as terminal:
        code, _ = terminal.wait()
    assert (code, terminal.screen) == (0, "")


def test_a_bar_needs_neither_colours_nor_utf8(project: Path) -> None:
    argv = (*DQ, "run", "app:boom_at_7", "7", '"\u4e00"', "-w", "1")
    env = {"NO_COLOR": "1", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    with Terminal(*argv, cwd=project, env=env) as terminal:
        code, _ = terminal.wait()
    assert code == 1
    assert terminal.screen.isascii()
    assert not re.search(r"\x1b\[[\d;]*m", terminal.screen)


def test_the_inputs_of_a_file_are_counted_ahead(stay: Path) -> None:
    """As they are read: a blank line of a .jsonl file is no input, and a row may have two lines."""
    (stay / "in.jsonl").write_text("0\n\n" + "1\n" * 50_000)
    (stay / "in.csv").write_text('x\n0\n"1\n2"\n' + "1\n" * 50_000)
    for name, total in (("in.jsonl", 50_001), ("in.csv", 50_002)):
        task = "stay:f" if name == "in.jsonl" else "stay:g"
        with Terminal(*DQ, "run", task, "-i", name, "-w", "1", cwd=stay) as terminal:
            terminal.wait_for(rf"1 of {total}")


@pytest.mark.parametrize("option", ["-q", "--quiet"])
def test_quiet_shows_nothing_on_a_terminal(project: Path, option: str) -> None:
    argv = (*DQ, "run", "app:sleepy", *["0.1"] * 8, "-w", "1", option)
    with Terminal(*argv, cwd=project) as terminal:
        code, _ = terminal.wait()
    assert (code, terminal.screen) == (0, "")


def test_there_is_no_bar_without_a_terminal(project: Path) -> None:
    done = dq("run", "app:sleepy", *["0.1"] * 8, "-w", "1", cwd=project)
    assert (done.returncode, done.stderr) == (0, "")


def test_now_and_then_a_plain_line_shows_without_a_terminal(project: Path) -> None:
    """Every thirty seconds; with less patience here."""
    code = (
        "import dq.master.progress as progress, sys\n"
        "progress.LINE_INTERVAL_S = 0.1\n"
        "given = ['run', 'app:sleepy', *['0.05'] * 10, '-w', '1', '--batch', '1']\n"
        "sys.argv[1:1] = given\n"
        "sys.path.insert(0, '')\n"
        "from dq.cli import main; main()"
    )
    done = python(code, cwd=project)
    assert re.search(r"^dq: \d+ of 10, [\d.]+/s, \S+ left\n", done.stderr, re.M), done.stderr
    assert "\x1b" not in done.stderr
    quiet = run(sys.executable, "-c", code, "-q", cwd=project)
    assert (quiet.returncode, quiet.stderr) == (0, "")


# -- help and version


def test_version_is_the_packages() -> None:
    done = dq("--version")
    assert (done.returncode, done.stdout) == (0, f"dq {package.__version__}\n")


@pytest.mark.parametrize("option", ["-h", "--help"])
@pytest.mark.parametrize("command", [[], ["run"], ["master"], ["worker"], ["keygen"]])
def test_help_shows_how_to_call_it(command: list[str], option: str) -> None:
    done = dq(*command, option)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(" ".join(["Usage: dq", *command]))


def test_help_names_every_command() -> None:
    shown = dq("--help").stdout
    for command in ("run", "master", "worker", "keygen"):
        assert re.search(rf"^  {command} +\S", shown, re.MULTILINE)


@pytest.mark.parametrize(
    "module", ["asyncio", "sqlite3", "multiprocessing", "dq.worker.main", "dq.master.master"]
)
def test_help_loads_only_what_it_needs(module: str) -> None:
    done = run(sys.executable, "-X", "importtime", *DQ[1:], "--help")
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "dq.cli" in loaded
    assert module not in loaded
