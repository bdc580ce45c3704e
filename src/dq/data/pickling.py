"""Picklers of values: one for data that any process can unpickle, one for everything else."""

from __future__ import annotations

import copyreg
import io
import pickle
from collections.abc import Callable

from dq._support.frozen import TYPE_CHECKING
from dq.data import arrays
from dq.functions import by_value_classes, importable

if TYPE_CHECKING:
    from typing import Any


Classes = dict[str, type]  # that are sent by value, by their names on the wire
Define = Callable[[Classes], None]
Buffers = list[memoryview]
LARGE_BYTES = 64 * 1024  # from which a buffer is kept out of its pickle

# Types whose values any process can unpickle. A batch of these, in containers or not, is pickled as
# one list, which is up to ten times as fast as one by one.
SCALARS = frozenset({int, float, str, bytes, bool, type(None)})
DATA = SCALARS | {tuple, list, dict, set, frozenset}
# More such types, by name, since few programs import them all.
SCALARS_BY_MODULE = {
    "builtins": {"complex"},
    "datetime": {"date", "datetime", "time", "timedelta", "timezone"},
    "decimal": {"Decimal"},
    "fractions": {"Fraction"},
    "uuid": {"UUID"},
}


class DataPickler(pickle.Pickler):
    """Pickles data and objects of one plain class, nested or not, and refuses anything else. For
    built-in data this costs nothing. Checking the types of a row's items instead would take half as
    long as pickling the row.

    Args:
        file: takes the pickle.
        classes: takes the classes in it that the other end could not import.

    Attributes:
        known: types in it that are not built in.
        plain_class: the one class, where there is one.
    """

    def __init__(self, file: io.BytesIO, classes: Classes) -> None:
        super().__init__(file, 4)  # from 5 on, `reducer_override` is not called for bytearrays
        self.classes = classes
        self.known: set[type] = set()
        self.plain_class: type | None = None

    def reducer_override(self, item: object) -> Any:
        if type(item) in self.known:
            return NotImplemented
        kind = item if isinstance(item, type) else type(item)
        if kind in self.known or self._admits(kind):
            return _reduced(item, self.classes) if kind is item else NotImplemented
        if item is by_value_classes.class_named:  # which pickles a class by value
            return NotImplemented
        raise pickle.PicklingError(f"{kind.__name__} is not data")

    def _admits(self, kind: type) -> bool:
        if not is_scalar_by_name(kind):
            if self.plain_class or not _is_plain(kind):
                return False
            self.plain_class = kind
        self.known.add(kind)
        return True


def is_scalar_by_name(kind: type) -> bool:
    return kind.__qualname__ in SCALARS_BY_MODULE.get(kind.__module__, ())


# Methods by which a class has code of its own run when its objects are pickled.
_OWN_METHODS = ("__setstate__", "__getnewargs__", "__getnewargs_ex__", "__getattr__", "__del__")
_PLAIN_METHODS = ("__new__", "__reduce__", "__reduce_ex__", "__getattribute__", "__getstate__")


def _is_plain(kind: type) -> bool:
    """Whether objects of a class consist only of attributes in a `__dict__`. Unpickling one then
    runs no code except the import of its module, and copying one runs none."""
    own_hash: object = kind.__hash__
    return (
        type(kind) is type
        and kind.__dictoffset__ != 0
        and (own_hash is None or own_hash is object.__hash__)
        and not any(hasattr(kind, name) for name in _OWN_METHODS)
        and all(getattr(kind, name, 0) is getattr(object, name, 0) for name in _PLAIN_METHODS)
        and all(map(_has_plain_attributes, kind.__mro__))
        and kind not in copyreg.dispatch_table
    )


def _has_plain_attributes(kind: type) -> bool:
    own = vars(kind)
    slots = own.get("__slots__") or own.get("__slotnames__")
    return not slots and type(own.get("__dict__", _GETSET)) is type(_GETSET)


_GETSET = vars(type)["__dict__"]  # the descriptor that gives an object its `__dict__`


class _AnyPickler(pickle.Pickler):
    """Pickles anything, and by value what the other end could not import."""

    def __init__(self, file: io.BytesIO, classes: Classes, buffers: Buffers | None) -> None:
        if buffers is None:
            super().__init__(file)
        else:
            super().__init__(file, 5, buffer_callback=lambda buffer: _keep(buffer, buffers))
        self.classes = classes
        self.buffers = buffers

    def reducer_override(self, item: object) -> Any:
        if self.buffers is not None and type(item).__module__ == "numpy":
            return arrays.reduced(item)
        return _reduced(item, self.classes)


def _keep(buffer: pickle.PickleBuffer, buffers: Buffers) -> bool:
    """Keep a large buffer; return whether it is to be in the pickle instead."""
    view = buffer.raw()
    if view.nbytes >= LARGE_BYTES:
        buffers.append(view)
        return False
    return True


def _reduced(item: object, classes: Classes) -> Any:
    if importable.is_by_reference(item):
        return NotImplemented
    from dq.functions import by_value  # here, since few values need it

    return by_value.reduce_reference(item, classes)


def definitions_of(classes: Classes) -> bytes:
    """The pickle from which `by_value.load` defines these classes at the other end."""
    from dq.functions import sending  # here, since few values need it

    return sending.definitions_of(classes.values())


def dump_one(
    value: object, classes: Classes | None = None, buffers: Buffers | None = None
) -> bytes:
    """Pickle a value.

    Args:
        value: the value.
        classes: takes the classes in it that the other end could not import.
        buffers: takes its large buffers, such as the memory of an array, which are then not copied
            into the pickle (PEP 574). None to have everything in the pickle.
    """
    file = io.BytesIO()
    _AnyPickler(file, {} if classes is None else classes, buffers).dump(value)
    return file.getvalue()
