"""What a client's pickle may name: what standard data needs, and nothing that could do harm."""

from __future__ import annotations

import builtins
import collections
import datetime
import decimal
import fractions
import functools
import ipaddress
import operator
import os
import pathlib
import pickle
import queue
import socket
import subprocess
import threading
import uuid
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dq.security.pickle_rules import SAFE, Refused
from dq.security.safe_pickle import safe_loads

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.complex_numbers(allow_nan=False)
    | st.text()
    | st.binary()
    | st.binary().map(bytearray)
    | st.dates()
    | st.times()
    | st.datetimes(timezones=st.none() | st.just(datetime.timezone.utc))
    | st.timedeltas()
    | st.decimals(allow_nan=False)
    | st.fractions()
    | st.uuids()
    | st.ip_addresses()
    | st.text("abc/").map(pathlib.Path)
)
hashable = st.none() | st.integers() | st.text() | st.binary() | st.dates() | st.uuids()
values = st.recursive(
    scalars | st.sets(hashable) | st.frozensets(hashable),
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.lists(inner).map(collections.deque)
        | st.dictionaries(hashable, inner)
        | st.dictionaries(hashable, inner).map(collections.OrderedDict)
    ),
    max_leaves=10,
)


# Before protocol 3, bytes travel as calls of _codecs.encode; CPython 3.8 sends protocol 4.
@given(values, st.integers(3, pickle.HIGHEST_PROTOCOL))
def test_standard_values_come_through_in_every_protocol(value: object, protocol: int) -> None:
    assert safe_loads(pickle.dumps(value, protocol)) == value


@pytest.mark.parametrize(
    "value",
    [
        range(3),
        slice(1, 2),
        NotImplemented,
        ...,
        collections.Counter("abba"),
        ipaddress.ip_network("10.0.0.0/8"),
        pathlib.PurePosixPath("/a"),
        decimal.Decimal("NaN").copy_abs().is_nan(),
        fractions.Fraction(1, 3),
        uuid.UUID(int=7),
        datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone(datetime.timedelta(hours=2))),
    ],
    ids=repr,
)
def test_other_standard_data_comes_through(value: object) -> None:
    assert safe_loads(pickle.dumps(value)) == value


@pytest.mark.parametrize(
    "error",
    [queue.Empty(), queue.Full(), ValueError("x", 1), OSError(2, "no"), KeyboardInterrupt()],
)
def test_built_in_exceptions_come_through(error: BaseException) -> None:
    loaded = safe_loads(pickle.dumps(error))
    assert type(loaded) is type(error)
    assert isinstance(loaded, BaseException)
    assert loaded.args == error.args


class Call:
    """An object whose pickle calls something."""

    def __init__(self, function: object, *args: object) -> None:
        self.call = (function, args)

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return self.call


def touch(path: Path) -> None:
    path.touch()


@pytest.mark.parametrize(
    "function",
    [
        os.system,
        eval,
        exec,
        compile,
        open,
        print,
        getattr,
        setattr,
        __import__,
        map,
        filter,
        type,
        object,
        super,
        classmethod,
        functools.partial,
        functools.reduce,
        operator.attrgetter,
        operator.methodcaller,
        subprocess.Popen,
        socket.create_connection,
        pickle.loads,
        collections.defaultdict,
        collections.namedtuple,
        pathlib.Path.unlink,
        uuid.uuid1,
        threading.Thread,
        queue.Queue,
    ],
    ids=lambda function: getattr(function, "__qualname__", repr(function)),
)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_what_is_not_data_is_refused_by_name(function: object, protocol: int) -> None:
    with pytest.raises(Refused, match="may not be unpickled here"):
        safe_loads(pickle.dumps(Call(function, "x"), protocol))


def test_a_pickle_that_calls_is_refused_before_the_call(tmp_path: Path) -> None:
    with pytest.raises(Refused):
        safe_loads(pickle.dumps([1, 2, Call(touch, tmp_path / "touched")]))
    assert not (tmp_path / "touched").exists()


DOTTED = [
    ("builtins", "int.__class__"),
    ("builtins", "ValueError.__init__"),
    ("builtins", "dict.fromkeys"),
    ("pathlib", "Path.unlink"),
    ("pathlib", "os.system"),
    ("queue", "threading.Thread"),
    ("datetime", "sys.exit"),
    ("builtins", "__import__"),
    ("builtins", "__builtins__"),
    ("os", "system"),
    ("posix", "system"),
    ("nt", "system"),
    ("dq.transport.dialing", "dial"),
    ("__main__", "anything"),
    ("a.module.that.does.not.exist", "x"),
]


@pytest.mark.parametrize(("module", "name"), DOTTED, ids=lambda text: str(text))
def test_no_name_leads_out_of_the_list(module: str, name: str) -> None:
    def text(value: str) -> bytes:
        return b"\x8c" + bytes([len(value)]) + value.encode()

    forged = b"\x80\x04" + text(module) + text(name) + b"\x93."
    with pytest.raises(Refused, match="may not be unpickled here"):
        safe_loads(forged)


def test_everything_on_the_list_is_a_class_or_a_constant() -> None:
    for module, names in SAFE.items():
        for name in names.split():
            try:
                found = getattr(__import__(module, fromlist=["x"]), name)
            except (ImportError, AttributeError):
                continue  # of another Python
            assert isinstance(found, type) or found in (NotImplemented, ...)


def test_the_exceptions_that_pass_are_all_of_builtins() -> None:
    for name in dir(builtins):
        found = getattr(builtins, name)
        if isinstance(found, type) and issubclass(found, BaseException):
            assert safe_loads(pickle.dumps(found)) is found


@given(st.binary(max_size=200))
def test_garbage_is_an_error_and_nothing_worse(data: bytes) -> None:
    try:
        safe_loads(data)
    except Exception as error:
        assert not isinstance(error, SystemExit)  # noqa: PT017  # any Exception will do
