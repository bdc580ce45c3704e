"""How the calls of an executor name their functions."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict, deque

from dq.core.blobs import Blob, LargeBlob
from dq.functions import importable, reference
from dq.functions.called import ByValue, name_of
from dq.functions.module_versions import import_of, version_of
from dq.functions.reference import Function

# Of a pickle that goes with each call of its function. Each process fetches a larger one once.
INLINE_BYTES = 4096
MAX_NAMES = 1000  # of importable functions that are kept

Name = str | ByValue


class CallFunctions:
    """Names functions, and keeps what processes have to fetch as long as a call needs it.

    Attributes:
        table: the pickles to fetch, by their digests.
    """

    def __init__(self) -> None:
        self.table: dict[bytes, Blob] = {}
        self._lock = threading.Lock()  # guards the table, `_calls` and `_names`
        self._calls: dict[bytes, int] = {}  # how many calls need each of the table
        # By module, name, and how often the module has been imported anew.
        self._names: OrderedDict[tuple[str, str, int], str] = OrderedDict()
        self._imports: dict[str, tuple[object, int]] = {}  # of modules, and how many before
        self._latest: tuple[Function, str] | None = None
        self._dropped: deque[Name] = deque()  # to be released; a deque needs no lock

    def name(self, function: str | Function) -> Name:
        """How a call names a function as it is now. `release` has to be called once the call has
        ended.

        Raises:
            BadTask: it cannot be sent to workers.
        """
        latest, name = self._latest or (None, None)
        if name is not None and latest is function and importable.can_import(latest):
            return name
        if isinstance(function, str) or importable.can_import(function):
            return self._name_importable(function)
        ref = reference.refer(function)
        blob = ref.data
        if isinstance(blob, bytes) and len(blob) <= INLINE_BYTES:
            return ByValue(str(ref), b"", blob)
        digest = _digest(blob)
        with self._lock:
            self.table.setdefault(digest, blob)
            self._calls[digest] = self._calls.get(digest, 0) + 1
        return ByValue(str(ref), digest, None)

    def _name_importable(self, function: str | Function) -> str:
        with self._lock:
            if isinstance(function, str):
                key = "", function, 0
            else:
                module = function.__module__
                key = module, function.__qualname__, self._count_imports(module)
            name = self._names.get(key)
            if name is None:
                ref = reference.refer(function)
                name = self._names[key] = name_of(ref, version_of(ref, function).digest, key[2])
                if len(self._names) > MAX_NAMES:
                    self._names.popitem(last=False)
            else:
                self._names.move_to_end(key)
            self._latest = None if isinstance(function, str) else (function, name)
        return name

    def _count_imports(self, module: str) -> int:
        """How often a module has been imported anew, as far as that was seen here."""
        imported = import_of(module)
        before, count = self._imports.get(module, (imported, 0))
        count += before is not imported
        self._imports[module] = imported, count
        return count

    def retain(self, name: Name) -> None:
        """Note that another call needs a function."""
        if isinstance(name, ByValue) and name.digest:
            with self._lock:
                self._calls[name.digest] += 1

    def release(self, name: Name) -> None:
        """Note that a call that needed a function has ended."""
        if isinstance(name, str) or not name.digest:
            return
        with self._lock:
            self._calls[name.digest] -= 1
            if not self._calls[name.digest]:
                del self._calls[name.digest], self.table[name.digest]

    def release_later(self, name: Name) -> None:
        """The same without a lock, for code that the garbage collector may call at any moment."""
        self._dropped.append(name)

    def release_dropped(self) -> None:
        """Do what `release_later` has put off. It is called at intervals."""
        while self._dropped:
            self.release(self._dropped.popleft())


def _digest(blob: Blob) -> bytes:
    digest = hashlib.blake2b(blob if isinstance(blob, bytes) else blob.head, digest_size=16)
    if isinstance(blob, LargeBlob):
        for buffer in blob.buffers:
            digest.update(buffer)
    return digest.digest()
