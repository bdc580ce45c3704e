"""Where the jobs of one process find their modules.

A TASK that is a file has that file's folder in front of `sys.path`, as a script has. So two jobs of
one process may each have a module of the same name, and a process can have only one of them.
"""

from __future__ import annotations

import os
import sys
from importlib.machinery import EXTENSION_SUFFIXES

from dq._support.frozen import TYPE_CHECKING
from dq.functions.loading import file_path

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dq.functions.reference import TaskRef

_FORMS = (".py", os.sep + "__init__.py", *EXTENSION_SUFFIXES)  # of a module, after its name


class ImportPath:
    """The folders in which a process's tasks look for modules."""

    def __init__(self) -> None:
        self._base = tuple(sys.path)
        self._folders: dict[str, str] = {}  # of TASKs that are files, by what these are called
        self._entered: tuple[str, int] | None = None  # the last job's folder, and how many modules

    def enter(self, ref: TaskRef | None, modules: Mapping[str, str]) -> str:
        """Put the folder of a job's TASK in front.

        Args:
            ref: the TASK.
            modules: the files of those that have been imported, by their names.

        Returns:
            The file of a module in place of which the job would import another; "" if it would not.
        """
        folder = self._folder_of(ref)
        if self._entered == (folder, len(modules)) or not (folder or self._folders):
            return ""
        path = (folder, *self._base) if folder else self._base
        for name, file in modules.items():
            if "." not in name and file not in self._folders and _is_elsewhere(name, file, path):
                return file
        others = [other for other in self._folders.values() if other != folder]
        rest = [one for one in sys.path if one != folder and one not in others]
        sys.path[:] = [*([folder] if folder else ()), *rest, *dict.fromkeys(others)]
        self._entered = folder, len(modules)
        return ""

    def _folder_of(self, ref: TaskRef | None) -> str:
        if ref is None or ref.kind != "file":
            return ""
        file = file_path(ref)
        return self._folders.setdefault(file, os.path.dirname(file))


def _is_elsewhere(name: str, file: str, path: tuple[str, ...]) -> bool:
    """Whether a module would be found on this path in another folder than the one it is in."""
    parts = (os.path.join(folder, name + form) for folder in path for form in _FORMS)
    found = next(filter(os.path.isfile, parts), None)
    return found is not None and not _is_same(found, file)


def _is_same(one: str, other: str) -> bool:
    return one == other or os.path.realpath(one) == os.path.realpath(other)
