"""What a worker finds for a task, without calling it. This runs as a task itself."""

from __future__ import annotations

import platform
from typing import TypedDict

import dq
from dq.errors import BadTask
from dq.functions import loading
from dq.functions.module_versions import version_of
from dq.functions.reference import TaskRef


class Found(TypedDict):
    """What a worker has found.

    Args:
        error: why the task cannot be loaded there; "" if it can.
        file: the file that its module is in there.
        digest: of that file.
        dq, python: the worker's versions.
    """

    error: str
    file: str
    digest: str
    dq: str
    python: str


def look(wire: tuple[str, str, str, str, bytes]) -> Found:
    """Load a task, which imports its module.

    >>> look(TaskRef("module", "math", "sqrt").to_wire())["error"]
    ''
    >>> look(TaskRef("module", "math", "squareroot").to_wire())["error"][:27]
    "math has no 'squareroot'; i"
    """
    ref = TaskRef(*wire)
    error = ""
    try:
        loading.load(ref)
    except BadTask as found:
        error = str(found)
    version = version_of(ref)
    return Found(
        error=error,
        file=version.file,
        digest=version.digest,
        dq=dq.__version__,
        python=platform.python_version(),
    )
