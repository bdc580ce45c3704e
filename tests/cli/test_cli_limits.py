"""Inputs, results and failures around `--max-message`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.warm import dq

SOURCE = """
def length(x):
    return len(x)

def letters(n):
    return "x" * n

def fail(x):
    raise ValueError("\\u4e00" * 30_000)
"""
LIMIT = 100 * 1024


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(SOURCE)
    return tmp_path


def test_an_input_up_to_the_limit_is_taken_and_one_beyond_it_named(project: Path) -> None:
    sizes = (LIMIT - 1000, LIMIT + 1)
    (project / "in.txt").write_text("".join("x" * size + "\n" for size in sizes))
    argv = ("run", "app:length", "--raw", "-i", "in.txt", "--max-message", "100K")
    done = dq(*argv, cwd=project)
    assert (done.returncode, done.stdout) == (1, f"{LIMIT - 1000}\n")
    assert "task 1 (in.txt line 2) failed: InputTooLarge: this input has" in done.stderr
    assert f"over the limit of {LIMIT} (--max-message)" in done.stderr


def test_a_result_up_to_the_limit_is_taken_and_one_beyond_it_named(project: Path) -> None:
    argv = ("run", "app:letters", str(LIMIT - 1), str(LIMIT), "--max-message", "100K")
    done = dq(*argv, cwd=project)
    assert (done.returncode, len(done.stdout)) == (1, LIMIT)  # with its newline
    text = f"this result has {LIMIT + 1} bytes, over the limit of {LIMIT} (--max-message)"
    assert f"task 1 ({LIMIT}) failed: ResultTooLarge: {text}" in done.stderr


def test_failures_with_long_texts_fit_under_the_limit(project: Path) -> None:
    (project / "in.txt").write_text("1\n" * 200)
    argv = ("run", "app:fail", "-i", "in.txt", "-f", "jsonl", "-w", "1", "--batch", "200")
    done = dq(*argv, "--max-message", "100K", cwd=project)
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [record["error"]["type"] for record in records] == ["ValueError"] * 200
    assert {record["attempts"] for record in records} == {1}
    assert {len(record["error"]["message"]) for record in records} == {20_000}
