"""Tasks of `test_api_exceptions.py`."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path


class OwnError(Exception):
    """Has more than its text."""

    def __init__(self, code: int, *, detail: str = "") -> None:
        super().__init__(code)
        self.code = code
        self.detail = detail


def ended() -> Exception:
    """What a `__reduce__` makes: fine in a worker, not in the caller."""
    if os.environ.get("DQ_TEST_CALLER") == str(os.getpid()):
        raise SystemExit(7)
    return ValueError("made in the worker")


class EndsCaller(Exception):
    def __reduce__(self) -> tuple[Callable[[], Exception], tuple[()]]:
        return ended, ()


class Hangs(Exception):
    def __reduce__(self) -> tuple[Callable[[int], None], tuple[int]]:
        return time.sleep, (600,)


class Interrupts(Exception):
    def __reduce__(self) -> str:
        raise KeyboardInterrupt


class Shared(Exception):
    """Unpickles as one object, however often it was raised."""

    def __reduce__(self) -> str:
        return "SHARED"


class ReadOnly(Exception):
    """Refuses attributes, as a frozen dataclass does."""

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(name)


SHARED = Shared()
OWN = OwnError(5, detail="of the disk")
RAISED: dict[str, Callable[[], BaseException]] = {
    "exit": lambda: SystemExit(3),
    "interrupt": lambda: KeyboardInterrupt(),
    "generator": lambda: GeneratorExit(),
    "end of a loop": lambda: StopIteration(1),
    "end of an async loop": lambda: StopAsyncIteration(1),
    "lock": lambda: ValueError(threading.Lock()),
    "large": lambda: ValueError(bytes(10**7)),
    "many": lambda: ValueError([*range(10**5)]),
    "ends the caller": EndsCaller,
    "interrupts": Interrupts,
    "shared": lambda: SHARED,
    "read only": lambda: ReadOnly(),
}


def fail(name: str) -> None:
    raise RAISED[name]()


def fail_with(code: int) -> int:
    if code:
        raise OwnError(code, detail="of the disk")
    return code


def fail_at_first(path: str) -> None:
    if not Path(path).exists():
        Path(path).touch()
        raise LookupError("the first attempt")
    raise OwnError(2)


def fail_slowly(x: object) -> None:
    raise Hangs


def fail_with_notes(x: object) -> None:
    error = ValueError("noted")
    error.__notes__ = ["a note of its own"]  # type: ignore[attr-defined]
    raise error


def make(code: int) -> OwnError:
    return OwnError(code)
