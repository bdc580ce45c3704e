"""Reads durations, sizes and numbers of processes that users type, and formats durations."""

from __future__ import annotations

import os
import re

from dq.errors import UsageError

TYPE_CHECKING = False  # `typing` takes 5 ms to import, and checkers go by the name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_NUMBER = r"[0-9]+(?:\.[0-9]*)?|\.[0-9]+"
_PART = re.compile(rf"({_NUMBER})\s*(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
# Beyond this, waiting on a lock raises OverflowError instead of waiting (threading.TIMEOUT_MAX).
_CENTURY = 100 * 365 * 86400.0

_RATE = re.compile(rf"({_NUMBER})(?:\s*/\s*(s|m|h|d))?")
_SLOWEST, _FASTEST = 1 / _CENTURY, 1e9  # for each second

_SIZE = re.compile(rf"({_NUMBER})\s*([KMGTP]?)(?:i?B)?", re.IGNORECASE | re.ASCII)
_PREFIXES = ("", "K", "M", "G", "T", "P")
LEAST_MEMORY = 32 * 1024 * 1024  # bytes; an idle task process needs half of that
_LARGEST_SIZE = 2**63 - 1

KEEPALIVE = (5, 86400)  # seconds, least and most, that every system accepts

MOST_PROCESSES = 10_000  # of one supervisor, which has a thread for each
MOST_THREADS = 1_000  # task slots of one process
_PROCESSES = re.compile(r"([-+]?)([0-9]{1,9})|([0-9]{1,9})%")


def duration(text: str) -> float:
    """Return the seconds in a duration; a number without a unit is in seconds.

    Args:
        text: numbers with the units ms, s, m, h, d, or one number alone.

    Raises ValueError when the text is no duration, or a negative one, or over a century.

    >>> duration("5m"), duration("1.5"), duration("1h30m")
    (300.0, 1.5, 5400.0)
    """
    plain = text.strip().lower()
    if re.fullmatch(_NUMBER, plain):
        return _bounded(float(plain), text)
    if not re.fullmatch(rf"(?:{_PART.pattern}\s*)+", plain):
        raise ValueError(
            f"{text!r} is not a duration: give seconds, as 30 or 1.5, or a unit, "
            "as 250ms, 90s, 5m, 2h, 1d or 1h30m"
        )
    return _bounded(sum(float(n) * _SECONDS[unit] for n, unit in _PART.findall(plain)), text)


def rate(number: str | float) -> float:
    """Return a number for each second; text may have a unit.

    Args:
        number: a number, or text such as 10/s, 300/m, 2/h or 50/d.

    Raises ValueError when it is not a rate, or not more than 0.

    >>> rate("10/s"), rate("300/m"), rate(0.5)
    (10.0, 5.0, 0.5)
    """
    if isinstance(number, str):
        match = _RATE.fullmatch(number.strip().lower())
        value = float(match[1]) / _SECONDS[match[2] or "s"] if match is not None else 0.0
    else:
        value = float(number)
    if not _SLOWEST <= value <= _FASTEST:
        raise ValueError(
            f"{_shown(number)} is not a rate: give a number above 0 with a unit, as 10/s, 300/m or"
            " 2/h"
        )
    return value


def _bounded(seconds: float, text: str) -> float:
    if seconds > _CENTURY:
        raise ValueError(f"{text!r} is more than a century: give a shorter duration")
    return seconds


def size(text: str, least: int = 0) -> int:
    """Return the bytes in a size, rounded down; K is 1024, and so on for M, G, T, P.

    Args:
        text: a number, alone or with a unit such as K, KB or KiB.

        least: the smallest size that is accepted.

    Raises ValueError when the text is no size, or less than `least`, or beyond 64 bits.

    >>> size("1000"), size("64K"), size("1.5GiB")
    (1000, 65536, 1610612736)
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a size: give bytes, as 1000, or a unit, as 64K or 1.5G")
    # In whole numbers: a float is off by some bytes from 8 PiB on.
    whole, _, fraction = match[1].partition(".")
    if len(whole) + len(fraction) > 40:
        raise ValueError(f"a size of {len(whole) + len(fraction)} digits is too long: use a unit")
    factor: int = 1024 ** _PREFIXES.index(match[2].upper())
    total: int = int(whole + fraction) * factor // 10 ** len(fraction)
    if total < least:
        raise ValueError(f"{text!r} is too small: give {least} or more")
    if total > _LARGEST_SIZE:
        raise ValueError(f"{text!r} is more than 64 bits can hold: give a smaller size")
    return total


def given(**values: object) -> dict[str, object]:
    """The arguments that are not None."""
    return {name: value for name, value in values.items() if value is not None}


def whole(least: int, most: int = _LARGEST_SIZE, /, **numbers: object) -> None:
    """Refuse an argument that is no whole number in a range.

    Raises:
        UsageError: the message names it.

    >>> whole(1, threads=2)
    """
    for name, number in numbers.items():
        if not hasattr(number, "__index__") or not least <= number.__index__() <= most:
            span = f"from {least} to {most}" if most < _LARGEST_SIZE else f"of {least} or more"
            raise UsageError(f"{name} must be a whole number {span}, not {_shown(number)}")


def seconds(**spans: object) -> None:
    """Refuse an argument that is no number of seconds which can be waited for.

    Raises:
        UsageError: the message names it.

    >>> seconds(timeout=1.5)
    """
    for name, span in spans.items():
        is_number = isinstance(span, float) or hasattr(span, "__index__")
        if not is_number or not 0 <= span <= _CENTURY:  # type: ignore[operator]  # a number
            raise UsageError(
                f"{name} must be a number of seconds, at most of a century, not {_shown(span)}"
            )


def text(**words: object) -> None:
    """Refuse an argument that is no string.

    Raises:
        UsageError: the message names it.

    >>> text(host="10.0.0.2")
    """
    for name, word in words.items():
        if not isinstance(word, str):
            raise UsageError(f"{name} must be a string, not {_shown(word)}")


def _shown(value: object) -> str:
    """A wrong value for a message; long ones are cut short."""
    try:
        shown = repr(value)
    except Exception:  # a repr may raise anything; even an int's does, beyond 4300 digits
        shown = f"one of type {type(value).__name__}"
    return shown if len(shown) <= 60 else f"{shown[:57]}..."


def processes(text: str, cpus: int) -> int:
    """Return a number of processes from what GNU parallel's ``-j`` takes; never less than 1.

    Args:
        text: ``N``, ``-N`` (all CPUs but N), ``+N`` (N more than CPUs) or ``N%`` of the CPUs.
        cpus: the number of CPUs.

    Raises ValueError when the text is none of these, or asks for no process at all, or too many.

    >>> processes("3", cpus=8), processes("-2", cpus=8), processes("50%", cpus=8)
    (3, 6, 4)
    """
    match = _PROCESSES.fullmatch(text.strip())
    if match is None:
        raise ValueError(
            f"{text!r} is not a number of processes: give 4, -1 (all CPUs but one), "
            "+2 (two more than CPUs) or 50%"
        )
    sign, count, percent = match.groups()
    if not sign and int(count or percent) == 0:
        raise ValueError(f"{text!r} means no process: give at least 1, or leave it out")
    if percent is not None:
        number = max(1, (cpus * int(percent) + 50) // 100)
    elif sign == "-":
        number = max(1, cpus - int(count))
    else:
        number = cpus + int(count) if sign else int(count)
    if number > MOST_PROCESSES:
        raise ValueError(f"{text!r} is more than {MOST_PROCESSES} processes: give fewer")
    return number


def cpus(proc: str = "/proc", cgroup: str = "/sys/fs/cgroup") -> int:
    """Return how many CPUs this process may use, by its affinity and its control groups.

    Args:
        proc: where the proc file system is.
        cgroup: where the control groups are.

    >>> cpus() >= 1
    True
    """
    return max(1, min([_schedulable(), *_quotas(proc, cgroup)]))


def _schedulable() -> int:
    counter: Callable[[], int | None] | None = getattr(os, "process_cpu_count", None)
    if counter is not None:  # from Python 3.13 on
        return counter() or 1
    if hasattr(os, "sched_getaffinity"):
        try:
            return len(os.sched_getaffinity(0))
        except OSError:  # a sandbox may forbid the call
            pass
    return os.cpu_count() or 1


def _quotas(proc: str, cgroup: str) -> Iterator[int]:
    """Yield every limit, in whole CPUs, that this process's control groups set."""
    for line in _text(f"{proc}/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        for group in _up(path):
            if not controllers:
                yield from _quota(_text(f"{cgroup}{group}/cpu.max"))
            elif "cpu" in controllers.split(","):
                for folder in ("cpu", controllers):
                    v1 = f"{cgroup}/{folder}{group}/cpu.cfs_"
                    yield from _quota(_text(f"{v1}quota_us") + " " + _text(f"{v1}period_us"))


def _up(path: str) -> Iterator[str]:
    """Yield a group's path and those above it: every one of them can set a limit.

    A container often sees its own group at the top, with a path that exists only on the host.
    """
    group = os.path.normpath("/" + path.lstrip("/")).rstrip("/")
    while group:
        yield group
        group = group.rpartition("/")[0]
    yield ""


def _quota(text: str) -> Iterator[int]:
    try:
        quota, period = (int(word) for word in text.split())
    except ValueError:  # "max", or no such file
        return
    if quota > 0 and period > 0:
        yield -(-quota // period)


def _text(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="surrogateescape") as file:
            return file.read()
    except (OSError, ValueError):
        return ""


def human_duration(seconds: float) -> str:
    """Return a time span in the two units that matter, for people; ``?`` when it is not known.

    Args:
        seconds: the span; infinity or nan if it is not known.

    >>> [human_duration(seconds) for seconds in (0.31, 12, 190, 3725, 180000)]
    ['0.3s', '12s', '3m10s', '1h02m', '2d02h']
    """
    if not seconds < float("inf"):
        return "?"
    if seconds < 9.95:
        return f"{max(seconds, 0.0):.1f}".removesuffix(".0") + "s"
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    if days:
        return f"{days}d{hour:02}h"
    if hours:
        return f"{hours}h{minute:02}m"
    return f"{minutes}m{second:02}s" if minutes else f"{second}s"
