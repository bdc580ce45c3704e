"""What somebody may have meant by a TASK that is none; found in files, none of which is run."""

from __future__ import annotations

import os
import re

SHOWN = 5  # names in one message

_FUNCTION = re.compile(r"^(?:async )?def (\w+)", re.MULTILINE)


def functions(where: str, start: str = "") -> list[str]:
    """The functions at the top of a file, or of a module below the current folder, whose names
    begin so."""
    try:
        with open(_file(where), encoding="utf-8") as file:
            return [name for name in _FUNCTION.findall(file.read()) if name.startswith(start)]
    except (OSError, ValueError):
        return []


def meant(task: str) -> str:
    """The end of a message that refuses a TASK; nothing where there is no guess."""
    where, colon, name = task.rpartition(":")
    if colon and name and os.path.exists(f"{where}.py"):  # a path without its suffix
        return f"; did you mean {where}.py:{name}?"
    whole = where if colon else task
    if names := functions(whole)[:SHOWN]:
        return f"; name a function of it: {', '.join(f'{whole}:{name}' for name in names)}"
    module, dot, name = task.rpartition(".")
    if dot and not colon and name in functions(module):  # a dot for the colon
        return f"; did you mean {module}:{name}?"
    return ""


def _file(where: str) -> str:
    return where if where.endswith(".py") else where.replace(".", "/") + ".py"
