"""What a master unpickles: all that standard data's own pickles have, and nothing that is dear."""

from __future__ import annotations

import builtins
import collections
import fractions
import ipaddress
import pathlib
import pickle
import random
import sys
import uuid
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dq.security.pickle_rules import SAFE, Refused
from dq.security.safe_pickle import safe_loads
from security import pickles
from support import ROOT, other_pythons, run

# Each in a process of its own with little memory: where one is not refused, that process is gone.
UNPICKLE = """if True:
    import pickle, resource, sys, threading
    from dq.security.safe_pickle import safe_loads
    from security import pickles
    resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))

    def unpickle(name, fragment):
        print(name, end=": ", flush=True)
        try:
            safe_loads(pickles.request(args=pickles.tuple_of(fragment)))
        except pickle.UnpicklingError as error:
            print(error, flush=True)
        else:
            print("data", flush=True)

    for bomb in pickles.bombs().items():
        thread = threading.Thread(target=unpickle, args=bomb)  # with a server's stack
        thread.start()
        thread.join()
"""
DATA = {"millions of memo entries", "millions of marks", "nothing"}  # dear for who sends it


@pytest.mark.slow
def test_what_would_take_memory_time_or_the_process_is_refused_at_once() -> None:
    done = run(sys.executable, "-c", UNPICKLE, cwd=ROOT / "tests", timeout=280)
    said = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    assert list(said) == list(pickles.bombs()), (done.returncode, done.stdout[-500:], done.stderr)
    assert {name for name, outcome in said.items() if outcome == "data"} == DATA
    assert not [name for name, outcome in said.items() if "MemoryError" in outcome]


@pytest.mark.parametrize("name", [name for names in SAFE.values() for name in names.split()])
def test_no_class_on_the_list_can_be_changed(name: str) -> None:
    [module, *_] = [m for m, names in SAFE.items() if name in names.split()]
    state = b"N" + pickles.dict_of(hostile=b"N") + b"\x86"
    with pytest.raises(Refused, match="may not be given attributes"):
        safe_loads(pickles.whole(pickles.built(pickles.named(module, name), state)))


# In any CPython: all protocols of each value, as hexadecimal digits, and how it shows there.
WRITE = """if True:
    import collections, datetime, decimal, fractions, ipaddress, pathlib, pickle, queue, sys, uuid

    error = ValueError("x", [1])
    error.more = {"a": 1}
    try:
        open("/nonexistent")
    except OSError as caught:
        missing = caught
    try:
        None.x
    except AttributeError as caught:
        lacking = caught
    zone = datetime.timezone(datetime.timedelta(hours=2), "X")
    by_getattr = (3, 11) <= sys.version_info < (3, 11, 4)  # where enumerations pickle in that way
    for value in [
        {"a": [1, 2.5, None, True, b"b", "c"], (1, ("d",)): {2}}, frozenset([frozenset([1])]),
        2**4000, -2**70, bytearray(b"x"), bytearray(), b"", 1 + 2j, range(3), slice(1, None, 2.5),
        collections.OrderedDict(a=1), collections.Counter("abba"), collections.deque([1, 2], 5),
        collections.deque(), datetime.datetime(2024, 1, 2, 3, 4, 5, 6, zone), datetime.date.min,
        datetime.time(1, 2), datetime.timedelta(1, 2, 3), zone, datetime.timezone.utc,
        decimal.Decimal("1.50"), decimal.Decimal("NaN"), fractions.Fraction(1, 3),
        uuid.UUID(int=7), uuid.uuid1(), *([] if by_getattr else [uuid.SafeUUID.safe]),
        ipaddress.ip_address("10.0.0.1"), ipaddress.ip_address("::1"),
        ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_interface("10.0.0.1/8"),
        pathlib.PurePosixPath("/a/b"), pathlib.PureWindowsPath("c:/a"),
        ..., NotImplemented, ValueError, int, queue.Empty(), queue.Full(), error, missing, lacking,
        KeyError("x"), StopIteration(3), SystemExit(2), KeyboardInterrupt(),
        ValueError(TypeError(1)), SyntaxError("x", ("f", 1, 2, "line")),
        UnicodeDecodeError("utf-8", b"x", 0, 1, "no"), ImportError("x"),
        ImportError("x", name="n", path="p"), IndentationError("x", ["f", 1, 2, "l"]),
        SystemExit(ValueError("x")), StopIteration({"a": [1]}),
        collections.deque([collections.deque([1]), [collections.deque()]]),
    ]:
        for protocol in range(3, pickle.HIGHEST_PROTOCOL + 1):
            print(pickle.dumps(value, protocol).hex(), ascii(value))
"""


@pytest.mark.parametrize("python", ["this one", *other_pythons()])
def test_standard_values_of_every_python_come_through(python: str) -> None:
    done = run(sys.executable if python == "this one" else python, "-c", WRITE)
    lines = [line.split(" ", 1) for line in done.stdout.splitlines()]
    assert len(lines) > 100, done.stderr
    for data, shown in lines:
        loaded = safe_loads(bytes.fromhex(data))
        if not isinstance(loaded, collections.OrderedDict):  # shown in another way from 3.12 on
            assert ascii(loaded) == shown


