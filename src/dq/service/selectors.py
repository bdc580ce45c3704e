"""Which jobs somebody means: ``7``, ``3-7``, ``last``, ``all``, or a job's name."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TypeVar

from dq.errors import UsageError

T = TypeVar("T")

ID_PREFIX = "id:"  # of selectors that programs write
_RANGE = re.compile(r"(\d+)(?:-(\d+))?")


def select(selectors: Sequence[str], names: Mapping[int, str]) -> list[int]:
    """The numbers that selectors stand for, each once, in the order of the selectors.

    Args:
        selectors: as people write them.
        names: of all jobs, by their numbers; "" for those without a name.

    Raises:
        UsageError: there is no such job.

    >>> names = {1: "", 2: "nightly", 4: "nightly", 5: ""}
    >>> select(["nightly", "1-2", "last"], names), select(["all"], names)
    ([4, 1, 2, 5], [1, 2, 4, 5])
    """
    found: dict[int, None] = {}
    for selector in selectors:
        found |= dict.fromkeys(_selected(selector, names))
    return list(found)


def the_one(selector: str, found: Sequence[T]) -> T:
    """The job that was found for a selector.

    Raises:
        UsageError: there are several.
    """
    if len(found) != 1:
        raise UsageError(f"{selector} stands for {len(found)} jobs: name one")
    return found[0]


def selector_of(id: str) -> str:
    """The selector of the one job that was submitted with this id."""
    return ID_PREFIX + id


def id_in(selector: str) -> str | None:
    """The inverse; None for a selector that people write."""
    return selector.removeprefix(ID_PREFIX) if selector.startswith(ID_PREFIX) else None


def _selected(selector: str, names: Mapping[int, str]) -> list[int]:
    if selector == "all":
        return sorted(names)
    if selector == "last" and names:
        return [max(names)]
    match = _RANGE.fullmatch(selector)
    if match is None:
        named = [number for number, name in names.items() if name == selector != ""]
        if not named:
            raise UsageError(f"there is no job {selector!r}{_those_that_are(names)}")
        return [max(named)]
    first, last = int(match[1]), int(match[2] or match[1])
    numbers = sorted(number for number in names if first <= number <= last)
    if not numbers:
        which = f"are no jobs {selector}" if match[2] else f"is no job {selector}"
        raise UsageError(f"there {which}{_those_that_are(names)}")
    return numbers


def _those_that_are(names: Mapping[int, str]) -> str:
    if not names:
        return ": there are none yet"
    if len(names) == 1:
        return f": there is only job {next(iter(names))}"
    return f": there are {len(names)}, from {min(names)} to {max(names)}"
