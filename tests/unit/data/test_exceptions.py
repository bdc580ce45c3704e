"""Exceptions as bytes, and back."""

from __future__ import annotations

import pickle
import sys

import numpy as np
import pytest

from dq.core.records import MOST_EXCEPTION_BYTES
from dq.data import exceptions


class Lies(Exception):
    """Is pickled, and cannot be unpickled."""

    def __init__(self, a: int, b: int) -> None:
        super().__init__(f"{a} and {b}")


class Plain(Exception):
    """Unpickles as another class, as its own code asks for."""

    def __reduce__(self) -> tuple[type[Exception], tuple[str]]:
        return ValueError, (str(self),)


class InMain(Exception):
    """As of a script: its class goes by value."""


InMain.__module__ = "__main__"


class NoException(Exception):
    def __reduce__(self) -> tuple[type[int], tuple[int]]:
        return int, (3,)


class Exits(Exception):
    def __reduce__(self) -> str:
        raise SystemExit


class Frames(Exception):
    """Is pickled with its traceback, as some libraries have it."""

    def __reduce__(self) -> tuple[type[Exception], tuple[str]]:
        return ValueError, (f"has a traceback: {self.__traceback__ is not None}",)


def raised(error: Exception) -> Exception:
    try:
        raise error
    except Exception as caught:
        return caught


def deep(levels: int) -> list[object]:
    value: list[object] = []
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    "error", [KeyError("a"), OSError(2, "no", "file"), UnicodeDecodeError("utf-8", b"a", 0, 1, "r")]
)
def test_an_exception_comes_back_as_it_was(error: Exception) -> None:
    again = exceptions.load(exceptions.dump(error))
    assert (type(again), str(again)) == (type(error), str(error))
    assert again is not error


def test_its_own_reduction_says_what_it_becomes() -> None:
    assert repr(exceptions.load(exceptions.dump(Plain("a")))) == "ValueError('a')"


@pytest.mark.parametrize(
    "error",
    [
        Lies(1, 2),
        NoException(),
        Exits(),
        ValueError(iter(n for n in ())),
        ValueError(deep(100_000)),
        ValueError("a" * MOST_EXCEPTION_BYTES),
        ValueError(np.zeros(MOST_EXCEPTION_BYTES)),
        ValueError(*map(str, range(20_000))),
        StopIteration(),
        SystemExit(),
    ],
    ids=lambda error: f"{type(error).__name__} {sys.getsizeof(error.args)}",
)
def test_it_is_nothing_where_it_would_not_come_back(error: BaseException) -> None:
    assert exceptions.dump(error) == b""


def test_a_class_that_the_other_end_cannot_import_goes_along() -> None:
    blob = exceptions.dump(InMain("a"))
    assert isinstance(pickle.loads(blob), tuple)
    assert repr(exceptions.load(blob)) == "InMain('a')"


def test_its_traceback_is_out_of_the_way_meanwhile_alone() -> None:
    error = raised(Frames())
    assert str(exceptions.load(exceptions.dump(error))) == "has a traceback: False"
    assert error.__traceback__ is not None


def test_it_is_never_larger_than_the_master_takes() -> None:
    for kind in (ValueError, InMain):
        sizes = [len(exceptions.dump(kind("a" * n))) for n in range(60_000, 66_000, 37)]
        assert MOST_EXCEPTION_BYTES - 200 < max(sizes) <= MOST_EXCEPTION_BYTES


@pytest.mark.parametrize(
    "blob",
    [
        b"",
        b"no pickle",
        pickle.dumps(3),
        pickle.dumps((1, 2, 3)),
        pickle.dumps((b"3.1\n", pickle.dumps(ValueError()))),
        pickle.dumps("no exception"),
        pickle.dumps(SystemExit(3)),
        pickle.dumps(StopIteration(3)),
    ],
)
def test_what_is_no_exception_loads_as_none(blob: bytes) -> None:
    assert exceptions.load(blob) is None
