"""How a function can be called: with one input or with none, and whether it is async."""

from __future__ import annotations

from types import BuiltinFunctionType, FunctionType

from dq._support.naming import setting
from dq.errors import BadTask
from dq.functions.reference import Function, TaskRef

CO_COROUTINE = 0x80  # as in `inspect`


def check_init(function: Function, ref: TaskRef) -> None:
    """Refuse an initializer that cannot be called without arguments.

    Raises:
        BadTask: it requires arguments.
    """
    import inspect  # here, since task processes need none of it

    try:
        inspect.signature(function).bind()
    except ValueError:
        return  # a built-in without a signature
    except TypeError:
        name = setting("initializer")
        raise BadTask(f"{name} {ref} is called without arguments, and takes some") from None


def check_call(function: Function, ref: str, *, unpack: bool) -> None:
    """Refuse a function that cannot be called with one input.

    Raises:
        BadTask: it takes another number of arguments, or is no function.
    """
    import inspect  # here, since task processes need none of it

    if not callable(function):
        raise BadTask(f"a task must be callable or an import path, not {type(function).__name__}")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise BadTask(f"{ref} is a generator function; return its values as a list")
    if unpack:
        return
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return  # a built-in without a signature
    try:
        signature.bind(None)
    except TypeError:
        raise BadTask(
            f"{ref}{signature} cannot be called with one input: let it take one argument, or"
            f" use {setting('unpack')} to spread each input, a list or mapping, over several"
        ) from None


def is_async(function: Function) -> bool:
    """Whether calling it returns an awaitable."""
    if type(function) is BuiltinFunctionType:
        return False
    if type(function) is FunctionType and not function.__dict__:  # attributes may mark it async
        return bool(function.__code__.co_flags & CO_COROUTINE)
    import inspect  # here to keep start-up fast: few tasks are anything else

    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004  # an object with an async __call__
    )
