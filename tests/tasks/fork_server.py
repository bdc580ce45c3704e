"""Tasks of `test_fork_server.py`."""

from __future__ import annotations

import os
import random
import subprocess
import sys


def surroundings(x: int) -> tuple[int, list[str], str, str, float]:
    """What a process has of others', and of its own."""
    links = []
    for number in os.listdir("/proc/self/fd"):
        try:
            links.append(os.readlink(f"/proc/self/fd/{number}"))
        except OSError:
            continue  # the listing's own
    return os.getpid(), sorted(links), os.environ["DQ_SLOT"], sys.argv[0], random.random()


def where(x: int) -> str:
    return os.getcwd()


def parent(x: int) -> int:
    return os.getppid()


def started(x: int) -> str:
    code = "import os; print('DQ_TASK_PROCESS' in os.environ)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()
