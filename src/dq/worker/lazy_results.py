"""Finds values that cannot be results: iterators not run yet, and awaitables not awaited yet.

Imported only if the encoded results of a batch look suspicious
(`dq.worker.outcomes.is_suspicious`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Iterator, MappingView
from io import IOBase
from types import FunctionType

_MAX_PARTS = 100_000  # of a result that are checked


def complaint(value: object) -> str | None:
    """Why a value is no result, and what to return instead; None if it may be one.

    >>> complaint(map(str, [1]))
    'the result is a map, which has not been run yet: return list(...)'
    >>> complaint({"rows": [iter([1])]})
    'the result has a list_iterator in it, which has not been run yet: return list(...)'
    >>> complaint([1, "two"])
    """
    found = _find(value)
    if found is None:
        return None
    name = type(found).__name__
    name = f"{'an' if name[:1] in 'aeiou' else 'a'} {name}"
    what = f"the result is {name}" if found is value else f"the result has {name} in it"
    if isinstance(found, Awaitable):
        return f"{what}, which nobody has awaited: return what `await` gives"
    if isinstance(found, AsyncIterator):
        return f"{what}, which has not been run yet: return [value async for value in ...]"
    if isinstance(found, IOBase):
        return f"{what}, which is an open file: return what is read from it"
    if isinstance(found, MappingView):
        return f"{what}, which cannot be sent: return list(...)"
    return f"{what}, which has not been run yet: return list(...)"


def _find(value: object) -> object:
    """The first lazy value in a value and its containers; None if there is none."""
    waiting, seen = [value], set[int]()
    while waiting and len(seen) < _MAX_PARTS:
        found = waiting.pop()
        if id(found) in seen:
            continue
        seen.add(id(found))
        if _is_lazy(found):
            return found
        if isinstance(found, dict):
            waiting += [*found, *found.values()]
        elif isinstance(found, list | tuple | set | frozenset):
            waiting += found
    return None


def _is_lazy(value: object) -> bool:
    if not isinstance(value, Iterator | AsyncIterator | Awaitable | MappingView):
        return False
    # An object of a user's class that defines `__str__` may be intended as a result.
    kind = type(value)
    own = isinstance(getattr(kind, "__next__", None), FunctionType)
    return not own or (kind.__str__, kind.__repr__) == (object.__str__, object.__repr__)
