"""The pickler of values: it sends by value the classes that the other end could not import."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable

from dq._support import arrays
from dq._support.frozen import TYPE_CHECKING
from dq.functions import importable

if TYPE_CHECKING:
    from typing import Any

Classes = dict[str, type]  # that are sent by value, by their names on the wire
Define = Callable[[Classes], None]
Buffers = list[memoryview]
SCALARS = frozenset({int, float, str, bytes, bool, type(None)})


class ValuePickler(pickle.Pickler):
    """Pickles anything, and by value what the other end could not import.

    Args:
        file: takes the pickle.
        classes: takes the classes in it that the other end could not import.
        buffers: takes its large buffers; None to have them in the pickle.

    Attributes:
        is_data: whether everything so far was of built-in types, which any process can unpickle.
    """

    def __init__(self, file: io.BytesIO, classes: Classes, buffers: Buffers | None = None) -> None:
        if buffers is None:
            super().__init__(file)
        else:
            super().__init__(file, 5, buffer_callback=arrays.keeping(buffers))
        self.is_data = True
        self._classes = classes
        self._reduces_arrays = buffers is not None
        self._known: set[type] = set()  # types whose objects are pickled as usual

    def reducer_override(self, item: object) -> Any:
        kind = type(item)
        if kind in self._known:  # 60 ns an object
            return NotImplemented
        self.is_data = False
        if self._reduces_arrays and kind.__module__ == "numpy":
            return arrays.reduced(item)
        if not importable.is_definition(kind):
            self._known.add(kind)
            return NotImplemented
        if importable.is_by_reference(item):
            return NotImplemented
        from dq.functions import by_value  # here, since few values need it

        return by_value.reduce_reference(item, self._classes)


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
    ValuePickler(file, {} if classes is None else classes, buffers).dump(value)
    return file.getvalue()
