"""The function of an executor's call, as its input names it.

The input of a call is a tuple: the function, its positional and its keyword arguments; or the
function, and a chunk of tuples of positional arguments. A function that can be imported is its
name. Any other is a `ByValue`, from whose pickle a task process gets the function itself.
That happens before the arguments are unpickled, since these may be of classes that came with the
function.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from dq.functions.reference import TaskRef

# Makes a function of a `ByValue`'s fields.
Resolve = Callable[[str, bytes, "bytes | None"], object]

_thread = threading.local()  # .resolve: of the job whose inputs this thread unpickles


class ByValue:
    """A function by value.

    Args:
        label: what to call it in messages.
        digest: of its pickle, by which a process can fetch that; empty where the pickle is here.
        data: its pickle, if that is small; else None.
    """

    __slots__ = ("data", "digest", "label")

    def __init__(self, label: str, digest: bytes, data: bytes | None) -> None:
        self.label, self.digest, self.data = label, digest, data

    def __reduce__(self) -> tuple[Resolve, tuple[str, bytes, bytes | None]]:
        return resolved, (self.label, self.digest, self.data)

    def __repr__(self) -> str:
        return self.label


def name_of(ref: TaskRef, digest: str, imports: int = 0) -> str:
    """The name of a function that can be imported: the fields of its reference but the data, the
    digest of the file that the module is in, and how often the caller had imported the module. (One
    text takes less time than six.)"""
    return "\0".join((ref.kind, ref.where, ref.name, ref.path, digest, str(imports)))


def named(name: str) -> tuple[TaskRef, str]:
    """The inverse of `name_of`.

    >>> named(name_of(TaskRef(kind="module", where="math", name="sqrt"), "d"))[1]
    'd'
    """
    kind, where, attribute, path, digest, _ = name.split("\0")
    return TaskRef(kind=kind, where=where, name=attribute, path=path), digest


def resolve_with(resolve: Resolve | None) -> None:
    """Make this thread unpickle functions by value with `resolve`; with None, as they are sent."""
    _thread.resolve = resolve


def resolved(label: str, digest: bytes, data: bytes | None) -> object:
    """What a pickled `ByValue` becomes. Pickles of calls call this."""
    resolve: Resolve | None = getattr(_thread, "resolve", None)
    return ByValue(label, digest, data) if resolve is None else resolve(label, digest, data)
