"""Words for counts, lists of numbers, and workers that are not there."""

from __future__ import annotations

from collections.abc import Iterable

from dq.core.records import printable
from dq.errors import UsageError


def ranges(numbers: list[int], most: int = 3) -> str:
    """Describe numbers as ranges, the first few of them.

    >>> ranges([1, 2, 3, 7, 9, 10]), ranges([1, 3, 5, 7, 9])
    ('1 to 3, 7, 9, 10', '1, 3, 5 and more')
    """
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    shown = [
        f"{a}" if a == b else f"{a}{', ' if b == a + 1 else ' to '}{b}" for a, b in runs[:most]
    ]
    return ", ".join(shown) + (" and more" if len(runs) > most else "")


def count_of(count: int, noun: str) -> str:
    """A count with its noun, in the singular or plural.

    >>> count_of(1, "task"), count_of(2, "slot")
    ('1 task', '2 slots')
    """
    return f"{count} {noun}{'' if count == 1 else 's'}"


def no_such_worker(name: str, known: Iterable[str]) -> UsageError:
    """What is said to who names a worker that is not there.

    >>> print(no_such_worker("host17:1", ["host17:4242"]))
    there is no worker 'host17:1': there are host17:4242
    """
    there = ", ".join(map(printable, known)) or "none"
    return UsageError(f"there is no worker {name!r}: there are {there}")
