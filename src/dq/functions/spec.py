"""What a worker has to know of a job."""

from __future__ import annotations

import pickle

from dq._support.frozen import cast, frozen
from dq.core.blobs import LargeBlob
from dq.core.records import Loads, Reading
from dq.functions.reference import TaskRef


@frozen
class JobSpec:
    """What a worker has to know of a job.

    Args:
        id: random, so that jobs of other runs have other ids.
        ref: the function; None for the worker's own default.
        reading: how to make a value of an input.
        unpack: "" calls ``f(input)``, "items" ``f(*list)`` or ``f(**mapping)``; with "call" the
            input has the function too, see `dq.functions.called`.
        output: one of `dq.data.outputs.OUTPUT_FORMATS`.
        timeout: seconds a task may run.
        init: called once in each process, before its first task.
        digest: of the file that the function's module is in; "" for none.
        strict: whether a worker whose file has another digest must not run tasks.
        fetch: whether a process has still to fetch functions by value.
    """

    id: str
    ref: TaskRef | None
    reading: Reading = Reading()
    unpack: str = ""
    output: str = "values"
    timeout: float | None = None
    init: TaskRef | None = None
    digest: str = ""
    strict: bool = False
    fetch: bool = False

    @property
    def has_function(self) -> bool:
        """Whether a worker needs no function of its own for the tasks."""
        return self.ref is not None or self.unpack == "call"

    @property
    def nbytes(self) -> int:
        """How many bytes of it are functions by value."""
        return sum(len(ref.data) for ref in (self.ref, self.init) if ref is not None)

    def to_wire(self) -> tuple[object, ...]:
        """As built-in types, for any Python and any dq of the same protocol."""
        ref = self.ref.to_wire() if self.ref else None
        init = self.init.to_wire() if self.init else None
        return (
            self.id,
            ref,
            self.reading.to_wire(),
            self.unpack,
            self.output,
            self.timeout,
            init,
            self.digest,
            self.strict,
            self.has_large_functions,
        )

    @property
    def has_large_functions(self) -> bool:
        """Whether there are functions by value with large buffers."""
        refs = [ref for ref in (self.ref, self.init) if ref is not None]
        return any(isinstance(ref.data, LargeBlob) for ref in refs)

    @property
    def functions(self) -> LargeBlob | None:
        """Functions by value with large buffers, which each process fetches once; None if there are
        none."""
        if not self.has_large_functions:
            return None
        blobs = [_blob_of(self.ref), _blob_of(self.init)]
        buffers = [buffer for blob in blobs for buffer in blob.buffers]
        head = pickle.dumps([(blob.head, len(blob.buffers)) for blob in blobs])
        return LargeBlob(head, tuple(buffers))

    def without_functions(self) -> JobSpec:
        """The same without the functions by value, for a job that has ended."""
        if not self.has_large_functions:
            return self
        from dataclasses import replace

        return replace(self, ref=None, init=None)

    def with_functions(self, blob: LargeBlob, loads: Loads = pickle.loads) -> JobSpec:
        """The same with the functions that a process has fetched."""
        (head, count), (init_head, _) = cast("list[tuple[bytes, int]]", loads(blob.head))
        from dataclasses import replace  # here to keep start-up fast: few jobs need it

        ref = self.ref and replace(self.ref, data=LargeBlob(head, blob.buffers[:count]))
        init = self.init
        if init is not None:
            init = replace(init, data=LargeBlob(init_head, blob.buffers[count:]))
        return replace(self, ref=ref, init=init, fetch=False)

    @classmethod
    def from_wire(cls, wire: tuple[object, ...]) -> JobSpec:
        """The inverse of `to_wire`."""
        id, ref, reading, unpack, output, timeout, init, digest, strict, fetch = cast(
            "_WireSpec", wire
        )
        kind, fields, raw, field, delimiter = reading
        return cls(
            id=id,
            ref=_ref(ref),
            reading=Reading(
                kind=kind, fields=tuple(fields), raw=raw, field=field, delimiter=delimiter
            ),
            unpack=unpack,
            output=output,
            timeout=timeout,
            init=_ref(init),
            digest=digest,
            strict=strict,
            fetch=fetch,
        )


_WireRef = tuple[str, str, str, str, bytes]
_WireReading = tuple[str, tuple[str, ...], bool, str, str]
_WireSpec = tuple[
    str, _WireRef | None, _WireReading, str, str, float | None, _WireRef | None, str, bool, bool
]


def _blob_of(ref: TaskRef | None) -> LargeBlob:
    data = b"" if ref is None else ref.data
    return LargeBlob(data, ()) if isinstance(data, bytes) else data


def _ref(wire: _WireRef | None) -> TaskRef | None:
    if wire is None:
        return None
    kind, where, name, path, data = wire
    return TaskRef(kind=kind, where=where, name=name, path=path, data=data)
