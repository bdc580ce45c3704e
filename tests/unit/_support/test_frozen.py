"""Frozen records without the import of `dataclasses`: that nobody can tell."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
import subprocess
import sys

import pytest

from dq._support.frozen import Generic, TypeVar, frozen

T = TypeVar("T")


@frozen
class Light:
    """A record.

    Args:
        a: needed.
    """

    a: int
    b: str = "b"
    c: tuple[int, ...] = ()

    def doubled(self) -> int:
        return 2 * self.a


@dataclasses.dataclass(frozen=True, slots=True)
class Real:
    a: int
    b: str = "b"
    c: tuple[int, ...] = ()


@frozen
class Single:
    only: object


@frozen
class Empty:
    pass


@frozen
class Of(Generic[T]):
    value: T


def test_it_takes_and_refuses_the_same_arguments() -> None:
    assert (Light(1).b, Light(1, c=(2,)).c, Light(a=3).doubled()) == ("b", (2,), 6)
    for wrong in ({}, {"a": 1, "d": 2}):
        with pytest.raises(TypeError):
            Light(**wrong)  # type: ignore[arg-type]  # what is refused here too


def test_it_looks_the_same() -> None:
    assert repr(Light(1)) == repr(Real(1)).replace("Real", "Light")
    assert str(inspect.signature(Light)) == str(inspect.signature(Real))
    assert inspect.getdoc(Light) == "A record.\n\nArgs:\n    a: needed."


def test_it_is_equal_by_its_values_and_only_to_its_own_kind() -> None:
    assert Light(1) == Light(1)
    assert Light(1) != Light(2)
    assert Light(1) != Real(1)
    assert len({Light(1), Light(1), Light(2), Single(1), Single(1)}) == 3
    assert Empty() == Empty()


def test_it_cannot_be_changed_and_has_no_room_for_more() -> None:
    for change in (lambda: setattr(Light(1), "a", 2), lambda: delattr(Light(1), "a")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            change()
    with pytest.raises(AttributeError):
        Light(1).other = 1  # type: ignore[attr-defined]  # that is the claim
    assert not hasattr(Light(1), "__dict__")


@pytest.mark.parametrize("record", [Light(1), Single([1]), Empty(), Of(3)])
def test_it_survives_pickling_and_copying(record: object) -> None:
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(record, protocol)) == record
    assert copy.copy(record) == copy.deepcopy(record) == record


def test_what_dataclasses_does_with_its_own_it_does_with_this() -> None:
    assert dataclasses.is_dataclass(Light)
    assert [f.name for f in dataclasses.fields(Light)] == ["a", "b", "c"]
    assert dataclasses.replace(Light(1), b="x") == Light(1, "x")
    assert dataclasses.asdict(Light(1)) == dataclasses.asdict(Real(1))


def test_it_is_matched_by_its_fields() -> None:
    match Light(1, "x"):
        case Light(a, b):
            assert (a, b) == (1, "x")


def test_it_can_be_generic() -> None:
    assert Of[int](3) == Of(3)


def loaded_by(code: str) -> set[str]:
    """The modules that a fresh interpreter has after it."""
    path = f"import sys; sys.path = {sys.path!r}; {code}; print(*sys.modules)"
    argv = [sys.executable, "-I", "-S", "-c", path]
    return {*subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True).stdout.split()}


def test_a_task_process_starts_without_the_modules_that_it_stands_for() -> None:
    needed = "import csv, json, multiprocessing.connection, queue, random, traceback"
    spared = {"typing", "dataclasses", "inspect", "logging", "asyncio", "difflib"}
    # Newer Pythons import some of them by themselves.
    assert loaded_by("import dq.worker.main") & spared <= loaded_by(needed)


def test_import_dq_imports_next_to_nothing() -> None:
    modules = {name for name in loaded_by("import dq") if not name.startswith("_")}
    assert modules - loaded_by("import os") == {"dq", "dq.errors"}  # as every interpreter has


@frozen
class Checked:
    a: int

    def __post_init__(self) -> None:
        if self.a < 0:
            raise ValueError(f"{self.a} is negative")


def test_it_checks_itself_however_it_is_made() -> None:
    assert Checked(1).a == 1
    for make in (lambda: Checked(-1), lambda: dataclasses.replace(Checked(1), a=-1)):
        with pytest.raises(ValueError, match="-1 is negative"):
            make()
