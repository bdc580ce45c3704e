"""Arguments that are the same for all tasks of a job."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TypeVar, cast

from dq._support.naming import setting
from dq.errors import BadTask, UsageError
from dq.functions import loading, reference

T = TypeVar("T")


def with_constants(
    task: str | Callable[..., T], constants: Mapping[str, object] | None
) -> str | Callable[..., T]:
    """A task that is called with these keyword arguments besides its input. They go to each process
    once, with the function, and large arrays among them as they are.

    Raises:
        BadTask: it takes no such arguments, or cannot be loaded here.
        UsageError: the constants are no mapping of names.
    """
    if not constants:
        return task
    if not isinstance(constants, Mapping) or not all(isinstance(name, str) for name in constants):
        raise UsageError(f"{setting('constants')} is a mapping of argument names to values")
    function = loading.load(reference.parse(task)) if isinstance(task, str) else task
    _check(function, constants)
    return cast("Callable[..., T]", partial(function, **constants))


def _check(function: Callable[..., object], constants: Mapping[str, object]) -> None:
    import inspect  # here, since few calls have constants

    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return  # a built-in without a signature
    try:
        signature.bind_partial(**constants)
    except TypeError as error:
        label = reference.label_of(function)
        raise BadTask(f"{label}{signature} does not take {setting('constants')}: {error}") from None
