"""Help: what a person sees who asks for it."""

from __future__ import annotations

import re

import pytest

from dq import errors
from dq.cli.layout import EXIT_CODES
from support.warm import dq

JOBS = ["submit", "jobs", "status", "results", "failures", "retry", "logs", "wait", "cancel"]
COMMANDS = [
    "run",
    "master",
    "worker",
    *JOBS,
    "forget",
    "workers",
    "stacks",
    "drain",
    "stop",
    "journal",
    "bench",
    "keygen",
]
GROUPS = ["Input", "Output", "Job", "Failures", "Workers", "Connection", "Security", "Other"]
OPTION = re.compile(r"^  -\S.*?  +\S")


def shown(*words: str, columns: int = 80) -> list[str]:
    done = dq(*words, env={"COLUMNS": str(columns)})
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def groups(lines: list[str]) -> dict[str, list[str]]:
    """The lines below each heading of options."""
    found: dict[str, list[str]] = {}
    title = None
    for line in lines:
        if re.fullmatch(r"[A-Z]\w+:", line):
            title = line[:-1]
            found[title] = []
        elif not line:
            title = None
        elif title is not None:
            found[title].append(line)
    return found


def test_dq_alone_shows_its_help() -> None:
    assert shown() == shown("--help")


@pytest.mark.parametrize("command", COMMANDS)
def test_the_options_stand_in_groups_and_in_their_order(command: str) -> None:
    titles = list(groups(shown(command, "--help-all")))
    assert titles == [title for title in GROUPS if title in titles]
    assert titles[-1] == "Other"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_one_line_for_each_option_at_80_columns(command: str) -> None:
    for lines in groups(shown(command, "--help")).values():
        for line in lines:
            assert OPTION.match(line), f"a second line: {line}"
            assert len(line) < 80


@pytest.mark.parametrize("command", ["run", "master", "worker"])
def test_help_fits_into_50_lines(command: str) -> None:
    assert len(shown(command, "--help")) <= 50


@pytest.mark.parametrize(
    ("command", "rare"),
    [
        ("run", "--tls-cert --max-message --keepalive --batch --max-deaths --debug"),
        ("master", "--tls --pickle --redeliver --maxsize"),
        ("worker", "--allow --max-memory"),
    ],
)
def test_rare_options_are_shown_by_help_all_only(command: str, rare: str) -> None:
    everyday, whole = "\n".join(shown(command, "--help")), "\n".join(shown(command, "--help-all"))
    for option in rare.split():
        assert not re.search(rf"^  .*{option}\b", everyday, re.MULTILINE)
        assert re.search(rf"^  .*{option}\b", whole, re.MULTILINE)
    assert "--help-all" in everyday


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("option", ["--help", "--help-all"])
def test_help_ends_with_exit_codes_and_variables(command: str, option: str) -> None:
    end = " ".join(" ".join(shown(command, option)).split()).rpartition("Exit codes: ")[2]
    assert end.startswith("0 success, 1 a task failed, 2 ")
    assert f"DQ_{command.upper()}_OPTION" in end
    assert ("DQ_AUTHKEY" in end) == (command not in ("journal", "keygen"))


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_help_is_as_wide_as_the_terminal_up_to_80_columns(columns: int) -> None:
    for line in shown("run", "--help-all", columns=columns):
        assert len(line) < min(columns, 80) or "seq" in line  # an example is not wrapped


def test_help_explains_the_exit_code_of_each_error() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    codes = {kind.exit_code for kind in kinds if issubclass(kind, errors.DqError)}
    assert codes <= EXIT_CODES.keys()
