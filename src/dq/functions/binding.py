"""Checks whether inputs fit the arguments of a function, without calling it."""

from __future__ import annotations

import inspect
from collections.abc import Sequence

from dq._support.frozen import frozen
from dq._support.naming import setting
from dq.functions import loading
from dq.functions.reference import TaskRef


@frozen
class Fit:
    """Whether inputs fit a function.

    Args:
        signature: the function's; "" for a built-in without one, of which nothing is known.
        misfit: the place of the first input that does not fit; None where all do.
        why: why that one does not.
    """

    signature: str
    misfit: int | None = None
    why: str = ""


def fit_of(ref: TaskRef, unpack: bool, values: Sequence[object]) -> Fit:
    """Whether a function can be called with each of these inputs.

    Raises:
        BadTask: the function cannot be loaded.

    >>> from dq.functions.reference import parse
    >>> fit_of(parse("bisect:insort"), True, [[[], 1], [[]]]).misfit
    1
    """
    try:
        signature = inspect.signature(loading.load(ref))
    except (TypeError, ValueError):
        return Fit("")
    for place, value in enumerate(values):
        try:
            _bind(signature, value, unpack)
        except TypeError as error:
            return Fit(str(signature), place, str(error))
    return Fit(str(signature))


def _bind(signature: inspect.Signature, value: object, unpack: bool) -> None:
    """Bind an input as `dq.worker.calling` passes it."""
    if not unpack:
        signature.bind(value)
    elif isinstance(value, dict):
        signature.bind(**value)
    elif isinstance(value, list | tuple):
        signature.bind(*value)
    else:
        kind = type(value).__name__
        raise TypeError(f"{setting('unpack')} needs a list or a mapping, not {kind}")
