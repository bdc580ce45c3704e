"""What a process has imported for its tasks, and whether that has changed since.

A process imports a module once. If the module's file is edited afterwards, the process still has
the old code. So before it begins another job it looks at the files of what it has imported. If one
has changed, another process takes its place.
"""

from __future__ import annotations

import os
import sys
import time
from zipimport import zipimporter

from dq._support.frozen import TYPE_CHECKING
from dq.functions.module_versions import (
    NO_VERSION,
    Stamp,
    Version,
    file_of,
    on_disk,
    seen,
    stamp_of,
)
from dq.worker.import_path import ImportPath

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from dq.functions.reference import Function, TaskRef

_DQ = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_STDLIB = os.path.dirname(os.__file__) + os.sep
_INSTALLED = ("site-packages", "dist-packages")
_UNKNOWN = "unknown"  # in place of a digest
_NO_FILES = (0, 0, 0, 0)  # a stamp
CLOCK_TICK_S = 0.01  # by which the clock of files may be behind

_preloaded: dict[str, Stamp] = {}  # files that a fork server has imported


class Outdated(BaseException):
    """Raised when this process has imported a file that has changed since, and is to be replaced.
    It is no `Exception`, since it must get through code that turns each of those into the failure
    of a task."""


def note_preloaded() -> None:
    """Note that all forks of this process have what it has imported, also those that replace
    others."""
    _preloaded.update((file, stamp_of(file)) for file in _files_of(()).values())


class Imports:
    """What a program has imported that runs tasks itself, and that no other can replace."""

    def load(self, ref: TaskRef, load: Callable[[TaskRef], Function]) -> Function:
        """Load a function, and note the version of its module."""
        function = load(ref)
        seen(ref)
        return function

    def version_of(self, ref: TaskRef) -> Version:
        """The version of a loaded function's module; without a digest if it has no file."""
        return seen(ref)

    def notice(self) -> None:
        """Note the files of modules that have been imported lately. In any thread."""

    def enter(self, ref: TaskRef) -> None:
        """Have a job's tasks find their modules where its TASK would find them.

        Raises:
            Outdated: another module of the same name has been imported.
        """

    def check_version(self, ref: TaskRef) -> None:
        """Check that the file of a module is still the one that was imported.

        Raises:
            Outdated: it is not.
        """

    def check(self) -> None:
        """Check that no file has changed since it was imported.

        Raises:
            Outdated: one has.
        """

    def changed_preload(self) -> str:
        """A file that has changed since the worker preloaded it; "" if none has."""
        return ""

    def why_other(self, file: str) -> str:
        """Why the version of a file is another than a job's, as the end of a sentence."""
        return "has changed since this program imported it"


class ProcessImports(Imports):
    """The same of a task process."""

    def __init__(self) -> None:
        self._versions: dict[tuple[str, str], Version] = {}
        self._packages: set[str] = set()  # that tasks are in
        self._counted = (0, 0)  # how many modules and packages there were at the last `notice`
        self._noticed = time.time()  # when that was
        self._stamps: dict[str, Stamp] = {}  # of the files, as they were noticed
        self._modules: dict[str, str] = {}  # the files, by the modules' names
        self._path = ImportPath()

    def load(self, ref: TaskRef, load: Callable[[TaskRef], Function]) -> Function:
        key = ref.kind, ref.where
        if ref.kind == "value" or key in self._versions:
            return load(ref)
        self._packages.add(ref.where.partition(".")[0])
        self.notice()
        before, began = file_of(ref), time.time()
        function = load(ref)
        version = on_disk(ref)
        stamp = self._stamps.get(before)
        if _has_changed(before, stamp) if stamp else _was_written(stamp_of(version.file), began):
            version = Version(file=version.file, digest=_UNKNOWN)
        self._versions[key] = version
        self.notice()
        return function

    def version_of(self, ref: TaskRef) -> Version:
        return self._versions.get((ref.kind, ref.where), NO_VERSION)

    def notice(self) -> None:
        counted, since, self._noticed = self._count(), self._noticed, time.time()
        if counted != self._counted:
            self._counted = counted
            self._modules = _files_of(self._packages)
            for file in self._modules.values():
                if file not in self._stamps:
                    self._stamps[file] = self._first_stamp(file, since)

    def _count(self) -> tuple[int, int]:
        return len(sys.modules), len(self._packages)

    def _first_stamp(self, file: str, since: float) -> Stamp:
        """The stamp that a file had when it was imported; one that no file has if it may have been
        changed between that and this moment."""
        if file in _preloaded:
            return _preloaded[file]
        stamp = stamp_of(file)
        return _NO_FILES if _was_written(stamp, since - CLOCK_TICK_S) else stamp

    def enter(self, ref: TaskRef) -> None:
        self.notice()
        if other := self._path.enter(ref, self._modules):
            raise Outdated(other)

    def check_version(self, ref: TaskRef) -> None:
        now = on_disk(ref)
        if now.digest != self.version_of(ref).digest and now.file not in _preloaded:
            raise Outdated(now.file)

    def check(self) -> None:
        for file, stamp in self._stamps.copy().items():
            if file not in _preloaded and _has_changed(file, stamp):
                raise Outdated(file)

    def changed_preload(self) -> str:
        changed = (file for file, stamp in _preloaded.items() if _has_changed(file, stamp))
        return next(changed, "")

    def why_other(self, file: str) -> str:
        if file in _preloaded:
            return "has changed since this worker preloaded it"
        return "is not what it was when this run began"


def _has_changed(file: str, stamp: Stamp) -> bool:
    """Whether a file is another one than it was. What was no file (but part of one, say) is not
    known to have changed."""
    return stamp is not None and stamp_of(file) != stamp


def _was_written(stamp: Stamp, since: float) -> bool:
    """Whether a file with this stamp has changed since. (The clock of a file server may be ahead:
    each process would find that again.)"""
    return stamp is not None and since < max(stamp[:2]) / 1e9 <= time.time()


def _files_of(packages: Collection[str]) -> dict[str, str]:
    """The files of all modules but the standard library's, dq's, and those of installed packages
    that no task is in."""
    found = {}
    for name, module in sys.modules.copy().items():  # other threads may import
        names = getattr(module, "__dict__", {})
        loader = names.get("__loader__")
        file = loader.archive if isinstance(loader, zipimporter) else names.get("__file__")
        if not isinstance(file, str) or file.startswith(_DQ):
            continue
        is_installed = any(folder in file for folder in _INSTALLED)
        if is_installed and name.partition(".")[0] not in packages:
            continue
        if is_installed or not file.startswith(_STDLIB):
            found[name] = file
    return found
