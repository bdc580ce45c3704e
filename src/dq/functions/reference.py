"""Turns what a user gives as a task into a reference by which workers find it."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial

from dq._support.frozen import frozen
from dq.core.blobs import Blob
from dq.errors import BadTask
from dq.functions import importable

Function = Callable[..., object]


@frozen
class TaskRef:
    """Where a worker finds a function.

    Args:
        kind: "module", "file" or "value".
        where: the module's name, the file's path as given, or what to call a function by value.
        name: dotted attribute in it.
        path: the file's absolute path.
        data: the function by value; empty for an initializer whose task's data has both.
    """

    kind: str
    where: str = ""
    name: str = ""
    path: str = ""
    data: Blob = b""

    def __str__(self) -> str:
        return f"{self.where}:{self.name}" if self.name else self.where

    def to_wire(self) -> tuple[str, str, str, str, bytes]:
        data = self.data if isinstance(self.data, bytes) else b""  # see `JobSpec.functions`
        return (self.kind, self.where, self.name, self.path, data)


def parse(text: str) -> TaskRef:
    """Read ``package.module:function`` or ``path/to/file.py:function``.

    Raises:
        BadTask: it is neither.

    >>> parse("math:sqrt").where, parse("jobs/app.py:Shop.open").name
    ('math', 'Shop.open')
    """
    where, colon, name = text.rpartition(":")
    if not colon or not where or not all(part.isidentifier() for part in name.split(".")):
        raise _not_a_task(text, "is neither package.module:function nor path/to/file.py:function")
    if where.endswith(".py"):
        return TaskRef(kind="file", where=where, name=name, path=os.path.abspath(where))
    if not all(part.isidentifier() for part in where.split(".")):
        raise _not_a_task(text, f"names {where!r}, which is neither a module's name nor a .py file")
    return TaskRef(kind="module", where=where, name=name)


def _not_a_task(text: str, why: str) -> BadTask:
    from dq.functions.suggestions import suggestion  # here, since few need it

    return BadTask(f"TASK {text!r} {why}{suggestion(text)}")


def refer(task: str | Function) -> TaskRef:
    """Where workers find `task`: an import path, or the function itself where there is none.

    Raises:
        BadTask: it cannot be called, or cannot be sent.

    >>> import math
    >>> str(refer(math.sqrt))
    'math:sqrt'
    """
    return _by_import_path(task) or _by_value(task)


def refer_both(
    task: str | Function, initializer: str | Function | None
) -> tuple[TaskRef, TaskRef | None]:
    """The same for a task and its initializer. By value they go together, so that the task sees
    the globals that its initializer has set."""
    if initializer is None:
        return refer(task), None
    ref, init = _by_import_path(task), _by_import_path(initializer)
    if ref is None and init is None:
        init = TaskRef(kind="value", where=label_of(initializer))
        return _by_value(task, initializer), init
    return ref or _by_value(task), init or _by_value(initializer)


def _by_import_path(task: str | Function) -> TaskRef | None:
    """A reference by module and name; None for a function that workers cannot import."""
    if isinstance(task, str):
        return parse(task)
    if not callable(task):
        raise BadTask(f"a task must be callable or an import path, not {type(task).__name__}")
    if not importable.can_import(task):
        return None
    return TaskRef(kind="module", where=task.__module__, name=task.__qualname__)


def _by_value(task: str | Function, *more: str | Function) -> TaskRef:
    from dq.functions import sending  # here, since importable functions do not need it

    label = label_of(task)
    return TaskRef(kind="value", where=label, data=sending.dump_task(label, task, *more))


def label_of(task: str | Function) -> str:
    """The name of a function for messages; the same in each process.

    >>> import functools
    >>> label_of(functools.partial(print, end="")), label_of("abc".upper)
    ('partial of print', 'str.upper')
    """
    if isinstance(task, partial):
        return f"partial of {label_of(task.func)}"
    name = getattr(task, "__qualname__", None)
    return name if isinstance(name, str) else type(task).__qualname__
