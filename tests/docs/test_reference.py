"""docs/reference is what docs/make_reference.py makes of this source, whatever Python runs it."""

from __future__ import annotations

import re
import runpy
from typing import Any

import click
import pytest

import dq
from dq.cli import cli
from support import ROOT
from support import dq as run_dq

MAKE = ROOT / "docs" / "make_reference.py"


@pytest.fixture(scope="module")
def made() -> dict[str, str]:
    functions: dict[str, Any] = runpy.run_path(str(MAKE))
    return functions["pages"]()


@pytest.mark.parametrize("name", ["cli.md", "python.md"])
def test_the_reference_is_up_to_date(name: str, made: dict[str, str]) -> None:
    written = (ROOT / "docs" / "reference" / name).read_text(encoding="utf-8")
    assert written == made[name], "run `python docs/make_reference.py`"


def test_every_command_is_in_the_reference(made: dict[str, str]) -> None:
    for name in cli.list_commands(click.Context(cli)):
        assert f"\n## dq {name}\n" in made["cli.md"]


def test_every_public_name_is_in_the_reference(made: dict[str, str]) -> None:
    missing = [
        name
        for name in dq.__all__
        if f"### dq.{name}\n" not in made["python.md"] and f"| `{name}` |" not in made["python.md"]
    ]
    assert not missing


@pytest.mark.parametrize("command", ["run", "master", "worker", "keygen"])
def test_every_option_of_the_help_is_in_the_reference(command: str, made: dict[str, str]) -> None:
    section = made["cli.md"].partition(f"## dq {command}\n")[2].partition("\n## ")[0]
    lines = [
        line for line in run_dq(command, "--help-all").stdout.splitlines() if line[:3] == "  -"
    ]
    names = re.findall(r"(?<=[ ,/])--[\w-]+", "\n".join(line[:26] for line in lines))
    assert "--debug" in names
    for name in {*names} - {"--help"}:
        assert f"`{name}" in section, name


@pytest.mark.parametrize(
    ("variable", "value"), [("DQ_RUN_FORMAT", "jsonl"), ("DQ_RUN_UNPACK", "true")]
)
def test_an_option_is_set_by_the_variable_in_the_reference(
    variable: str, value: str, made: dict[str, str]
) -> None:
    assert f"| `{variable}` |" in made["cli.md"]
    done = run_dq("run", "operator:add", "[1, 2]", "--unpack", "-q", env={variable: value})
    assert ('"result": 3' in done.stdout) == (value == "jsonl"), done.stderr
