"""The calls of an executor, each of which brings its function."""

from __future__ import annotations

import gc
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from functools import partial

from dq._support.frozen import TYPE_CHECKING
from dq.core.blobs import Blob
from dq.core.records import LONGEST_TEXT, Failure, Loads, Reading
from dq.data.decoding import Decoder
from dq.errors import BadTask
from dq.functions import by_value_classes, called, loading
from dq.functions.by_value_classes import Scope
from dq.functions.reference import TaskRef
from dq.worker.cells import CODING_EXTRA_S, LOAD_EXTRA_S
from dq.worker.event_loop import is_awaitable
from dq.worker.failure import BadItem
from dq.worker.program import Fetch, Program, initialize

if TYPE_CHECKING:
    from typing import Any

    from dq.worker.event_loop import Awaiter
    from dq.worker.program import FunctionSource

CALL_FIELDS = 3  # of an input that is one call; a chunk has two
MAX_FUNCTIONS = 256  # that are kept after their calls
MAX_BYTES = 256 << 20  # of their pickles; the last two functions are kept in any case
LARGE_BYTES = 1 << 20  # of a pickle, from which on its function is collected at once


class CallProgram(Program):
    """The functions of an executor's calls. Each function by value has globals and classes of its
    own, as it was pickled, apart from what the initializer has brought."""

    isolates = True
    decoding_extra_s = CODING_EXTRA_S + LOAD_EXTRA_S

    def _load(
        self, config: FunctionSource, loop: Awaiter, initialized: set[TaskRef]
    ) -> Callable[[object], object]:
        initialize(self.spec, config, loop, initialized)
        self._initial = self._scope.copy()
        self._config = config
        self._loop = loop
        self._named: dict[str, CallFunction] = {}  # those that can be imported
        self._latest: dict[tuple[str, ...], bytes] = {}  # definitions, by the classes' names
        self._functions = RecentFunctions()  # those by value
        self._resolving = threading.Lock()  # guards both, held while one is loaded
        self.decoder = CallDecoder(self.spec.reading, self._loads, self._named, self._resolve_named)
        return self._call

    def _call(self, item: Any) -> object:  # no cast, since it is on the path of each call
        """Make the call, or the chunk of calls, that an input describes."""
        if len(item) == CALL_FIELDS:
            function, args, kwargs = item
            by_value_classes.enter_scope(function.scope)
            result = function.function(*args, **kwargs)
            return self._loop.run(result) if is_awaitable(result) else result
        function, chunk = item
        by_value_classes.enter_scope(function.scope)
        return [self._awaited(function.function(*args)) for args in chunk]

    def _awaited(self, result: object) -> object:
        return self._loop.run(result) if is_awaitable(result) else result

    def enter(self, fetch: Fetch) -> None:
        super().enter(fetch)
        called.resolve_with(partial(self._resolve, fetch))

    def _define(self, names: tuple[str, ...], definitions: bytes) -> None:
        """Define classes, also those again that the caller has changed; but not those of which the
        initializer may have made objects. Each slot brings all definitions."""
        self._definitions[self._defined] = ((), b"")  # there may be many changes
        if self._latest.get(names) == definitions:
            return
        self._latest[names] = definitions
        for name in names:
            old = self._scope.classes.get(name)
            if old is not None and name not in self._initial.classes:
                del self._scope.classes[name]
                self._scope.complete.discard(old)
        super()._define(names, definitions)

    def _resolve(self, fetch: Fetch, label: str, digest: bytes, data: bytes | None) -> object:
        """A function by value. From here on, this thread unpickles objects with its classes."""
        try:
            with self._resolving:
                function = self._functions.get(digest or data)
                if function is None:
                    blob = data if data is not None else fetch(self.spec.id, digest)
                    function = self._load_value(label, blob)
                    self._functions.add(digest or data, function)
        except BadTask as error:
            self._imports.check()
            return self._unloadable(label, str(error))
        by_value_classes.enter_scope(function.scope)
        return function

    def _load_value(self, label: str, blob: Blob | None) -> CallFunction:
        if blob is None:
            raise BadTask("no call needs it any more")
        scope = self._initial.copy(self._scope)
        by_value_classes.enter_scope(scope)
        [function] = loading.load_values(TaskRef(kind="value", where=label, data=blob))
        return CallFunction(function, scope, len(blob))

    def _resolve_named(self, name: str) -> CallFunction:
        """A function that can be imported."""
        try:
            with self._resolving:
                if name not in self._named:
                    self._named[name] = self._load_named(*called.named(name))
                return self._named[name]
        except BadTask as error:
            self._imports.check()
            label = str(called.named(name)[0])
            return self._unloadable(label, f"{error}; its sys.path is {sys.path}")

    def _load_named(self, ref: TaskRef, digest: str) -> CallFunction:
        self._imports.check()
        self._imports.enter(ref)
        try:
            function = self._imports.load(ref, self._config.load)
        except KeyboardInterrupt as error:  # raised by the module, since Ctrl-C does nothing here
            raise BadTask(f"cannot import {ref.where}: KeyboardInterrupt") from error
        self._check_version(ref, digest)
        return CallFunction(function, self._scope, 0)

    def _unloadable(self, label: str, reason: str) -> CallFunction:
        """Stands in for a function that cannot be loaded, so that only its own calls fail."""
        if not self._is_local:  # otherwise the caller, on the same terminal, has the error
            print(f"dq: cannot load {label}: {reason}", file=sys.stderr, flush=True)
        failure = Failure("BadTask", f"a worker cannot load {label}: {reason}"[:LONGEST_TEXT])

        def refuse(*_: object, **__: object) -> None:
            raise BadItem(failure)

        return CallFunction(refuse, self._scope, 0)


