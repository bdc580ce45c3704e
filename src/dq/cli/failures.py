"""Describes failed tasks to people: their names, advice, and groups of similar failures."""

from __future__ import annotations

import errno
import json
import re
from collections.abc import Callable, Iterator

from dq._support.naming import setting
from dq.core.records import Failure

SHOWN = 10  # failures, or groups of failures, shown one by one
FIRST = 3  # tasks named for each group
LONGEST = 40  # characters of an input
MOST_GROUPS = 1000  # counted separately; the name of a type may differ each time

# What Python says if a number is opened as a file, or is used as text.
_NOT_OPEN = (f"[Errno {errno.EBADF}]", "not readable", "not writable", "File or stream is not ")
_NO_TEXT = re.compile(
    "'(?:int|float)' object has no attribute '(?P<name>\\w+)'|PathLike object, not '?(?:int|float)"
)


def plain(failure: Failure) -> str:
    """A failure on one line.

    >>> plain(Failure("ValueError", "one\\ntwo"))
    'ValueError: one two'
    """
    return " ".join(str(failure).split())


def named(index: int, value: object = None, place: str = "", *, known: bool = True) -> str:
    """Name a task by its id, as in its record, and by its input.

    Args:
        index: its id.
        value: the input.
        place: the file and line of the input.
        known: whether the input is available.

    >>> named(1, 7), named(2, "a b", "in.txt line 3"), named(3, known=False)
    ('task 1 (7)', 'task 2 (in.txt line 3: "a b")', 'task 3')
    """
    parts = [place] if place else []
    if known:
        parts.append(shortened(value))
    return f"task {index} ({': '.join(parts)})" if parts else f"task {index}"


def shortened(value: object) -> str:
    """A short form of an input: as JSON, or as Python shows it.

    >>> shortened({"a": [1, None]}), shortened("x" * 100)
    ('{"a": [1, null]}', '"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx...')
    """
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        text = repr(value)
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."


def failed_line(name: str, failure: Failure, attempts: int, advice: str = "") -> str:
    """The line that reports a failed task."""
    again = f" after {attempts} attempts" if attempts > 1 else ""
    return f"{name} failed{again}: {plain(failure)}{advice and '; '}{advice}"


def advice_on(value: object, failure: Failure) -> str:
    """Advice on a failure that was caused by how an input was read; "" for other failures.

    Args:
        value: the input.
        failure: the task's.

    >>> advice_on(5, Failure("OSError", "[Errno 9] Bad file descriptor"))
    'the input is a number: --raw keeps it a string'
    """
    parts = _parts_of(value)
    if any(type(part) in (int, float) for part in parts) and _wants_text(failure):
        what = "is a number" if parts == [value] else "has a number in it"
        return f"the input {what}: {setting('raw', by_option=True)} keeps it a string"
    if "null byte" in failure.message and any("\0" in p for p in parts if isinstance(p, str)):
        option = setting("null", by_option=True)
        return f"the input has a NUL in it: {option} reads names that end in one"
    return ""


def _parts_of(value: object) -> list[object]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else [value]


def _wants_text(failure: Failure) -> bool:
    """Whether a task used a number as a file's name or as text. Python takes a number in place of a
    file's name for a descriptor, which may be open or not."""
    if failure.type in ("OSError", "UnsupportedOperation"):
        return failure.message.startswith(_NOT_OPEN)
    found = _NO_TEXT.search(failure.message)
    return found is not None and (found["name"] is None or hasattr(str, found["name"]))


class Group:
    """Failures of one type from one place."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.count = 0
        self.first: list[str] = []

    def __str__(self) -> str:
        more = ", ..." if self.count > len(self.first) else ""
        return f"{self.count} x {self.title}: {', '.join(self.first)}{more}"


class Groups:
    """Counts failures by their type and the place in the user's own code."""

    def __init__(self) -> None:
        self.count = 0
        self._groups: dict[tuple[str, str], Group] = {}

    def add(self, failure: Failure, name: Callable[[], str]) -> None:
        """Count a failure. `name` makes the name of its task, and is slow, so it is called only if
        needed."""
        self.count += 1
        from dq.data.tracebacks import raised_at  # here, since few runs need it

        key = failure.type, raised_at(failure.traceback)
        if key not in self._groups and len(self._groups) >= MOST_GROUPS:
            key = "others", ""
        kind, place = key
        group = self._groups.setdefault(key, Group(f"{kind} in {place}" if place else kind))
        group.count += 1
        if len(group.first) < FIRST:
            group.first.append(name())

    def lines(self) -> Iterator[str]:
        """A line for each group, the largest first."""
        groups = sorted(self._groups.values(), key=lambda group: -group.count)
        yield from map(str, groups[:SHOWN])
        if len(groups) > SHOWN:
            rest = groups[SHOWN:]
            yield f"{sum(group.count for group in rest)} more, in {len(rest)} other groups"


class FailureReport:
    """Tells people of failed tasks: of the first ones as they come, of all in groups at the end.

    Args:
        say: writes a line for people.
        raw: whether inputs were kept strings, so that there is no advice to keep them so.
        quiet: whether to leave out the groups of those that were all shown.
    """

    def __init__(self, say: Callable[[str], None], *, raw: bool, quiet: bool) -> None:
        self._say = say
        self._raw = raw
        self._quiet = quiet
        self._groups = Groups()

    def add(self, failure: Failure, attempts: int, value: object, name: Callable[[], str]) -> None:
        """Report a failed task.

        Args:
            failure: why it failed.
            attempts: how often it was tried.
            value: its input.
            name: makes its name.
        """
        is_shown = self._groups.count < SHOWN
        self._groups.add(failure, name)
        if is_shown:
            advice = "" if self._raw else advice_on(value, failure)
            self._say(failed_line(name(), failure, attempts, advice))

    def summarize(self, hint: str) -> None:
        """Say how many more there were, and the groups.

        Args:
            hint: how to see each of them.
        """
        if self._groups.count > SHOWN:
            self._say(f"{self._groups.count - SHOWN} more failed{hint}")
        if self._groups.count > (SHOWN if self._quiet else 0):
            for line in self._groups.lines():
                self._say(line)
