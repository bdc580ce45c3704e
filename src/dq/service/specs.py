"""The specs of jobs, as clients send them to a master that keeps jobs."""

from __future__ import annotations

import os
from dataclasses import replace

from dq._support.frozen import cast
from dq.core.blobs import Blob, LargeBlob
from dq.core.records import LONGEST_NAME, Reading
from dq.data import batches, buffers
from dq.data.decoding import INPUT_KINDS
from dq.data.pieces import JOINED
from dq.errors import UsageError
from dq.functions.spec import JobSpec
from dq.security.safe_pickle import safe_loads

OUTPUT = "kept"  # what results become
CALL_OUTPUT = "values"  # what those of calls do, which their client alone reads
PICKLED = Reading("pickled")


def to_client(spec: JobSpec) -> tuple[tuple[object, ...], bytes | None]:
    """A spec as a client sends it, and its functions by value with large buffers."""
    functions = spec.functions
    return spec.to_wire(), None if functions is None else batches.joined(functions)


def from_client(wire: object, functions: object) -> JobSpec:
    """The inverse. Nothing of it is unpickled but built-in types.

    Raises:
        UsageError: it is not a spec.
    """
    spec = _from_client(wire, functions)
    if spec.unpack not in ("", "items") or spec.output != OUTPUT:
        raise UsageError("this is not the spec of a job")
    if spec.ref is None:
        raise UsageError("this is the spec of a job without a function")
    return spec


def calls_from_client(wire: object, functions: object) -> JobSpec:
    """The same of calls, each of which brings its function.

    Raises:
        UsageError: it is not a spec of calls.
    """
    spec = _from_client(wire, functions)
    if spec.unpack != "call" or spec.output != CALL_OUTPUT or spec.ref is not None:
        raise UsageError("this is not the spec of calls")
    if spec.reading != PICKLED:
        raise UsageError("calls are pickled")
    return spec


def function_to_client(function: Blob) -> tuple[bool, bytes]:
    """A function of calls as a client sends it."""
    return isinstance(function, LargeBlob), batches.joined(function)


def function_from_client(wire: object) -> Blob:
    """The inverse. Nothing of it is unpickled but built-in types.

    Raises:
        UsageError: it is not a function.
    """
    try:
        is_large, data = cast("tuple[object, object]", wire)
        if type(is_large) is not bool or type(data) is not bytes:
            raise TypeError("not a function")
        return _blob(data) if is_large else data
    except (TypeError, ValueError, KeyError):
        raise UsageError("this is not a function by value") from None


def _from_client(wire: object, functions: object) -> JobSpec:
    try:
        _check(wire)
        spec = JobSpec.from_wire(cast("tuple[object, ...]", wire))
        if functions is not None:
            spec = spec.with_functions(_blob(functions), safe_loads)
    except (TypeError, ValueError, KeyError):
        raise UsageError("this is not the spec of a job") from None
    if spec.fetch:
        raise UsageError("this is the spec of a job without its functions")
    return spec


def with_new_id(spec: JobSpec) -> JobSpec:
    """The same for another round, whose reports must not be taken for those of an earlier one."""
    return replace(spec, id=os.urandom(8).hex())


def of_any_version(spec: JobSpec) -> JobSpec:
    """The same for tasks that are run again, perhaps because their code was mended."""
    return replace(spec, digest="")


def _check(wire: object) -> None:
    if type(wire) is not tuple:
        raise TypeError("not a tuple")
    id, ref, reading, unpack, output, timeout, init, digest, strict, fetch = wire
    for text in (id, digest):
        if type(text) is not str or len(text) > LONGEST_NAME:
            raise TypeError("not a name")
    for one in (ref, init):
        if one is not None:
            _check_ref(one)
    kind, fields, raw, field, delimiter = reading
    if kind not in INPUT_KINDS or not all(type(name) is str for name in fields):
        raise ValueError("not a way to read inputs")
    if type(field) is not str or type(delimiter) is not str or type(raw) is not bool:
        raise TypeError("not a way to read inputs")
    if type(unpack) is not str or type(output) is not str:
        raise TypeError("not a text")
    if timeout is not None and type(timeout) not in (int, float):
        raise TypeError("not a time")
    if type(strict) is not bool or type(fetch) is not bool:
        raise TypeError("not a choice")


def _check_ref(wire: object) -> None:
    kind, *texts, data = cast("tuple[object, ...]", wire)
    if kind not in ("module", "file", "value") or type(data) is not bytes:
        raise TypeError("not a function")
    if len(texts) != 3 or not all(type(text) is str for text in texts):
        raise TypeError("not a function")


def _blob(functions: object) -> LargeBlob:
    if type(functions) is not bytes:
        raise TypeError("not functions")
    kind, items = cast("tuple[int, list[bytes]]", safe_loads(functions))
    if kind != JOINED or not all(type(item) is bytes for item in items):
        raise ValueError("not functions")
    return buffers.split(items)
