"""Where the jobs of one process find their modules.

A TASK that is a file has that file's folder in front of `sys.path`, as a script has. So two jobs of
one process may each have a module of the same name, and a process can have only one of them.
"""

from __future__ import annotations

import os
import sys
from importlib.machinery import PathFinder

from dq._support.frozen import TYPE_CHECKING
from dq.functions.importable import is_same_file
from dq.functions.loading import file_path

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dq.functions.reference import TaskRef


class ImportPath:
    """The folders in which a process's tasks look for modules."""

    def __init__(self) -> None:
        self._base = tuple(sys.path)
        self._paths: dict[str, tuple[str, ...]] = {}  # of jobs, by their folders
        self._initial: frozenset[str] | None = None  # modules before the first job: all have them
        self._folders: dict[str, str] = {}  # of TASKs that are files, by these files
        self._folder = ""  # the last job's; "" if its TASK is no file
        self._owners: dict[str, str] = {}  # the folder of the job that has imported a module
        self._checked = ("", 0)  # for which folder, and how many modules

    def enter(self, ref: TaskRef, modules: Mapping[str, str]) -> str:
        """Put the folder of a job's TASK in front.

        Args:
            ref: the TASK.
            modules: the files of those that have been imported, by their names.

        Returns:
            The file of another job's module in place of which this one would import another; "" if
            there is none.
        """
        if self._initial is None:
            self._initial = frozenset(modules)
        folder = self._folder_of(ref)
        if self._checked == (folder, len(modules)) or not (folder or self._folders):
            return ""
        for name in modules:
            self._owners.setdefault(name, self._folder)
        path = (folder, *self._base) if folder else self._base
        for name, file in modules.items():
            is_own = self._owners[name] == folder or name in self._initial or file in self._folders
            if not is_own and "." not in name and _is_elsewhere(name, file, path):
                return file
        if folder != self._folder:
            self._switch(folder, path)
        self._checked = folder, len(modules)
        return ""

    def _switch(self, folder: str, path: tuple[str, ...]) -> None:
        """Have another job's import path, with what the last one has added to its own behind it."""
        self._paths[self._folder] = tuple(sys.path)
        path = self._paths.get(folder, path)
        sys.path[:] = [*path, *(one for one in sys.path if one not in path)]
        self._folder = folder

    def _folder_of(self, ref: TaskRef) -> str:
        if ref.kind != "file":
            return ""
        file = file_path(ref)
        return self._folders.setdefault(file, os.path.dirname(file))


def _is_elsewhere(name: str, file: str, path: tuple[str, ...]) -> bool:
    """Whether a module would be found on this path in another folder than the one it is in."""
    spec = PathFinder.find_spec(name, path)
    found = spec.origin if spec is not None and spec.has_location else None
    return found is not None and os.path.isfile(found) and not is_same_file(found, file)
