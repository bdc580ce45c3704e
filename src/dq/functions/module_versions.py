"""The version of a task's module that a process has: a digest of its file.

The versions differ where a file is edited during a run, since processes that start later load it
again, or where another machine has another file.
"""

from __future__ import annotations

import hashlib
import sys

from dq._support.frozen import frozen
from dq.functions.loading import file_path
from dq.functions.reference import TaskRef

_files: dict[tuple[str, str], str] = {}  # of modules imported in a fork, by kind and name


@frozen
class Version:
    """A module's file and its digest; both are empty where there is no file to read."""

    file: str = ""
    digest: str = ""


NO_VERSION = Version()


def remember_file(ref: TaskRef, file: str) -> None:
    """Note the file of a module that this process has not imported itself."""
    _files[ref.kind, ref.where] = file


def file_of(ref: TaskRef) -> str:
    """The file of the module that a reference names; "" where it has none."""
    if ref.kind == "file":
        return file_path(ref)
    module = sys.modules.get(ref.where) if ref.kind == "module" else None
    found = getattr(module, "__file__", None) or _files.get((ref.kind, ref.where))
    return found if isinstance(found, str) else ""


def version_of(ref: TaskRef | None) -> Version:
    """The version that the module's file has now.

    >>> version_of(TaskRef(kind="module", where="sys")).digest, version_of(None).digest
    ('', '')
    """
    file = file_of(ref) if ref is not None else ""
    if not file:
        return NO_VERSION
    try:
        with open(file, "rb") as content:
            digest = hashlib.blake2b(content.read(), digest_size=16)
    except OSError:  # in a zip file, say
        return NO_VERSION
    return Version(file=file, digest=digest.hexdigest())
