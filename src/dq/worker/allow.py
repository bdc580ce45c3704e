"""Which functions a master may name to a worker that was started with `allow`."""

from __future__ import annotations

import os
import sys
from fnmatch import fnmatchcase

from dq._support.naming import setting
from dq.errors import BadTask
from dq.functions import loading
from dq.functions.reference import Function, TaskRef


def check(pattern: str) -> str:
    """Check a pattern, and return it as it is matched: a file is given its absolute path.

    Raises:
        BadTask: it is not a pattern.

    >>> check("app:*"), check("app.*:Shop.open")
    ('app:*', 'app.*:Shop.open')
    """
    where, colon, name = pattern.rpartition(":")
    if not colon or not where or not name:
        raise BadTask(
            f"{setting('allow')} {pattern!r} is neither package.module:function nor"
            " path/to/file.py:function; * and ? stand for parts of either"
        )
    return f"{os.path.abspath(where)}:{name}" if where.endswith(".py") else pattern


def find(ref: TaskRef, patterns: tuple[str, ...]) -> list[str]:
    """The patterns that a reference matches.

    Raises:
        BadTask: it matches none.
    """
    found = [pattern for pattern in patterns if _matches(ref, pattern)]
    if not found:
        raise BadTask(f"{ref} is not allowed here; {setting('allow')} is {' '.join(patterns)}")
    return found


def load(ref: TaskRef, patterns: tuple[str, ...]) -> Function:
    """The function that a reference names, if a pattern allows it.

    Raises:
        BadTask: no pattern allows it, or it cannot be loaded.
    """
    found = find(ref, patterns)
    function = loading.load(ref)
    if not any(_is_exact(pattern) for pattern in found) and not _is_at_home(function, ref):
        raise BadTask(
            f"{ref} was imported there from elsewhere; {setting('allow')} has to name it in full"
        )
    return function


def _matches(ref: TaskRef, pattern: str) -> bool:
    where, _, name = pattern.rpartition(":")
    if ref.kind == "value":
        return False  # it brings its own code, whatever name it gives
    home = ref.where if ref.kind == "module" else loading.file_path(ref)
    parts, wanted = ref.name.split("."), name.split(".")
    return (
        fnmatchcase(home, where)
        and len(parts) == len(wanted)  # otherwise `app:*` would allow `app:os.system`
        and all(map(fnmatchcase, parts, wanted))
    )


def _is_exact(pattern: str) -> bool:
    return not set("*?[") & set(pattern.rpartition(":")[2])


def _is_at_home(function: Function, ref: TaskRef) -> bool:
    """Whether a function is defined in the named module: `*` does not cover what it imports."""
    module = sys.modules.get(getattr(function, "__module__", None) or "")
    if ref.kind == "module":
        return module is sys.modules.get(ref.where)
    return getattr(module, "__file__", None) == loading.file_path(ref)
