"""The end of a process that a task has forked."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback


def end_fork(error: BaseException | None) -> None:
    """End a process that a task has forked and that has left the task's code. It ends as a script
    would end."""
    code: int | None = 0
    if isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int | None) else 1
    elif error is not None:
        code = 1
        with contextlib.suppress(BaseException):
            traceback.print_exception(error)
    flush()
    os._exit(int(code or 0) & 0xFF)


def flush() -> None:
    """Flush standard output and standard error."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
