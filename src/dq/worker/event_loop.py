"""The event loop on which a task process awaits."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable

from dq._support import platform
from dq._support.frozen import TYPE_CHECKING
from dq.worker import current

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable
    from concurrent.futures import Future
    from typing import NoReturn, Protocol, TypeGuard

    class Awaiter(Protocol):
        """What awaits the results of a process's functions."""

        def run(self, awaitable: Awaitable[object]) -> object: ...


class EventLoop:
    """The event loop on which a process awaits its `async def` tasks, in a thread of its own.

    Whatever one task does to the loop, the other tasks on it never wait for ever.
    """

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = threading.Lock()  # guards the start of the loop, and `_awaited`
        self._awaited: set[Future[tuple[object, BaseException | None]]] = set()
        self._thread: threading.Thread | None = None
        self._stop: Callable[[], None]
        self._closing = False

    @property
    def started(self) -> asyncio.AbstractEventLoop | None:
        """The loop, if there is one by now."""
        return self._loop

    def run(self, awaitable: Awaitable[object]) -> object:
        """Await something on the loop, and wait for the result."""
        import asyncio  # here, since the import takes 30 ms and few tasks need it

        awaiting = _awaited(awaitable)
        batch = current.here.batch
        task = None if batch is None else (batch, batch.current_index())
        with self._lock:
            if self._loop is None:
                self._start()
            assert self._loop is not None
            token = current.awaited.set(task)
            # It runs in a copy of this thread's context.
            future = asyncio.run_coroutine_threadsafe(awaiting, self._loop)
            current.awaited.reset(token)
            self._awaited.add(future)
        try:
            value, error = future.result()
        finally:
            with self._lock:
                self._awaited.discard(future)
        if error is not None:
            raise error
        return value

    def close(self) -> None:
        """End the loop as `asyncio.run` does: whatever tasks have left running is cancelled."""
        with self._lock:
            loop, self._closing = self._loop, True
        if loop is None:
            return
        import asyncio

        with contextlib.suppress(BaseException):  # the code is a task's
            asyncio.run_coroutine_threadsafe(_wind_up(loop), loop).result()
        with contextlib.suppress(RuntimeError):  # closed already
            loop.call_soon_threadsafe(self._stop)
        if self._thread is not None:
            self._thread.join()
            loop.close()

    def _start(self) -> None:
        import asyncio

        with platform.HighDescriptors():
            loop = asyncio.new_event_loop()
        self._stop = loop.stop
        with contextlib.suppress(AttributeError):  # a loop written in C is read-only
            loop.stop = _refuse_to_stop  # type: ignore[method-assign]
        self._loop = loop
        self._thread = threading.Thread(target=self._run_for_ever, args=(loop,), daemon=True)
        self._thread.start()

    def _run_for_ever(self, loop: asyncio.AbstractEventLoop) -> None:
        """Run the loop, again after a SystemExit or KeyboardInterrupt in something that a task has
        left running. If a task has closed the loop, let the next call start another one."""
        while not loop.is_closed():
            with contextlib.suppress(BaseException):
                loop.run_forever()
                if self._closing:
                    return
        with self._lock:
            self._loop = None
            left, self._awaited = self._awaited, set()
        for future in left:
            with contextlib.suppress(BaseException):  # it has got its result meanwhile
                future.set_exception(RuntimeError("a task has closed the event loop"))


class ThisThreadsLoop:
    """The event loop of a process that runs its tasks in one thread: it awaits in that thread.
    Where a loop already runs there, as in a notebook, it awaits in another."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._elsewhere = EventLoop()

    def run(self, awaitable: Awaitable[object]) -> object:
        """Await something, and return the result."""
        import asyncio  # here, since few tasks need it

        if asyncio._get_running_loop() is not None:
            return self._elsewhere.run(awaitable)
        if self._loop is None or self._loop.is_closed():  # a task may have closed it
            self._loop = asyncio.new_event_loop()
        value, error = self._loop.run_until_complete(_awaited(awaitable))
        if error is not None:
            raise error
        return value

    def close(self) -> None:
        """End the loop as `asyncio.run` does: whatever tasks have left running is cancelled."""
        self._elsewhere.close()
        if self._loop is not None and not self._loop.is_closed():
            try:
                self._loop.run_until_complete(_wind_up(self._loop))
            finally:
                self._loop.close()


async def _wind_up(loop: asyncio.AbstractEventLoop) -> None:
    import asyncio

    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    await loop.shutdown_asyncgens()
    await loop.shutdown_default_executor()


def _refuse_to_stop() -> NoReturn:
    raise RuntimeError("the event loop runs other tasks too, and cannot be stopped by one")


async def _awaited(awaitable: Awaitable[object]) -> tuple[object, BaseException | None]:
    """The result of an awaitable, or its exception, since a raised SystemExit would end the
    loop."""
    try:
        return await awaitable, None
    except BaseException as error:
        return None, error


def is_awaitable(value: object) -> TypeGuard[Awaitable[object]]:
    """Whether it is to be awaited."""
    return hasattr(type(value), "__await__")
