"""The Tab key: commands, options, choices, files and functions, through click's own completion."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from support import run
from support.terminal import Terminal
from support.warm import dq

APP = "import os\n\n\ndef square(x):\n    return x * x\n\n\nasync def squeeze(x):\n    return x\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "night.py").write_text("def tidy(x):\n    return x\n")
    (tmp_path / "numbers.txt").write_text("1\n")
    return tmp_path


def items(words: str, shell: str = "bash", cwd: Path | None = None) -> list[tuple[str, str]]:
    """What is offered for the last word: type and value of each."""
    env = {
        "_DQ_COMPLETE": f"{shell}_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": words.rpartition(" ")[2] if shell == "fish" else str(words.count(" ")),
    }
    lines = dq(env=env, cwd=cwd).stdout.strip().splitlines()
    if shell == "zsh":
        return list(zip(lines[::3], lines[1::3], strict=True))
    if shell == "fish":
        lines = [line.split("\t")[0] for line in lines]
    pairs = [line.split(",", 1) for line in lines]
    return [(kind, value) for kind, value in pairs]


def completions(words: str, shell: str = "bash", cwd: Path | None = None) -> list[str]:
    return [value for _, value in items(words, shell, cwd)]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_there_is_a_completion_script_for(shell: str) -> None:
    if shell == "bash" and run("bash", "-c", "exit $((BASH_VERSINFO[0] < 5))").returncode:
        pytest.skip("click wants a newer bash")
    done = dq(env={"_DQ_COMPLETE": f"{shell}_source"})
    assert done.returncode == 0, done.stderr
    assert "_DQ_COMPLETE" in done.stdout


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("dq ", {"run", "master", "worker", "keygen"}),
        ("dq ma", {"master"}),
        ("dq run --retr", {"--retries", "--retry-delay"}),
        ("dq worker --ser", {"--server"}),
        ("dq run --format ", {"text", "jsonl"}),
        ("dq master --pickle s", {"safe"}),
    ],
)
def test_commands_options_and_choices_are_completed(words: str, expected: set[str]) -> None:
    assert expected <= set(completions(words))


FILES = [
    "dq run ap",
    "dq master ap",
    "dq run app:square nu",
    "dq run app:square -i nu",
    "dq run app:square --input nu",
    "dq run app:square --output nu",
    "dq run app:square --journal nu",
    "dq run app:square --init ap",
    "dq worker --task ap",
    "dq worker --authkey-file ke",
    "dq worker --tls-ca ce",
    "dq journal nu",
    "dq keygen ke",
]


@pytest.mark.parametrize(
    ("shell", "words"),
    [
        *(("bash", words) for words in FILES),
        *((shell, words) for shell in ("zsh", "fish") for words in FILES[::5]),
    ],
)
def test_files_are_left_to_the_shell_to_complete(shell: str, words: str) -> None:
    assert items(words, shell) == [("file", words.rpartition(" ")[2])]


def test_folders_too() -> None:
    assert items("dq keygen --tls ce") == [("dir", "ce")]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("dq run app.py:", ["app.py:square", "app.py:squeeze"]),
        ("dq run app:squa", ["app:square"]),
        ("dq master jobs.night:", ["jobs.night:tidy"]),
        ("dq run app.py:square 1 --init jobs/night.py:t", ["jobs/night.py:tidy"]),
        ("dq run none.py:", []),
    ],
)
@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_functions_of_a_file_are_completed(
    words: str, expected: list[str], shell: str, folder: Path
) -> None:
    assert completions(words, shell, folder) == expected


@pytest.mark.parametrize(
    ("words", "expected"),
    [("dq run app.py :", ["square", "squeeze"]), ("dq run app : squa", ["square"])],
)
def test_bash_takes_a_colon_for_a_word_of_its_own(
    words: str, expected: list[str], folder: Path
) -> None:
    assert completions(words, "bash", folder) == expected


@pytest.mark.parametrize(
    ("typed", "shown"),
    [
        ("dq run ap", r"app\.py"),
        ("dq run app.py:squa", "app.py:square"),
        ("dq run app.py:square --input num", r"numbers\.txt"),
        ("dq run app.py:square num", r"numbers\.txt"),
        ("dq run app.py:square --input=num", r"numbers\.txt"),
        ("dq run app.py:square --output jobs/ni", r"night\.py"),
    ],
)
def test_tab_in_a_bash_completes_it(typed: str, shown: str, folder: Path) -> None:
    if run("bash", "-c", "exit $((BASH_VERSINFO[0] < 5))").returncode:
        pytest.skip("click wants a newer bash")
    bin_ = folder / "bin"
    bin_.mkdir()
    (bin_ / "dq").write_text(f'#!/bin/sh\nexec {sys.executable} -m dq "$@"\n')
    (bin_ / "dq").chmod(0o755)
    env = {"PATH": f"{bin_}{os.pathsep}{os.environ['PATH']}", "PS1": "at the prompt> "}
    bash = shutil.which("bash")
    assert bash
    with Terminal(bash, "--norc", "-i", env=env, cwd=folder) as terminal:
        terminal.wait_for("at the prompt>")
        terminal.type('eval "$(_DQ_COMPLETE=bash_source dq)"; echo re""ady >&2\n')
        terminal.wait_for(r"\bready")
        terminal.type(typed + "\t")
        terminal.wait_for(shown)
