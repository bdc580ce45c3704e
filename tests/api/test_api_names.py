"""Errors name what their reader has typed: arguments in Python, options at the command line."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import dq
from support import dq as command

LARGE = "x" * (1 << 13)


def fails(call: Callable[[], object]) -> str:
    with pytest.raises((dq.DqError, TypeError)) as caught:
        call()
    return str(caught.value)


def master(**options: object) -> None:
    dq.Master(port=0, authkey=b"only for a test", **options)  # type: ignore[arg-type]


CALLS: dict[str, tuple[Callable[[], object], str]] = {
    "initializer that takes arguments": (
        lambda: dq.run("math:sqrt", [1], initializer="math:sqrt"),
        "initializer math:sqrt is called without arguments",
    ),
    "initializer that fails": (
        lambda: dq.run("math:sqrt", [1], initializer="os:abort_not", workers=1),
        "abort_not",
    ),
    "unpack": (lambda: dq.run("math:pow", [1]), "or use unpack to spread each input"),
    "unpack of a number": (
        lambda: dq.run("math:pow", [1], unpack=True, workers=1),
        "unpack needs a list or a mapping",
    ),
    "large input": (
        lambda: dq.run("builtins:len", [LARGE], max_message=1 << 12, workers=1),
        "(max_message)",
    ),
    "large result": (
        lambda: dq.run("builtins:bytes", [1 << 13], max_message=1 << 12, workers=1),
        "(max_message)",
    ),
    "host": (lambda: master(host="127.0.0.1:5"), "(port has it)"),
    "tls": (lambda: master(tls="yes"), "tls is one of auto, "),
    "tls certs": (lambda: master(tls="certs"), "tls='certs' needs tls_cert, tls_key and tls_ca"),
    "tls cert": (lambda: master(tls_cert="a"), "give tls_key and tls_ca too"),
    "allow": (lambda: dq.run_worker(authkey=b"k", allow=["app"]), "allow 'app' is neither"),
}


@pytest.mark.parametrize("case", CALLS)
def test_an_error_in_python_names_the_argument(case: str) -> None:
    call, expected = CALLS[case]
    message = fails(call)
    assert expected in message
    assert not re.search(r"(?<!keygen )--[a-z]", message)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("math:sqrt 1 --init math:sqrt", "--init math:sqrt is called without arguments"),
        ("math:pow 1", "or use --unpack to spread each input"),
        ("math:pow 1 --unpack", "--unpack needs a list or a mapping"),
        (f"builtins:len {LARGE} --max-message 4K", "(--max-message)"),
        ("builtins:bytes 8192 --max-message 4K", "(--max-message)"),
        ("math:sqrt 1 --tls certs --port 0", "--tls certs needs --tls-cert, --tls-key and"),
    ],
)
def test_the_same_error_of_the_command_names_the_option(options: str, expected: str) -> None:
    done = command("run", *options.split(), "-w", "1", "-q", env={"DQ_AUTHKEY": "only for a test"})
    assert done.returncode in (1, 2)
    assert expected in done.stderr


def test_a_journal_of_another_run_is_told_in_the_words_of_each(tmp_path: Path) -> None:
    journal = tmp_path / "it.journal"
    dq.run("math:sqrt", [1], journal=journal)
    assert fails(lambda: dq.run("math:sqrt", [2], journal=journal)).endswith("another journal")
    assert fails(lambda: dq.run("math:exp", [1], journal=journal)).endswith("another journal")
    done = command("run", "math:exp", "1", "--journal", journal)
    assert done.stderr.endswith("give another --journal\n")


def test_without_a_key_each_is_told_what_it_can_give(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("DQ_AUTHKEY", raising=False)
    assert "give authkey=b'...', or set DQ_AUTHKEY" in fails(lambda: dq.Master(port=0))
    done = command("worker", env={"XDG_CONFIG_HOME": str(tmp_path), "DQ_AUTHKEY": None})
    assert "give --authkey KEY, or set DQ_AUTHKEY" in done.stderr


# Of the commands that Python has no call for, and where both are told apart.
COMMANDS = {"certs", "recover", "naming", "keys"}


def literals(path: Path) -> Iterator[str]:
    """The strings in a module that are no docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docs = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
            yield node.value


PACKAGE = Path(dq.__file__).parent
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.parent.name != "cli")
# Commands may be shown, from "dq" or " --" on; multiprocessing has an option of its own.
SHOWN = r"dq (worker|keygen|journal)\b[^;`]*|^ --.*|--recover NEW|--multiprocessing-fork.*"


def test_no_message_outside_the_command_line_spells_an_option_out() -> None:
    for path in MODULES:
        if path.stem in COMMANDS:
            continue
        for text in literals(path):
            plain = re.sub(SHOWN, "", text)
            assert not re.search(r"--[a-z]", plain), f"use naming.setting in {path}"
