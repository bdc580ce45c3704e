"""A lock on a journal's file: one master at a time."""

from __future__ import annotations

import os
from typing import BinaryIO

from dq.errors import BadJournal


class Lock:
    """A file that is locked for this process until it ends, however it ends.

    Args:
        path: the file; created if it is missing.
        name: what to call it in errors.

    Raises:
        BadJournal: another process has locked it, or it cannot be opened.
    """

    held: set[str] = set()  # noqa: RUF012  # by this process

    def __init__(self, path: str, name: str) -> None:
        self._path = path
        in_use = BadJournal(f"the journal {name} is in use by another master")
        # If this process has locked it, it is not even opened: closing a file drops all locks that
        # the process has on it, including SQLite's.
        if path in self.held:
            raise in_use
        if os.path.exists(path) and not os.path.isfile(path):  # opening a pipe would block
            raise BadJournal(f"cannot open the journal {name}: it is no regular file")
        try:
            self._file: BinaryIO = open(path, "ab")  # noqa: SIM115  # closed by `release`
        except OSError as error:
            raise BadJournal(f"cannot open the journal {name}: {error.strerror}") from None
        try:
            import fcntl

            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except ImportError:
            pass  # Windows: there are only SQLite's own locks
        except OSError:
            self._file.close()
            raise in_use from None
        self.held.add(path)

    def release(self) -> None:
        """Let others lock it."""
        self.held.discard(self._path)
        self._file.close()
