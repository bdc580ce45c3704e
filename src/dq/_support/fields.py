"""The fields of a record by their names: options travel from one record to the next by these."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from dq._support.naming import parameter

R = TypeVar("R")


def names_of(kind: type) -> tuple[str, ...]:
    """The names of a record's fields.

    >>> from dq._support.frozen import frozen
    >>> @frozen
    ... class Point:
    ...     x: int
    ...     y: int = 0
    >>> names_of(Point)
    ('x', 'y')
    """
    names: tuple[str, ...] = kind.__match_args__  # type: ignore[attr-defined]  # every record's
    return names


def narrowed(kind: type[R], record: object) -> R:
    """A record with those of its fields that another record has too."""
    names = names_of(type(record))
    return kind(**{name: getattr(record, name) for name in names_of(kind) if name in names})


def given_for(given: Mapping[str, Any], *kinds: type) -> dict[str, Any]:
    """What a command was given for the fields of some records, by the names of these. A command
    that lacks an option leaves its field out."""
    params = {name: parameter(name) for kind in kinds for name in names_of(kind)}
    return {name: given[param] for name, param in params.items() if param in given}
