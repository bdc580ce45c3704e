"""Whether values that come from one pickle have parts in common that a task could change."""

from __future__ import annotations

import gc
import itertools
import sys
from collections.abc import Sequence

from dq._support.frozen import TYPE_CHECKING
from dq.data.pickling import DATA, SCALARS, is_scalar_by_name

if TYPE_CHECKING:
    from typing import Any


MAX_CONTAINER_ITEMS = 1000  # of values in one pickle: unpickling may refuse a huge dict
MAX_PARTS = 100_000  # that are checked: nested tuples may have far more parts than their pickle
SOLE_REFERENCE_COUNT = max(map(sys.getrefcount, [object()]))  # of what only its list refers to


def may_share(values: list[Any], built_in: bool) -> bool:
    """Whether values fresh from a pickle may share something that a task could change. Checking
    this after unpickling is cheaper than before pickling, and workers do it rather than the master.

    Args:
        values: the values.
        built_in: whether all types in them are built in.
    """
    return not (
        len(values) < 2
        or (built_in and _are_numbers(values))
        or _are_flat_and_sole(values)
        or are_unshared(values)
    )


def _are_numbers(values: list[Any]) -> bool:
    """Whether built-in data are all numbers. Adding them up takes 4 ns each, checking their types
    18 ns. Types that are not built in could run their own code."""
    try:
        sum(values)
    except (TypeError, OverflowError):
        return False
    return True


def _are_flat_and_sole(values: list[Any]) -> bool:
    """Whether these are tuples and dicts of scalars, each referred to once. The garbage collector
    does not track such dicts, nor such tuples once it has seen them. Asking it takes a third of the
    time of inspecting them."""
    if type(values[0]) is tuple:
        gc.collect(0)
    return (
        not any(map(gc.is_tracked, values))
        and max(map(sys.getrefcount, values)) <= SOLE_REFERENCE_COUNT
    )


def are_unshared(values: Sequence[object]) -> bool:
    """Whether no list, dict or object occurs twice in values that a `DataPickler` has pickled.
    False also where there are too many parts, or a container is too large."""
    seen: set[int] = set()
    left = MAX_PARTS
    parts: Sequence[Any] = values
    while True:
        types = set(map(type, parts))
        inner = _containers_of(types)
        if not inner <= DATA:
            parts = [_contents(part) for part in parts]
            types = set(map(type, parts))
            inner = _containers_of(types)
            if not inner <= DATA:  # a class, as a value
                return False
        if not inner:
            return True
        containers = parts if inner == types else _of(inner, parts)
        sizes = list(map(len, containers))
        left -= sum(sizes) + 1
        if max(sizes) > MAX_CONTAINER_ITEMS or left < 0:
            return False
        mutable = _of(inner - {tuple}, parts) if tuple in inner else containers
        before = len(seen)
        seen.update(map(id, mutable))
        if len(seen) - before < len(mutable):
            return False
        parts = _parts_of(containers, inner)


def _containers_of(types: set[type]) -> set[type]:
    return {kind for kind in types - SCALARS if not is_scalar_by_name(kind)}


def _contents(part: object) -> object:
    """An object's attributes; any other part as it is."""
    return part if type(part) in DATA or is_scalar_by_name(type(part)) else vars(part)


def _parts_of(containers: Sequence[Any], types: set[type]) -> Sequence[Any]:
    """Everything in containers of these types, in one call. This takes 12 ns an item, a third of
    the time of iterating over the containers. It leaves out the keys of dicts that have only keys
    of type `str`."""
    if dict not in types or sys.version_info < (3, 13):
        return gc.get_referents(*containers)
    # From 3.13 on it leaves out the values as well, where the dict is an object's `__dict__`.
    dicts = _of({dict}, containers)
    values = itertools.chain.from_iterable(map(dict.values, dicts))
    others = gc.get_referents(*_of(types - {dict}, containers))
    return [*others, *itertools.chain.from_iterable(dicts), *values]


def _of(types: set[type], parts: Sequence[Any]) -> Sequence[Any]:
    return [part for part in parts if type(part) in types] if types else ()
