"""Failed tasks of a job in groups: by the exception's type, and where it was raised."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from dq.core.records import Failure
from dq.data.tracebacks import raised_at
from dq.service.status import FailureGroup


@dataclass(slots=True)
class _Group:
    first: Failure
    items: list[bytes]
    ids: list[int] = field(default_factory=list)


def grouped(
    failures: Iterable[tuple[int, Failure, list[bytes]]],
    value_of: Callable[[list[bytes]], object],
) -> list[FailureGroup]:
    """The groups, the largest first, and of those of the same size the one that failed first.

    Args:
        failures: the id of each failed task, why it failed, and its input as it was sent.
        value_of: the value of such an input.
    """
    groups: dict[tuple[str, str], _Group] = {}
    for id, failure, items in failures:
        key = failure.type, raised_at(failure.traceback)
        groups.setdefault(key, _Group(failure, items)).ids.append(id)
    ordered = sorted(groups.items(), key=lambda pair: (-len(pair[1].ids), pair[1].ids[0]))
    return [
        FailureGroup(
            number=number,
            type=kind,
            place=place,
            count=len(group.ids),
            ids=tuple(group.ids),
            message=group.first.message,
            input=value_of(group.items),
            traceback=group.first.traceback,
        )
        for number, ((kind, place), group) in enumerate(ordered, 1)
    ]
