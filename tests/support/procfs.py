"""What /proc says of processes. Without one (macOS), tests that ask are skipped."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

PROC = Path("/proc")
HAS_PROC = (PROC / "self" / "stat").exists()
HAS_CHILDREN = (PROC / "self" / "task" / str(os.getpid()) / "children").exists()


class Process(NamedTuple):
    state: str  # Z: ended, and not yet waited for
    parent: int
    session: int


def look(pid: int) -> Process | None:
    # Every test looks at every process of the machine: no Path, no buffer.
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY)
    except OSError:
        return None
    try:
        stat = os.read(fd, 4096)
    except OSError:  # ended since
        return None
    finally:
        os.close(fd)
    # The name, in parentheses, may hold anything: count from its end.
    state, parent, _group, session = stat[stat.rindex(b")") + 2 :].split(maxsplit=4)[:4]
    return Process(state.decode(), int(parent), int(session))


def table() -> dict[int, Process]:
    """All processes, those that have ended and were not waited for among them."""
    pids = [int(name) for name in os.listdir(PROC) if name.isdecimal()]
    return {pid: found for pid in pids if (found := look(pid)) is not None}


def _below(processes: dict[int, Process], roots: Iterable[int]) -> list[int]:
    children: dict[int, list[int]] = {}
    for pid, process in processes.items():
        children.setdefault(process.parent, []).append(pid)
    found = [child for root in roots for child in children.get(root, ())]
    for pid in found:  # grows as it goes: breadth first
        found += children.get(pid, ())
    return [pid for pid in found if processes[pid].state != "Z"]


def _need_proc() -> None:
    if not HAS_PROC:
        import pytest  # not above: what tests start imports this module too

        pytest.skip("there is no /proc here")


def descendants(pid: int) -> list[int]:
    """All processes below `pid`, nearest first, without those that have ended (zombies)."""
    _need_proc()
    return _below(table(), [pid])


def below_here() -> set[int]:
    """All processes below this one, zombies among them. One may be missed if another ends at the
    same moment (as man 5 proc_pid_task says). But two looks at the whole of /proc around each test
    would take a tenth of the suite's time."""
    if not HAS_CHILDREN:
        return {*descendants(os.getpid())}
    found: set[int] = set()
    left = [os.getpid()]
    while left:
        more = _children(left.pop()) - found
        found |= more
        left += more
    return found


def _children(pid: int) -> set[int]:
    found: set[int] = set()
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children", "rb", buffering=0) as file:
                found.update(map(int, file.read().split()))
    except OSError:
        pass  # it has ended
    return found


def family(pid: int, more: Iterable[int] = ()) -> set[int]:
    """What runs in the session of `pid`, and `more`, and all below them; nothing without /proc."""
    if not HAS_PROC:
        return set()
    processes = table()
    own = {p for p, process in processes.items() if process.session == pid}
    own |= {p for p in more if p in processes}
    return {p for p in own if processes[p].state != "Z"} | set(_below(processes, own))


def alive(pid: int) -> bool:
    """Whether it still runs. (`os.kill(pid, 0)` also finds those that ended unwaited.)"""
    _need_proc()
    process = look(pid)
    return process is not None and process.state not in "ZX"


def fds(pid: int) -> int:
    """How many file descriptors it has open."""
    _need_proc()
    return len(os.listdir(PROC / str(pid) / "fd"))


def threads(pid: int) -> int:
    """How many threads it has."""
    _need_proc()
    return len(os.listdir(PROC / str(pid) / "task"))


def states(pid: int) -> set[str]:
    """The states of its threads: T for those that are stopped."""
    _need_proc()
    threads = map(look, map(int, os.listdir(PROC / str(pid) / "task")))
    return {found.state for found in threads if found is not None}


def rss(pid: int) -> int:
    """Its resident memory in bytes."""
    _need_proc()
    pages = int((PROC / str(pid) / "statm").read_bytes().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def command(pid: int) -> str:
    """Its command line, for a message."""
    try:
        return (PROC / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    except OSError:
        return "(gone)"


def name(pid: int) -> str:
    """Its name, which dq gives to its processes."""
    try:
        return (PROC / str(pid) / "comm").read_text().strip()
    except OSError:
        return "(gone)"


def task_processes(pid: int) -> list[int]:
    """The task processes below `pid`."""
    return [child for child in descendants(pid) if name(child) == "dq-task"]
