"""Versions of the files that tasks' modules are in: digests of their content.

A task process has the version that was on disk when it imported the module (`dq.worker.imports`).
It is compared with the version that the job has.
"""

from __future__ import annotations

import hashlib
import os
import sys

from dq._support.frozen import frozen
from dq.functions.loading import file_path
from dq.functions.reference import Function, TaskRef

_files: dict[tuple[str, str], str] = {}  # of modules imported in a fork, by kind and name
_seen: dict[tuple[str, str], tuple[object, Version]] = {}  # by kind and name, with the import


@frozen
class Version:
    """A module's file and its digest; both are empty where there is no file to read."""

    file: str = ""
    digest: str = ""


NO_VERSION = Version()
PRELOADED = "preloaded"  # in place of the digest of a file that has changed since it was


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


def version_of(ref: TaskRef | None, task: str | Function = "") -> Version:
    """The version of a task's module: of an import path what is on disk; of an object what the
    program has imported, as far as that is known.

    >>> version_of(TaskRef(kind="module", where="sys")).digest, version_of(None).digest
    ('', '')
    """
    if ref is None:
        return NO_VERSION
    return on_disk(ref) if isinstance(task, str) else seen(ref)


def seen(ref: TaskRef) -> Version:
    """The version that the file of an imported module had when this was first asked."""
    key, imported = (ref.kind, ref.where), import_of(ref.where)
    found = _seen.get(key)
    if found is None or found[0] is not imported:
        found = _seen[key] = imported, on_disk(ref)
    return found[1]


def has_changed(ref: TaskRef) -> bool:
    """Whether the file of a module is another one than it was when it was first `seen`."""
    return (ref.kind, ref.where) in _seen and seen(ref) != on_disk(ref)


def on_disk(ref: TaskRef) -> Version:
    """The version that the module's file has now."""
    file = file_of(ref)
    if not file:
        return NO_VERSION
    try:
        with open(file, "rb") as content:
            digest = hashlib.blake2b(content.read(), digest_size=16)
    except OSError:  # in a zip file, say
        return NO_VERSION
    return Version(file=file, digest=digest.hexdigest())


Stamp = tuple[int, int, int, int] | None


def stamp_of(file: str) -> Stamp:
    """What differs once a file was changed, or another put in its place; None if it is not
    there."""
    try:
        # Of a file that is not opened, NFS may tell what it knew a minute ago.
        descriptor = os.open(file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except (OSError, ValueError):
        return None
    try:
        found = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino


def import_of(name: str) -> object:
    """Stands for one import of a module: `importlib.reload` makes another spec."""
    module = sys.modules.get(name)
    return getattr(module, "__spec__", None) or module
