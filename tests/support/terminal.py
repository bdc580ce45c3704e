"""A command on a terminal of its own, as a person would have it."""

from __future__ import annotations

import os
import re
import struct
import subprocess
import sys
import threading

from support import environment
from support.closing import Closing
from support.process import Env, StrPath, kill_family

# Makes the terminal on standard input the process's own, then becomes the command.
_TAKE = (
    "import fcntl, os, sys, termios\n"
    "fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"
    "os.execv(sys.argv[1], sys.argv[1:])"
)


class Terminal(Closing):
    """A running command whose standard input and error are a terminal; its output is a pipe, or
    goes to the terminal as well where that is `shared`."""

    def __init__(
        self,
        *argv: StrPath,
        env: Env | None = None,
        cwd: StrPath | None = None,
        shared: bool = False,
        columns: int = 0,
    ) -> None:
        import pty

        self._master, slave = pty.openpty()
        self.resize(columns)
        self.process = subprocess.Popen(
            [sys.executable, "-c", _TAKE, *map(os.fspath, argv)],
            stdin=slave,
            stdout=slave if shared else subprocess.PIPE,
            stderr=slave,
            env=environment({"TERM": "xterm", "COLUMNS": "80", "CI": None, **(env or {})}),
            cwd=cwd,
            start_new_session=True,
        )
        os.close(slave)
        self.screen = ""
        self.ended = False
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def close(self) -> None:
        """End what runs in it."""
        kill_family(self.process)
        self._reader.join(5)
        os.close(self._master)
        if self.process.stdout is not None:
            self.process.stdout.close()

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._master, 4096)
            except OSError:  # what Linux says when nobody has the other end any more
                data = b""
            with self._changed:
                self.screen += data.decode(errors="replace")
                self.ended = not data
                self._changed.notify_all()
            if not data:
                return

    def wait_for(self, pattern: str, timeout: float = 30) -> re.Match[str]:
        """Wait until the terminal has shown that."""
        with self._changed:
            self._changed.wait_for(
                lambda: self.ended or re.search(pattern, self.screen) is not None, timeout
            )
            found = re.search(pattern, self.screen)
        assert found, f"no {pattern!r} on the terminal: {self.screen!r}"
        return found

    def resize(self, columns: int) -> None:
        """Make it so many columns wide; 0 where it does not know how wide it is."""
        import fcntl
        import termios

        size = struct.pack("HHHH", 24, columns, 0, 0)
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, size)

    @property
    def lines(self) -> list[str]:
        """What stands on it now, line by line, in lines that are long enough."""
        lines = [""]
        column = 0
        for token in re.findall(r"\x1b\[K|[\r\n]|[^\x1b\r\n]+", self.screen):
            if token == "\n":
                lines.append("")
            elif token == "\r":
                column = 0
            elif token == "\x1b[K":
                lines[-1] = lines[-1][:column]
            else:
                lines[-1] = lines[-1][:column] + token + lines[-1][column + len(token) :]
                column += len(token)
        return [line for line in lines if line]

    def type(self, text: str) -> None:
        """As if somebody typed it."""
        os.write(self._master, text.encode())

    def wait(self, timeout: float = 30) -> tuple[int, str]:
        """Wait for the command's end; its exit code and what it wrote to standard output."""
        out, _ = self.process.communicate(timeout=timeout)
        self._reader.join(5)
        return self.process.returncode, (out or b"").decode()
