"""What `dq results` prints is what `dq run` would have printed, byte for byte."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from support import DQ, run
from support.jobs import JobsMaster
from support.warm import dq

KINDS = """
import collections, dataclasses, datetime, decimal, enum, pathlib, uuid

class Own:
    def __str__(self):
        return "one of its own"

class Bare:
    def __repr__(self):
        return "bare"

@dataclasses.dataclass
class Point:
    x: int
    y: object

class Colour(enum.Enum):
    RED = 1

async def later():
    return 7

VALUES = [
    1, -2.5, float("nan"), float("inf"), 2**70, 1j, None, True,
    "two\\nlines", "", "caf\\udce9", "\\ud800", "\\N{SNOWMAN}", b"abc", bytearray(b"x"),
    {1, 2}, frozenset([4]), (1, "x"), {"a": [1, {"b": None}]}, {1: "k"}, range(3), [{"d": {2, 1}}],
    datetime.date(2026, 1, 2), datetime.datetime(2026, 1, 2, 3, 4, 5), decimal.Decimal("1.50"),
    uuid.UUID(int=5), pathlib.PurePosixPath("/a/b"), [datetime.date(2026, 1, 2), float("nan")],
    Own(), Bare(), Point(1, [2]), [Point(1, 2)], Colour.RED,
    collections.namedtuple("T", "a b")(1, 2),
]

def get(i):
    if i == "generator":
        return (x for x in [1])
    if i == "inside":
        return [(x for x in [1])]
    if i == "map":
        return map(str, [1])
    if i == "file":
        return open("/dev/null")
    if i == "coroutine":
        return later()
    return VALUES[i]
"""
GIVEN = [*map(str, range(34)), "generator", "inside", "map", "file", "coroutine", "99"]


def alike(text: str, form: str) -> list[object]:
    """The lines, without what differs between any two runs."""
    if form == "text":
        return text.splitlines()
    records = map(json.loads, text.splitlines())
    return [{k: v for k, v in one.items() if k not in ("seconds", "worker")} for one in records]


@pytest.fixture
def kinds(master: JobsMaster) -> JobsMaster:
    (master.folder / "kinds.py").write_text(KINDS)
    return master


@pytest.mark.parametrize("form", ["text", "jsonl"])
def test_every_kind_of_value_is_printed_as_by_run(kinds: JobsMaster, form: str) -> None:
    ran = dq("run", "kinds:get", *GIVEN, "-f", form, "-w", "1", cwd=kinds.folder)
    number = kinds.submit("kinds:get", *GIVEN)
    kinds.dq("wait", number)
    got = kinds.dq("results", number, "-f", form)
    assert alike(got.stdout, form) == alike(ran.stdout, form)
    assert got.returncode == ran.returncode == 1
    failed = [line for line in ran.stderr.splitlines() if " failed: " in line]
    assert [line for line in got.stderr.splitlines() if " failed: " in line] == failed
    assert kinds.dq("results", number, "-f", form).stdout == got.stdout


def test_results_in_a_file_are_complete_or_absent(kinds: JobsMaster) -> None:
    number = kinds.submit("app:square", "1", "2")
    kinds.dq("wait", number)
    assert kinds.dq("results", number, "-o", "out.jsonl").stdout == ""
    records = map(json.loads, (kinds.folder / "out.jsonl").read_text().splitlines())
    assert [(one["input"], one["result"]) for one in records] == [(1, 1), (2, 4)]
    refused = kinds.dq("results", number, "-o", "no/such/folder")
    assert refused.returncode == 2


def test_unordered_results_are_the_same_lines(kinds: JobsMaster) -> None:
    number = kinds.submit("app:square", *map(str, range(20)))
    done = kinds.dq("results", number, "--follow", "--unordered")
    assert sorted(map(int, done.stdout.split())) == [n * n for n in range(20)]


def test_a_line_that_cannot_be_read_is_a_failed_task_without_an_input(kinds: JobsMaster) -> None:
    (kinds.folder / "in.jsonl").write_text('1\n{"a":\n3\n')
    number = kinds.submit("app:square", "-i", "in.jsonl")
    done = kinds.dq("results", number, "--follow", "-f", "jsonl")
    first, bad, last = map(json.loads, done.stdout.splitlines())
    assert (first["result"], last["result"], done.returncode) == (1, 9, 1)
    assert bad["error"]["type"] == "BadInput"
    assert "input" not in bad


def test_no_class_of_a_jobs_values_is_unpickled_by_the_command(
    kinds: JobsMaster, tmp_path: Path
) -> None:
    number = kinds.submit("kinds:get", "28", "30")
    kinds.dq("wait", number)
    elsewhere = dq("results", number, "-f", "text", cwd=tmp_path, env=kinds.env)
    assert elsewhere.stdout == "one of its own\nPoint(x=1, y=[2])\n"


def test_a_reader_that_closes_the_pipe_ends_the_command_with_one_line(kinds: JobsMaster) -> None:
    number = kinds.submit("app:echo", "-i", "-", input="x" * 100 + "\n" * 20_000)
    kinds.dq("wait", number)
    dq_command = shlex.join(DQ)
    piped = run("sh", "-c", f"{dq_command} results {number} | head -n 1; echo end", **kinds.where)
    assert piped.stdout == f"{'x' * 100}\nend\n"
    assert piped.stderr.startswith("dq: standard output was closed by its reader")
    assert piped.stderr.count("\n") == 1
