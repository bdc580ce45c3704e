"""Tasks of `test_cancelling.py`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path


def hold(path: Path) -> None:
    """Say who runs it, and never end."""
    announce(path, os.getpid())
    time.sleep(1000)


def announce(path: Path, pid: int) -> None:
    new = path.with_suffix(".new")
    new.write_text(str(pid))
    new.rename(path)


def hold_twice(path: Path) -> int:
    """Not end at the first attempt; at the second, return its process."""
    if path.exists():
        return os.getpid()
    hold(path)
    return 0


def hold_with_program(path: Path) -> None:
    program = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
    announce(path, program.pid)
    program.wait()


def hold_on(path: Path) -> None:
    """Not end when asked to."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    hold(path)


def clean_up(path: Path) -> None:
    """End when asked to, and say that it has."""

    def say(*_: object) -> None:
        announce(path.with_name("cleaned up"), os.getpid())
        os._exit(0)

    signal.signal(signal.SIGTERM, say)
    hold(path)
