"""Where results go: standard output, or a file that is complete or absent.

Results are written to FILE.part, blob by blob and unbuffered, so that not even SIGKILL loses a
written one. At the end FILE.part is renamed to FILE. A run that ends early leaves FILE.part there,
and the next run that has a result replaces it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys

from dq._support.frozen import TYPE_CHECKING, cast
from dq.errors import OutputError, UsageError

if TYPE_CHECKING:
    from typing import BinaryIO

# Do not follow a link that somebody else has made, and do not wait for the reader of a pipe.
_FLAGS = os.O_RDWR | os.O_CREAT
for _name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY"):
    _FLAGS |= getattr(os, _name, 0)


class Writer:
    """Writes blobs to standard output or a file.

    Args:
        path: the file; None or "-" for standard output.
        option: the option that named it, for errors.
        stdout: what to write to for standard output; None for `sys.stdout`.

    Raises:
        UsageError: it cannot be opened, or another run is writing it.
        OutputError: it cannot be written, in every method.
    """

    def __init__(
        self, path: str | None, option: str = "-o", stdout: BinaryIO | None = None
    ) -> None:
        # /dev/stdout may be a file that others write to as well, so it is not replaced.
        self._path = path = None if path in ("-", "/dev/stdout") else path
        self._option = option
        self._stdout = stdout
        # If the path is a link, the file that it points to is replaced.
        self._target = None if path is None or _is_special(path) else os.path.realpath(path)
        self._part = "" if self._target is None else part_of(self._target)
        self._size: int | None = None  # bytes of whole blobs; None before the first
        self.broken = False  # whether nothing more can be written
        self._file = self._open()

    @property
    def is_terminal(self) -> bool:
        """Whether results go to a terminal."""
        return self._path is None and self._file.isatty()

    @property
    def kept(self) -> str | None:
        """The name of the FILE.part that has the results so far; None where there is none."""
        if self._target is None or self._size is None or self._path is None:
            return None
        return self._part if os.path.islink(self._path) else part_of(self._path)

    @property
    def place(self) -> str:
        """Where the results so far are, for messages."""
        if self.kept is not None:
            return f"in {self.kept}"
        return f"in {self._path}" if self._path is not None else "on standard output"

    def _open(self) -> BinaryIO:
        if self._path is None:
            if self._stdout is not None:
                return self._stdout
            if sys.stdout is None:
                raise UsageError("standard output is closed: give -o FILE")
            return sys.stdout.buffer
        try:
            if self._target is None:
                return open(self._path, "wb")
            return self._open_part(self._target)
        except OSError as error:
            is_part = self._target is not None and error.errno != errno.ENOENT
            name = part_of(self._path) if is_part else self._path
            raise UsageError(f"cannot write {name}: {error.strerror}") from None

    def _open_part(self, target: str) -> BinaryIO:
        """Open FILE.part, locked and not emptied: an earlier run's results stay until there are
        new ones."""
        while True:
            number = os.open(self._part, _FLAGS, 0o666)
            try:
                self._claim(number)
                if _is_at(number, self._part):
                    self._copy_mode(target, 0o600)
                    return cast("BinaryIO", open(number, "r+b", buffering=0))
            except BaseException:
                os.close(number)
                raise
            os.close(number)  # another run has renamed or deleted it meanwhile

    def _copy_mode(self, target: str, extra: int) -> None:
        """Give FILE.part the mode of the file that it replaces, with these bits added: the next run
        has to be able to write it."""
        with contextlib.suppress(OSError):  # no file to replace, or a file system without modes
            os.chmod(self._part, os.stat(target).st_mode & 0o7777 | extra)

    def _claim(self, number: int) -> None:
        """Lock the file against other runs, for as long as this process has it open."""
        assert self._path is not None
        if not stat.S_ISREG(os.fstat(number).st_mode):
            raise UsageError(f"cannot write {part_of(self._path)}: it is no regular file")
        if not _lock(number):
            raise UsageError(
                f"another run is writing {self._path}: wait for its end, or give another"
                f" {self._option} FILE"
            )

    def write(self, blob: bytes) -> None:
        """Write a blob, unbuffered: somebody may be watching, and the process may be killed."""
        try:
            if self._size is None:
                self._begin()
            if self._target is None:
                self._file.write(blob)
                self._file.flush()
            else:
                self._write_all(blob)
        except OSError as error:
            raise self._failure(error) from None

    def _begin(self) -> None:
        self._size = 0
        if self._target is not None:
            self._file.truncate(0)

    def _write_all(self, blob: bytes) -> None:
        rest = memoryview(blob)
        while rest:
            rest = rest[self._file.write(rest) :]
        assert self._size is not None
        self._size += len(blob)

    def commit(self) -> None:
        """Finish the file: all results are written."""
        try:
            if self._target is None:
                self._file.flush()
                if self._path is not None:
                    self._file.close()
                return
            if self._size is None:
                self._begin()
            os.fsync(self._file.fileno())
            self._replace(self._target)
        except OSError as error:
            raise self._failure(error) from None

    def _replace(self, target: str) -> None:
        if os.name == "nt":  # Windows cannot rename an open file
            self._file.close()
        self._copy_mode(target, 0)
        os.replace(self._part, target)
        self._size = None
        self._target = None
        self._file.close()

    def close(self) -> None:
        """Close the file. FILE.part stays, cut to whole blobs; it is deleted if it is empty."""
        if self._path is None or self._file.closed:
            return
        with contextlib.suppress(OSError):  # what is buffered cannot be written
            if self._target is not None:
                self._leave_part()
            self._file.close()

    def _leave_part(self) -> None:
        if self._size:
            self._file.truncate(self._size)
        elif self._size == 0 or not os.fstat(self._file.fileno()).st_size:
            os.unlink(self._part)

    def _failure(self, error: OSError) -> OutputError:
        self.broken = True
        if self._path is None:
            close_stdout()
            if error.errno == errno.EPIPE:
                return OutputError("standard output was closed by its reader; stopped there")
            return OutputError(f"cannot write to standard output: {error.strerror}")
        return OutputError(f"cannot write {self._path}: {error.strerror}")


def part_of(path: str) -> str:
    """Where a file's results are until it is complete.

    >>> part_of("squares.txt")
    'squares.txt.part'
    """
    return f"{path}.part"


def _lock(number: int) -> bool:
    """Lock an open file; False where another process has locked it. Windows has no such locks."""
    try:
        import fcntl  # missing on Windows

        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:
        pass
    except OSError as error:
        return error.errno not in (errno.EWOULDBLOCK, errno.EACCES)
    return True


def _is_at(number: int, path: str) -> bool:
    """Whether an open file still has this name."""
    try:
        return os.path.samestat(os.fstat(number), os.stat(path))
    except OSError:
        return False


def _is_special(path: str) -> bool:
    """Whether it is a device or a pipe, which must not be replaced by a file."""
    return os.path.exists(path) and not os.path.isfile(path)


def close_stdout() -> None:
    """Redirect standard output to nowhere, or the interpreter would fail again to flush it at
    exit."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, sys.stdout.fileno())
    os.close(devnull)
