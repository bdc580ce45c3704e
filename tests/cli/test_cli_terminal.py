"""What people see: progress, help, version, completion."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest
from terminal_session import Terminal

import dq as package
from support import DQ, dq, python, run

# Waits for its input's file, so that a test can look at the bar meanwhile.
STAY = """
import os, time
def f(x):
    while x and not os.path.exists("go"):
        time.sleep(0.01)
    return x
"""


@pytest.fixture
def stay(project: Path) -> Path:
    (project / "stay.py").write_text(STAY)
    return project


# -- progress


def test_a_terminal_shows_a_bar_with_rate_and_time_left(project: Path) -> None:
    argv = (*DQ, "run", "app:sleepy", *["0.05"] * 40, "-w", "1", "--batch", "1")
    with Terminal(*argv, cwd=project) as terminal:
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
        "import dq.progress as progress, sys\n"
        "progress.LINES = 0.1\n"
        "given = ['run', 'app:sleepy', *['0.05'] * 10, '-w', '1', '--batch', '1']\n"
        "sys.argv[1:1] = given\n"
        "sys.path.insert(0, '')\n"
        "from dq.cli import main; main()"
    )
    done = python(code, cwd=project)
    assert re.match(r"dq: \d+ of 10, [\d.]+/s, \S+ left\n", done.stderr), done.stderr
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
    "module", ["asyncio", "sqlite3", "multiprocessing", "dq.worker", "dq.master"]
)
def test_help_loads_only_what_it_needs(module: str) -> None:
    done = run(sys.executable, "-X", "importtime", *DQ[1:], "--help")
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "dq.cli" in loaded
    assert module not in loaded
