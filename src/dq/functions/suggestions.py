"""Suggestions for a mistyped TASK, found by reading files without running them."""

from __future__ import annotations

import os
import re
import sys

MOST_SHOWN = 5  # names in one message

_FUNCTION = re.compile(r"^(?:async )?def (\w+)", re.MULTILINE)


def functions_in(where: str, start: str = "") -> list[str]:
    """The top-level functions of a file, or of a module below the current folder, whose names begin
    with `start`."""
    try:
        with open(_file(where), encoding="utf-8") as file:
            return [name for name in _FUNCTION.findall(file.read()) if name.startswith(start)]
    except (OSError, ValueError):
        return []


def suggestion(task: str) -> str:
    """The end of a message about a TASK that cannot be used; "" where there is no suggestion."""
    where, colon, name = task.rpartition(":")
    if colon and name and os.path.exists(f"{where}.py"):  # a path without .py
        return f"; did you mean {where}.py:{name}?"
    whole = where if colon else task
    if names := functions_in(whole)[:MOST_SHOWN]:
        return f"; name a function of it: {', '.join(f'{whole}:{name}' for name in names)}"
    module, dot, name = task.rpartition(".")
    if dot and not colon and name in functions_in(module):
        return f"; did you mean {module}:{name}?"  # a dot in place of the colon
    top = module.partition(".")[0]
    if top in sys.stdlib_module_names and all(part.isidentifier() for part in task.split(".")):
        return f"; did you mean {module}:{name}?"
    return ""


def _file(where: str) -> str:
    return where if where.endswith(".py") else where.replace(".", "/") + ".py"
