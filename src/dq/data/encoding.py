"""Encodes inputs, in the master, as blobs that fit into messages."""

from __future__ import annotations

from collections.abc import Iterator

from dq._support.naming import setting
from dq.core.blobs import Blob
from dq.core.records import Failure
from dq.data import batches
from dq.data.pickling import Define
from dq.data.sources import NoInput


def encode(
    items: list[object],
    max_bytes: int,
    define: Define | None = None,
    together: str = batches.ANYTHING,
) -> Iterator[tuple[int, Blob | Failure]]:
    """Pickle a batch of inputs. It is halved until each part can be pickled and fits, so that an
    input that cannot be sent is a part by itself.

    Args:
        items: the inputs.
        max_bytes: the largest size of a part.
        define: as for `batches.dump`.
        together: likewise.

    Yields:
        How many inputs a part stands for, and its blob, or why there is none.
    """
    try:
        blob = batches.dump(items, together=together, define=define)
    except (Exception, SystemExit, GeneratorExit) as error:  # a value's own code may raise these
        if len(items) == 1:
            yield 1, _not_picklable(items[0], error)
            return
    else:
        if len(blob) <= max_bytes:
            yield len(items), blob
            return
        if len(items) == 1:
            yield 1, _too_large(len(blob), max_bytes)
            return
    half = len(items) // 2
    yield from encode(items[:half], max_bytes, define, together)
    yield from encode(items[half:], max_bytes, define, together)


def _not_picklable(item: object, error: BaseException) -> Failure:
    if isinstance(item, NoInput):
        return item.failure
    return Failure(type=type(error).__name__, message=f"this input cannot be pickled: {error}")


def _too_large(size: int, max_bytes: int) -> Failure:
    text = f"this input has {size} bytes, over the limit of {max_bytes} ({setting('max_message')})"
    return Failure(type="InputTooLarge", message=text)
