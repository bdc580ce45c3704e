"""Tracebacks of tasks, which come as text."""

from __future__ import annotations

import os
import re

_FRAME = re.compile(r'^  File "(.+)", line (\d+), in (.+)$', re.MULTILINE)
_LIBRARY = re.compile(r"[/\\](?:site-packages|dist-packages|lib[/\\]python3\.\d+|Lib)[/\\]|^<")


def raised_at(traceback: str) -> str:
    """The last place in the user's own code that a traceback names; "" if there is none. If the
    task itself belongs to a library, this is a place in that library.

    >>> raised_at('Traceback ...:\\n  File "/home/a/app.py", line 3, in f\\n    json.loads(x)\\n'
    ...     '  File "/usr/lib/python3.12/json/__init__.py", line 9, in loads\\nError: no')
    'f (/home/a/app.py:3)'
    """
    # The last of several chained exceptions is the one that was raised. Frames of an exception
    # group are indented.
    *_, last = traceback.rpartition("\nTraceback (most recent call last):\n")
    frames = _FRAME.findall(last)
    if not frames:
        return ""
    own = [frame for frame in frames if not _LIBRARY.search(frame[0])]
    home = os.path.dirname(frames[0][0])
    path, line, name = (own or [f for f in frames if os.path.dirname(f[0]) == home])[-1]
    return f"{name} ({_near(path)}:{line})"


def _near(path: str) -> str:
    """A path, relative to the current folder if it is below that."""
    here = os.getcwd() + os.sep
    return path.removeprefix(here)
