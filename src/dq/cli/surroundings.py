"""Sets up what commands need: the import path, standard output, the authkey."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any

import click

from dq.errors import BadKey
from dq.security import keys


def enter_directory() -> None:
    """Put the current directory on the import path, as ``python -m`` does."""
    here = os.getcwd()
    if sys.path[:1] != [here]:
        sys.path.insert(0, here)


@contextlib.contextmanager
def directory_entered() -> Iterator[None]:
    """The same within this context only, where imports of dq go on after it and must not find the
    user's modules."""
    path = sys.path[:]
    enter_directory()
    try:
        yield
    finally:
        sys.path[:] = path


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Redirect what a module prints when imported, since standard output is for results."""
    with contextlib.redirect_stdout(sys.stderr):
        yield


def find_key(given: dict[str, Any]) -> bytes:
    """Find the authkey."""
    # click ignores a variable that is set but empty. For a key, that must be an error.
    prefix = click.get_current_context().auto_envvar_prefix
    for option in ("authkey", "authkey_file"):
        variable = f"{prefix}_{option.upper()}"
        if given[option] is None and os.environ.get(variable) == "":
            raise BadKey(f"{variable} is empty: give it a value, or unset it")
    return keys.find(given["authkey"], given["authkey_file"], prompt=prompt_for_key())


def key_to_serve(given: dict[str, Any], host: str) -> bytes:
    key = find_key(given)
    warning = keys.check(key, host)
    if warning is not None:
        from dq.cli.printer import say  # here, since `dq run` needs the rest before all that

        say(warning)
    return key


def prompt_for_key() -> Any:
    """A function that asks for the key on the terminal; None if there is no terminal."""
    if sys.stdin is None or not sys.stdin.isatty():
        return None
    return lambda: click.prompt("authkey", hide_input=True, err=True)
