"""Starts a fork server. It imports hardly anything, so that a command can start its own before it
imports the rest, which takes as long as the server does."""

from __future__ import annotations

import _socket
import contextlib
import os
import sys

from dq._support import platform
from dq._support.hash_seed import HASH_SEED, hash_seed
from dq.security import keys
from dq.worker.lifeline import MARK

TYPE_CHECKING = False  # `typing` takes 5 ms to import, and checkers go by the name

if TYPE_CHECKING:
    from collections.abc import Sequence

Started = tuple[int, int, int]  # pid, descriptor of the socket for requests, hash seed

_early: list[Started] = []  # what a command has started before its imports


def start_server(seed: int, flags: Sequence[str] = ()) -> Started:
    """Start a fork server.

    Args:
        seed: of its hashes, and so of all its processes'.
        flags: options of the interpreter.

    Raises:
        OSError: the system has no room for it.
    """
    ours, theirs = _socket.socketpair()
    try:
        actions = [(os.POSIX_SPAWN_DUP2, theirs.fileno(), 0)]
        work = f"import dq.worker.fork_server as server; server.main({os.getpid()})"
        argv = [sys.executable, *flags, "-c", code(work)]
        # A group of its own from the beginning: Ctrl-C is for the supervisor.
        pid = os.posix_spawn(
            sys.executable, argv, environment(seed), file_actions=actions, setpgroup=0
        )
        return pid, ours.detach(), seed
    finally:
        ours.close()
        theirs.close()


def environment(seed: int) -> dict[str, str]:
    """What the server and all task processes have in their environment, with the seed of their
    hashes."""
    return {**keys.scrub(os.environ), HASH_SEED: str(seed), MARK: "1"}


def has_server() -> bool:
    """Whether task processes are forked. A program that is its own interpreter cannot start the
    server."""
    return platform.can_fork() and not is_frozen()


def is_frozen() -> bool:
    """Whether the program is its own interpreter, as PyInstaller makes it."""
    return bool(getattr(sys, "frozen", False))


def code(work: str) -> str:
    """What an interpreter is to run for dq, so that nothing of the user's is imported in place of
    dq's and the standard library's modules."""
    home = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    # This replaces the current directory, where a user's queue.py would hide the real one.
    # Imports leave no garbage, and looking for some would take 2 ms of 30.
    return f"import gc, sys; gc.disable(); sys.path[0] = {home!r}; {work}"


def start_early() -> None:
    """Start a server for `take_early`, if one can be started as this command is."""
    if not has_server() or not sys.executable or _has_flags() or MARK in os.environ:
        return
    if not all(map(platform.is_open, range(3))):
        return  # the server would get another file in place of one of them
    with contextlib.suppress(OSError):  # it will be tried again when it is needed
        _early.append(start_server(hash_seed()))


def _has_flags() -> bool:
    """Whether this interpreter may have options that are not in the environment."""
    flags = sys.flags
    some = (flags.optimize, flags.no_site, flags.no_user_site, flags.ignore_environment)
    others = (flags.isolated, flags.dev_mode, flags.bytes_warning, flags.verbose, flags.debug)
    return bool(sys.warnoptions or sys._xoptions or any(some) or any(others))


def take_early() -> Started | None:
    """The server that was started early, if it was not taken before."""
    return _early.pop() if _early else None


def end_early() -> None:
    """End a server that was started in vain."""
    started = take_early()
    if started is not None:
        pid, sock, _ = started
        os.close(sock)
        with contextlib.suppress(OSError):  # where SIGCHLD is ignored it leaves no trace
            os.kill(pid, 9)
            os.waitpid(pid, 0)
