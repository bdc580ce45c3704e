"""`dq worker --allow PATTERN`: what a master may name to a worker that trusts it only so far."""

from __future__ import annotations

import functools
import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import dq as api
from support import DQ, Running, serving
from support.warm import dq

KEY = "a key of 16 bytes"
ENV = {"DQ_AUTHKEY": KEY}

SHOP = """
import os
from os import getenv
from os.path import basename as renamed

def double(x):
    return 2 * x

def start():
    pass

class Till:
    @staticmethod
    def count(x):
        return x
"""


@pytest.fixture
def shop(project: Path) -> Path:
    (project / "shop.py").write_text(SHOP)
    return project


@contextmanager
def worker(port: int, folder: Path, *allow: str) -> Iterator[Running]:
    given = [word for pattern in allow for word in ("--allow", pattern)]
    server = ("--server", f"127.0.0.1:{port}", "-p", "1", "--reconnect", "0")
    with Running(*DQ, "worker", *server, *given, cwd=folder, env=ENV) as running:
        yield running


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("task", "allow"),
    [
        ("shop:double", ["shop:double"]),
        ("shop:double", ["other:*", "shop:d*"]),
        ("shop:double", ["s*:*"]),
        ("shop.py:double", ["shop.py:double"]),
        ("shop.py:double", ["*.py:*"]),
        ("shop:Till.count", ["shop:*.count"]),
        ("shop:os.getenv", ["shop:os.getenv"]),
        ("shop:getenv", ["shop:getenv"]),
    ],
)
def test_what_a_pattern_names_is_done(shop: Path, task: str, allow: list[str]) -> None:
    with (
        serving(task, "7", "--raw", cwd=shop, env=ENV) as (master, port),
        worker(port, shop, *allow) as helper,
    ):
        assert master.wait() == 0, master.stderr_text
        assert helper.wait() == 0, helper.stderr_text


@pytest.mark.sampled(4)
@pytest.mark.parametrize(
    ("task", "allow"),
    [
        ("os:getenv", ["shop:*"]),
        ("shop:os.getenv", ["shop:*"]),
        ("shop:os.getenv", ["shop:getenv"]),
        ("shop:getenv", ["shop:*"]),
        ("shop:renamed", ["shop:renam??"]),
        ("shop.py:getenv", ["shop.py:*"]),
        ("shop:double", ["shop.py:*"]),
        ("shop.py:double", ["shop:*"]),
        ("shop.py:double", ["elsewhere/*.py:*"]),
        ("app.py:echo", ["shop.py:*"]),
    ],
)
def test_anything_else_is_refused_and_done_by_others(
    shop: Path, task: str, allow: list[str]
) -> None:
    with (
        serving(task, "7", "--raw", cwd=shop, env=ENV) as (master, port),
        worker(port, shop, *allow) as helper,
    ):
        helper.wait_for(r"^dq: cannot load this job: .*--allow")
        master.wait_for(r"cannot load this job: .*--allow")
        with worker(port, shop):
            assert master.wait() == 0, master.stderr_text


def test_what_is_called_first_has_to_be_allowed_too(shop: Path) -> None:
    with (
        serving("shop:double", "7", "--init", "app:os.getpid", cwd=shop, env=ENV) as (_, port),
        worker(port, shop, "shop:*") as helper,
    ):
        helper.wait_for(r"^dq: cannot load this job: app:os\.getpid is not allowed here")
    with (
        serving("shop:double", "7", "--init", "shop:start", cwd=shop, env=ENV) as (master, port),
        worker(port, shop, "shop:*"),
    ):
        assert master.wait() == 0, master.stderr_text


def test_code_in_place_of_a_name_is_refused(shop: Path, tmp_path: Path) -> None:
    made = tmp_path / "made"
    task = functools.partial(os.mkdir, made)
    with api.Master(host="127.0.0.1", port=0, authkey=KEY) as master:
        opened = master.stream(task, [0o700])
        with worker(int(master.address[1]), shop, "*:*") as helper:
            helper.wait_for(r"^dq: cannot load this job: .* is not allowed here")
        del opened
    assert not made.exists()


class Bomb:
    """Makes a file named after the process that unpickles it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, (f"touch {shlex.quote(str(self.folder))}/$PPID",)


def test_an_input_that_calls_something_is_a_failed_task(shop: Path, tmp_path: Path) -> None:
    made = tmp_path / "made"
    made.mkdir()
    with (
        api.Master(host="127.0.0.1", port=0, authkey=KEY) as master,
        worker(int(master.address[1]), shop, "copy:copy"),
    ):
        assert list(master.map("copy:copy", [1, "two", {3.0}])) == [1, "two", {3.0}]
        with pytest.raises(api.TaskError, match="standard data types"):
            list(master.map("copy:copy", [Bomb(made)]))
    assert {file.name for file in made.iterdir()} <= {f"{os.getpid()}"}  # whose input it is


def test_python_has_it_too(shop: Path) -> None:
    script = "import dq; dq.run_worker('127.0.0.1', {port}, processes=1, allow=['shop:*'])"
    with (
        serving("app:square", "7", cwd=shop, env=ENV) as (master, port),
        Running(sys.executable, "-c", script.format(port=port), cwd=shop, env=ENV),
    ):
        master.wait_for(r"app:square is not allowed here; allow is shop:\*")


@pytest.mark.parametrize("pattern", ["app", "app:", ":f", ""])
def test_a_pattern_that_is_none_is_refused(shop: Path, pattern: str) -> None:
    done = dq("worker", "--allow", pattern, cwd=shop, env=ENV)
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert line.startswith(f"dq: --allow {pattern!r} is neither")