@pytest.mark.sampled(8)
@pytest.mark.parametrize("protocol", range(3, pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "value",
    [
        [(i, str(i)) for i in range(20_000)],
        {(i, (i, i)): frozenset([i]) for i in range(2_000)},
        {i: (i, [i]) for i in range(2_000)},
        {2**100 * i: 2**9000 + i for i in range(100)},
        [b"x" * 100_000, {"y" * 100_000: [1, 2.5]}, (b"z" * 300_000, uuid.UUID(int=1))],
        [{"n": i, "at": uuid.UUID(int=i)} for i in range(1_000)],
        set(range(100_000)),
        {i: None for i in range(-5, 100_000) if i % 5},
        {i: i for i in range(10**12, 10**12 + 100_000)},
        [{i**7: None for i in range(1_000)} for _ in range(100)],
        frozenset(random.Random(1).getrandbits(60) for _ in range(19_000)),
        {(i, str(i)): 0.5 for i in range(50_000)},
    ],
    ids=[
        "tuples",
        "keys of tuples",
        "values of tuples",
        "long numbers",
        "long pieces",
        "objects",
        "a set of a row",
        "numbers in a row with holes",
        "long numbers in a row",
        "many dicts of any numbers",
        "any numbers",
        "keys with texts",
    ],
)
def test_large_data_comes_through(value: object, protocol: int) -> None:
    assert safe_loads(pickle.dumps(value, protocol)) == value


def with_ordinary_arguments(kind: type[BaseException]) -> BaseException:
    if issubclass(kind, (UnicodeDecodeError, UnicodeEncodeError)):
        text = b"x" if issubclass(kind, UnicodeDecodeError) else "x"
        return kind("utf-8", text, 0, 1, "no")
    if issubclass(kind, UnicodeTranslateError):
        return kind("x", 0, 1, "no")
    if kind.__name__.endswith("ExceptionGroup"):
        return kind("x", [ValueError(1), TypeError([2])])
    return kind(9999, "no") if issubclass(kind, OSError) else kind("x")


EXCEPTIONS = [
    kind
    for kind in vars(builtins).values()
    if isinstance(kind, type) and issubclass(kind, BaseException)
]


@pytest.mark.parametrize("kind", EXCEPTIONS)
def test_every_builtin_exception_comes_through_as_it_is(kind: type[BaseException]) -> None:
    error = with_ordinary_arguments(kind)
    error.more = {"a": [1]}  # type: ignore[attr-defined]
    for protocol in range(3, pickle.HIGHEST_PROTOCOL + 1):
        loaded = safe_loads(pickle.dumps(error, protocol))
        assert (type(loaded), repr(loaded)) == (type(error), repr(error))
        assert vars(loaded) == vars(error)


@pytest.mark.parametrize("kind", ["SyntaxError", "StopIteration", "ImportError", "SystemExit"])
def test_no_exception_loses_the_arguments_that_it_was_made_with(kind: str) -> None:
    with pytest.raises(Refused, match="may not be given attributes"):
        safe_loads(pickles.whole(pickles.emptied(kind, 2)))


def test_many_deques_with_a_deque_in_each_come_through() -> None:
    value = [collections.deque([collections.deque([n])]) for n in range(5_000)]
    assert safe_loads(pickle.dumps(value)) == value


def test_too_many_keys_are_refused_with_their_number() -> None:
    with pytest.raises(Refused, match="over 20000 keys that are no texts, nor numbers in a row"):
        safe_loads(pickle.dumps(dict.fromkeys(pickles.walk(16))))


def test_deep_data_comes_through() -> None:
    assert isinstance(safe_loads(pickles.whole(pickles.deep(100_000))), list)
    assert isinstance(safe_loads(pickles.whole(b"N" + b"\x85" * 100_000)), tuple)


def test_what_is_in_a_value_twice_is_the_same_there() -> None:
    one = {"a": uuid.UUID(int=1)}
    first, second = safe_loads(pickle.dumps([one, one]))  # type: ignore[misc]
    assert first is second


def test_where_a_path_was_in_313_it_need_not_be_here() -> None:
    made = pickles.called(pickles.named("pathlib._local", "PurePosixPath"), pickles.text("/a"))
    assert safe_loads(pickles.whole(made)) == pathlib.PurePosixPath("/a")


@pytest.mark.parametrize(
    "value",
    [fractions.Fraction(2**1000, 3), ipaddress.ip_network("::/0"), range(10**30), Path("x" * 9999)],
    ids=type,
)
def test_data_that_is_only_large_where_it_is_used_comes_through(value: object) -> None:
    assert safe_loads(pickle.dumps(value)) == value


small = st.recursive(
    st.none() | st.integers() | st.text() | st.binary() | st.uuids() | st.decimals(),
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text() | st.tuples(st.integers(), st.text()), inner)
        | st.frozensets(st.integers() | st.tuples(st.text()))
    ),
)


@given(small, st.integers(3, pickle.HIGHEST_PROTOCOL), st.data())
def test_nothing_but_an_unpickling_error_comes_out(
    value: object, protocol: int, data: st.DataObject
) -> None:
    whole = bytearray(pickle.dumps(value, protocol))
    for place in data.draw(st.lists(st.integers(0, len(whole) - 1), max_size=5)):
        whole[place] = data.draw(st.integers(0, 255))
    del whole[data.draw(st.integers(0, len(whole))) :]
    try:
        safe_loads(whole)
    except pickle.UnpicklingError:
        pass
