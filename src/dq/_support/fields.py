"""Copies options from one record to another by the names of their fields."""

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
    names: tuple[str, ...] = kind.__match_args__  # type: ignore[attr-defined]  # every record has it
    return names


def narrowed(kind: type[R], record: object) -> R:
    """Make a record of this kind from the fields that another record has in common with it."""
    names = names_of(type(record))
    return kind(**{name: getattr(record, name) for name in names_of(kind) if name in names})


def picked(kind: type[R], arguments: Mapping[str, Any]) -> R:
    """Make a record of this kind from those keyword arguments that are its fields."""
    return kind(**{name: arguments[name] for name in names_of(kind) if name in arguments})


def given_for(given: Mapping[str, Any], *kinds: type) -> dict[str, Any]:
    """The options of a command that are fields of some records, by name. Options that the command
    does not have are left out."""
    params = {name: parameter(name) for kind in kinds for name in names_of(kind)}
    return {name: given[param] for name, param in params.items() if param in given}
