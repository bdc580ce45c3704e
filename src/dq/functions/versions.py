"""Which version of a task's module a process has: a digest of its file.

A file may be edited while a run goes on, and be loaded by processes that are replaced meanwhile; or
be another one on another machine.
"""

from __future__ import annotations

import hashlib
import sys

from dq._support.frozen import frozen
from dq.functions import tasks
from dq.functions.tasks import TaskRef

_files: dict[tuple[str, str], str] = {}  # of modules that have been imported elsewhere, by name


@frozen
class Version:
    """What a module's file holds; `digest` is empty where there is none to be read."""

    file: str = ""
    digest: str = ""


NONE = Version()


def note(ref: TaskRef, file: str) -> None:
    """Know a module's file without having imported it in this process."""
    _files[ref.kind, ref.where] = file


def file_of(ref: TaskRef) -> str:
    """The file of the module that a reference names; empty where there is none."""
    if ref.kind == "file":
        return tasks.file_path(ref)
    module = sys.modules.get(ref.where) if ref.kind == "module" else None
    found = getattr(module, "__file__", None) or _files.get((ref.kind, ref.where))
    return found if isinstance(found, str) else ""


def version_of(ref: TaskRef | None) -> Version:
    """What the file holds now.

    >>> version_of(tasks.parse("math:sqrt")).digest and version_of(None).digest
    ''
    """
    file = file_of(ref) if ref is not None else ""
    if not file:
        return NONE
    try:
        with open(file, "rb") as content:
            digest = hashlib.blake2b(content.read(), digest_size=16)
    except OSError:  # in a zip file, say
        return NONE
    return Version(file, digest.hexdigest())