class CallFunction:
    """A function that was loaded.

    Args:
        function: the function.
        scope: its classes and globals.
        nbytes: of its pickle.
    """

    __slots__ = ("function", "nbytes", "scope")

    def __init__(self, function: Callable[..., object], scope: Scope, nbytes: int) -> None:
        self.function = function
        self.scope = scope
        self.nbytes = nbytes


class RecentFunctions:
    """The functions that were called last."""

    def __init__(self) -> None:
        self._functions: OrderedDict[object, CallFunction] = OrderedDict()
        self._nbytes = 0

    def get(self, key: object) -> CallFunction | None:
        """The function with that key, which becomes the last one."""
        function = self._functions.get(key)
        if function is not None:
            self._functions.move_to_end(key)
        return function

    def add(self, key: object, function: CallFunction) -> None:
        """Keep a function, and drop the one that was called the longest time ago, if need be."""
        self._functions[key] = function
        self._nbytes += function.nbytes
        dropped = 0
        while len(self._functions) > 2 and (
            len(self._functions) > MAX_FUNCTIONS or self._nbytes > MAX_BYTES
        ):
            _, old = self._functions.popitem(last=False)
            self._nbytes -= old.nbytes
            dropped += old.nbytes
        if dropped > LARGE_BYTES:
            gc.collect()  # a function and its globals refer to each other


class CallDecoder(Decoder):
    """Decodes calls: functions that can be imported are loaded too.

    Args:
        reading, loads: as for `Decoder`.
        known: the functions that have been loaded.
        resolve: loads another one.
    """

    def __init__(
        self,
        reading: Reading,
        loads: Loads,
        known: dict[str, CallFunction],
        resolve: Callable[[str], CallFunction],
    ) -> None:
        super().__init__(reading, loads)
        self._known = known
        self._resolve = resolve

    def chunks(self, blob: Blob, skip: int, count: int) -> Iterator[tuple[list[object], bool]]:
        for items, bad in super().chunks(blob, skip, count):
            for place, item in enumerate(items):
                if type(item) is tuple and type(item[0]) is str:
                    function = self._known.get(item[0]) or self._resolve(item[0])
                    items[place] = (function, *item[1:])
            yield items, bad
