"""How much of a machine is in use."""

from __future__ import annotations

import os


def resident(pid: int) -> int:
    """Resident memory of a process in bytes; 0 if the system does not provide it.

    >>> resident(-1)
    0
    """
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return 0


class CpuUsage:
    """How much of a machine's processors has been in use since it was last asked."""

    def __init__(self) -> None:
        self._last = _cpu_times()

    def since_last(self) -> float | None:
        """A share from 0 to 1; None if the system does not provide it, or no time has passed."""
        (busy, idle), self._last = self._last, _cpu_times()
        busy, idle = self._last[0] - busy, self._last[1] - idle
        return None if busy + idle <= 0 else busy / (busy + idle)


def _cpu_times() -> tuple[int, int]:
    """How long all processors were busy, and idle, in a unit of the system's."""
    try:
        with open("/proc/stat", "rb") as file:
            times = [int(field) for field in file.readline().split()[1:9]]
    except (OSError, ValueError):
        return 0, 0
    idle = sum(times[3:5])  # with what waits for a disk
    return sum(times) - idle, idle
