"""Objects of classes in a batch: none needs what another one needs."""

from __future__ import annotations

import io
import pickle
import sys
from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from dq.data import batches
from dq.data.pieces import BadValue


class Words(str):
    """A key that is no plain string."""

    __slots__ = ()


@dataclass
class Plain:
    """Nothing but what is in its `__dict__`."""

    held: object


@dataclass(frozen=True)
class Frozen:
    """The same, with a hash, which it cannot have before it has what it holds."""

    held: object
    others: set[object] = field(default_factory=set, compare=False)


class Raises(Plain):
    """What follows raises at the other end where it is asked to."""

    def __setstate__(self, state: dict[str, object]) -> None:
        if state["held"]:
            raise ValueError("in __setstate__")
        vars(self).update(state)


class Hashes:
    def __init__(self, held: object) -> None:
        self.held = held

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Hashes) and self.held == other.held

    def __hash__(self) -> int:
        if vars(self).get("held", 0):
            raise ValueError("in __hash__")
        return 0


class Reduces:
    def __init__(self, held: object, fails: bool = False) -> None:
        if fails:
            raise ValueError("in __init__")
        self.held = held

    def __reduce__(self) -> tuple[object, ...]:
        return Reduces, (self.held, bool(self.held))


@pytest.mark.parametrize("kind", [Raises, Reduces])
def test_an_object_that_cannot_be_unpickled_spoils_only_itself(
    kind: Callable[[object], object],
) -> None:
    values = [kind(n == 3) for n in range(6)]
    for together in (batches.ANYTHING, batches.DATA, batches.NOTHING):
        got = batches.load(batches.dump(values, together=together))
        assert [isinstance(value, BadValue) for value in got] == [n == 3 for n in range(6)]


def test_an_object_whose_hash_raises_elsewhere_spoils_only_what_has_it_as_a_key() -> None:
    values: list[object] = [{Hashes(0): n} for n in range(6)]
    next(iter(values[3])).held = 1  # type: ignore[call-overload]
    got = batches.load(batches.dump(values))
    assert [isinstance(value, BadValue) for value in got] == [n == 3 for n in range(6)]


def test_a_class_that_is_missing_spoils_only_its_own_objects(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain: list[object] = [Plain(n) for n in range(600)]
    values = [*plain, *([1] * 500), *plain[:300], Words("text")]
    blob = batches.dump(values)
    lost = [type(value) is Plain for value in values]
    monkeypatch.delattr(sys.modules[__name__], "Plain")
    got = batches.load(blob)
    assert [type(value) is BadValue for value in got] == lost
    assert "Plain" in got[0].failure.message  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "values",
    [
        [1, "two", (3,), Plain(4), {"a": 5}],
        [(1, Plain(2)), (3, None)],
        [Plain(Namespace(a=1)), Plain(2)],
        [[Plain(1)], [Raises(0)]],
    ],
    ids=range(4),
)
def test_a_class_that_is_missing_spoils_nothing_that_is_without_it(values: list[object]) -> None:
    class WithoutPlain(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> object:
            if name == "Plain":
                raise AttributeError(name)
            return super().find_class(module, name)

    got = batches.load(batches.dump(values), lambda data: WithoutPlain(io.BytesIO(data)).load())
    assert [type(value) is BadValue for value in got] == [
        "Plain" in repr(value) for value in values
    ]


def test_an_object_that_is_a_key_of_itself_spoils_only_itself() -> None:
    one, other = Frozen("a"), Frozen("b")
    one.others.add(other)
    other.others.add(one)
    got = batches.load(batches.dump([0, Frozen("z"), one, 4, 5]))
    assert [isinstance(value, BadValue) for value in got] == [False, False, True, False, False]


def test_objects_of_two_modules_do_not_need_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    values: list[object] = [Plain(1), Namespace(a=2)]
    blob = batches.dump(values)
    monkeypatch.delattr(sys.modules[__name__], "Plain")
    bad, good = batches.load(blob)
    assert isinstance(bad, BadValue)
    assert good == Namespace(a=2)
