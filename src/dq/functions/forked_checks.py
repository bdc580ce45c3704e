"""Checks that import a user's code, run in a fork of the command.

An import may run anything: gevent's `monkey.patch_all()` would replace the threads that a master
needs, and an import that never ends could not be stopped within the same process. So a command
forks before it has threads, and the fork imports. One fork runs all checks, so that each module is
imported once.
"""

from __future__ import annotations

import os
import pickle
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable

from dq._support import platform
from dq._support.frozen import TYPE_CHECKING, cast
from dq._support.naming import setting
from dq.errors import BadTask, DqError, RemoteTraceback

if TYPE_CHECKING:
    from typing import NoReturn

IMPORT_EXTRA_S = 10.0  # beyond a task's time limit, for an import

Answer = tuple[object, DqError | None, str]  # a check's result, or its error and traceback


class Fork:
    """A fork of this process that calls functions and sends back what they return.

    Args:
        limit: a task's time limit in seconds; a check may take `IMPORT_EXTRA_S` more. None for
            no limit.
    """

    def __init__(self, limit: float | None) -> None:
        self._limit = limit
        asked, self._ask = os.pipe()
        self._answers, answer = os.pipe()
        parent = os.getpid()
        self._pid = os.fork()
        if not self._pid:
            os.close(self._ask)
            os.close(self._answers)
            _serve(asked, answer, parent)
        os.close(asked)
        os.close(answer)

    def ask(self, function: Callable[..., object], args: tuple[object, ...]) -> None:
        """Call a function in the fork."""
        os.write(self._ask, _framed((function, args)))

    def answer(self, what: str) -> object:
        """What the function has returned, which imports `what`.

        Raises:
            DqError: it raised this, ended the process, or took too long.
        """
        deadline = None if self._limit is None else time.monotonic() + self._limit + IMPORT_EXTRA_S
        try:
            answer = _loaded(lambda size: self._read(size, deadline))
        except EOFError:
            raise BadTask(f"cannot import {what}: that ends the process") from None
        except TimeoutError:
            whole = (self._limit or 0.0) + IMPORT_EXTRA_S
            spent = f"{whole:g} s, {IMPORT_EXTRA_S:g} s over {setting('timeout')}"
            raise BadTask(f"cannot import {what}: that has not ended after {spent}") from None
        result, error, trace = cast("Answer", answer)
        if error is not None:
            raise error from RemoteTraceback(trace)
        return result

    def _read(self, size: int, deadline: float | None) -> bytes:
        left = None if deadline is None else max(deadline - time.monotonic(), 0.0)
        if not select.select([self._answers], [], [], left)[0]:
            raise TimeoutError
        return os.read(self._answers, size)

    def close(self) -> None:
        """End the fork, whatever it is doing."""
        os.close(self._ask)
        os.close(self._answers)
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)


def _serve(asked: int, answer: int, parent: int) -> NoReturn:
    """Serve the parent's requests in the fork, until the end."""
    try:
        platform.die_with_parent(parent)
        for number in (signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the command
        while True:
            function, args = cast("tuple[Callable[..., object], tuple[object, ...]]", _next(asked))
            os.write(answer, _framed(_answer(function, args)))
    except EOFError:
        os._exit(0)
    finally:
        os._exit(1)


def _next(asked: int) -> object:
    return _loaded(lambda size: os.read(asked, size))


def _answer(function: Callable[..., object], args: tuple[object, ...]) -> Answer:
    try:
        return function(*args), None, ""
    except DqError as error:
        return None, error, "".join(traceback.format_exception(error))
    except KeyboardInterrupt as error:  # raised by the module: Ctrl-C does nothing here
        return None, BadTask(_interrupted(error)), traceback.format_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()


def _interrupted(error: KeyboardInterrupt) -> str:
    """The message for a module that raises KeyboardInterrupt, worded as in `dq.functions.loading`,
    which treats a KeyboardInterrupt as Ctrl-C and does not catch it."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    file = os.path.basename(place.filename)
    return (
        f"cannot import {file.removesuffix('.py')}: {file} line {place.lineno}: KeyboardInterrupt"
    )


def _framed(message: object) -> bytes:
    data = pickle.dumps(message)
    return len(data).to_bytes(8, "big") + data


def _loaded(read: Callable[[int], bytes]) -> object:
    """The next message of a pipe."""
    size = int.from_bytes(_exactly(8, read), "big")
    return pickle.loads(_exactly(size, read))


def _exactly(size: int, read: Callable[[int], bytes]) -> bytes:
    data = b""
    while len(data) < size:
        more = read(size - len(data))
        if not more:
            raise EOFError
        data += more
    return data


class Checks:
    """Runs checks in this process or, once a command has asked for it, in a fork."""

    def __init__(self) -> None:
        self._forks = False
        self._limit: float | None = None
        self._fork: Fork | None = None
        self._asked: tuple[Callable[..., object], tuple[object, ...]] | None = None

    def __call__(self, what: str, function: Callable[..., object], *args: object) -> object:
        """Call a function of dq that imports a user's `what`.

        Raises:
            DqError: what it raises.
        """
        if not self._forks:
            return function(*args)
        try:
            if self._asked is not None and self._asked != (function, args):
                self.close()
            self.ask(function, *args)
            self._asked = None
            assert self._fork is not None
            return self._fork.answer(what)
        except BaseException:  # Ctrl-C too
            self.close()
            raise

    def ask(self, function: Callable[..., object], *args: object) -> None:
        """Begin a check in the fork, if there is one, whose answer the next call wants."""
        if self._forks and self._asked is None:
            self._fork = self._fork or Fork(self._limit)
            self._asked = function, args
            self._fork.ask(function, args)

    def begin(self, limit: float | None) -> None:
        """On Linux, run checks in a fork from now on. On other systems, system libraries may fail
        in a fork."""
        self._forks, self._limit = sys.platform == "linux", limit

    def close(self) -> None:
        """End the fork; the next check starts another one."""
        self._asked = None
        if self._fork is not None:
            fork, self._fork = self._fork, None
            fork.close()


checks = Checks()
