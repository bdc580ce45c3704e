"""How arrays are pickled, so that their memory need not be copied (PEP 574).

numpy hands out an array's memory only if the array is contiguous, of the class `ndarray`,
and of a type that the buffer protocol knows. And a read-only array would arrive read-only.
"""

from __future__ import annotations

from dq._support.frozen import TYPE_CHECKING

if TYPE_CHECKING:
    import pickle
    from collections.abc import Callable
    from typing import Any

# From which a buffer is kept out of its pickle. With 64 KiB, arrays of 10 to 60 KiB moved at half
# to three quarters of the rate.
LARGE_BYTES = 8 * 1024


def keeping(buffers: list[memoryview]) -> Callable[[pickle.PickleBuffer], bool]:
    """A pickler's `buffer_callback` that keeps large buffers, and leaves small ones in the
    pickle."""

    def keep(buffer: pickle.PickleBuffer) -> bool:
        view = buffer.raw()
        if view.nbytes < LARGE_BYTES:
            return True
        buffers.append(view)
        return False

    return keep


def reduced(item: Any) -> Any:
    """What `Pickler.reducer_override` returns for an object of one of numpy's types."""
    kind = type(item)
    name = kind.__name__
    if name == "memmap":
        array: Any = kind.__base__
        return array.view, (item.view(array), kind)
    if name != "ndarray" or item.dtype.hasobject:
        return NotImplemented
    if item.dtype.kind in "mM":  # dates and times
        return kind.view, (item.view("i8"), item.dtype)
    if item.flags.forc and item.flags.writeable:
        return NotImplemented
    return item.copy(order="A").__reduce_ex__(5)
