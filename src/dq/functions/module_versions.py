"""Versions of the files that tasks' modules are in: digests of their content.

An import path stands for the file as it is on disk when a job begins. A function that a program
gives as an object stands for the file as that program has imported it. What a task process has
imported is in `dq.worker.imports`.
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
_given: dict[str, object] = {}  # imports of modules from which the program has given objects


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


def note_given(task: str | Function, ref: TaskRef) -> None:
    """Note that a program has given an object from a module that it has imported. If the module's
    file is edited later, the program goes on with what it has, unless it imports it anew."""
    if not isinstance(task, str) and ref.kind == "module":
        seen(ref)
        _given[ref.where] = import_of(ref.where)


def is_given(ref: TaskRef) -> bool:
    """Whether a program has given an object from a module, as it has imported that last."""
    given = _given.get(ref.where) if ref.kind == "module" else None
    return given is not None and given is import_of(ref.where)


def version_of(ref: TaskRef | None) -> Version:
    """The version of its module that a reference stands for.

    >>> version_of(TaskRef(kind="module", where="sys")).digest, version_of(None).digest
    ('', '')
    """
    if ref is None:
        return NO_VERSION
    return seen(ref) if is_given(ref) else on_disk(ref)


def seen(ref: TaskRef) -> Version:
    """The version that the file of an imported module had when this was first asked."""
    key, imported = (ref.kind, ref.where), import_of(ref.where)
    before, version = _seen.get(key, (None, NO_VERSION))
    if key not in _seen or before is not imported:
        version = on_disk(ref)
        _seen[key] = imported, version
    return version


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


def changed_at(file: str) -> float:
    """When a file was last changed or put in its place, in seconds of the wall clock; 0 if it is
    not there. (A file that replaces another may have an older time of its content.)"""
    try:
        # Of a file that is not opened, NFS may tell what it knew a minute ago.
        descriptor = os.open(file, os.O_RDONLY)
    except OSError:
        return 0.0
    try:
        found = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    return max(found.st_mtime, found.st_ctime)


def import_of(name: str) -> object:
    """Stands for one import of a module: `importlib.reload` makes another spec."""
    module = sys.modules.get(name)
    return getattr(module, "__spec__", None) or module
