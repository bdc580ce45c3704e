"""Converts values of types that JSON does not have into values that it has.

Imported only if a batch has such a value: `json.dumps` writes built-in data as they are.
"""

from __future__ import annotations

import array
import base64
import dataclasses
import datetime
import decimal
import enum
import fractions
import ipaddress
import json
import math
import sys
import uuid
from collections import UserString, deque
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from pathlib import PurePath
from typing import Any, cast

# Types that are written as their `str`.
AS_TEXT = (
    decimal.Decimal,
    fractions.Fraction,
    uuid.UUID,
    PurePath,
    UserString,
    ipaddress.IPv4Address,
    ipaddress.IPv4Interface,
    ipaddress.IPv4Network,
    ipaddress.IPv6Address,
    ipaddress.IPv6Interface,
    ipaddress.IPv6Network,
)
AS_LIST = (list, tuple, deque, range, Sequence)


def form_of(value: object) -> object:
    """Convert a value into one that `json.dumps` can write.

    Raises:
        TypeError: it has no form in JSON.

    >>> form_of({"loss": float("nan"), "seen": {3, 1}, "day": datetime.date(2026, 1, 2)})
    {'loss': None, 'seen': [1, 3], 'day': '2026-01-02'}
    >>> form_of(b"abc")
    {'base64': 'YWJj'}
    """
    try:
        return _Former().form(value)
    except RecursionError:
        raise TypeError("it is nested too deeply for JSON") from None


class _Former:
    def __init__(self) -> None:
        self._within: set[int] = set()  # ids of the containers around the current value

    def form(self, value: Any) -> object:
        if value is None or type(value) in (str, int, bool):
            return value
        if isinstance(value, float):
            return float(value) if math.isfinite(value) else None
        own = id(value)
        if own in self._within:
            raise TypeError("it contains itself, which JSON cannot")
        self._within.add(own)
        try:
            return self._form(value)
        finally:
            self._within.discard(own)

    def _form(self, value: Any) -> object:
        if isinstance(value, enum.Enum):
            return self.form(value.value)
        numpy = sys.modules.get("numpy")
        if numpy is not None and isinstance(value, numpy.generic):
            return self._numpy_scalar(value, numpy)
        if isinstance(value, str):
            return str.__str__(value)
        if isinstance(value, int):
            return int(value)
        if numpy is not None and isinstance(value, numpy.ndarray):
            return self._numpy_array(value, numpy)
        if isinstance(value, AS_TEXT):
            return str(value)
        if isinstance(value, bytes | bytearray | memoryview):
            return {"base64": base64.b64encode(value).decode()}
        if isinstance(value, datetime.date | datetime.time | datetime.timedelta):
            return _time(value)
        return self._of_many(value)

    def _of_many(self, value: Any) -> object:
        """The form of a value that may contain others."""
        if (fields := _fields_of(value)) is not None:
            return {name: self.form(getattr(value, name)) for name in fields}
        if isinstance(value, Mapping):
            return self._mapping(value)
        if isinstance(value, Set):
            return _in_order([self.form(item) for item in value])
        if isinstance(value, AS_LIST):
            return [self.form(item) for item in value]
        return self._by_protocol(value)

    def _by_protocol(self, value: Any) -> object:
        """The form of an object with a method that returns built-in data."""
        kind = type(value)
        if isinstance(value, array.array) or _is_method(kind, "tolist"):  # tensors and series, too
            return self.form(value.tolist())
        if _is_method(kind, "model_dump"):  # pydantic's
            return self.form(value.model_dump())
        if kind.__name__ == "NAType" and kind.__module__.partition(".")[0] == "pandas":
            return None
        raise TypeError(f"{_named(kind)} has no form in JSON; {_advice(kind)}")

    def _mapping(self, value: Mapping[Any, object]) -> dict[str, object]:
        found: dict[str, object] = {}
        for key, item in value.items():
            text = self._key(key)
            if text in found:
                raise TypeError(f"two of its keys are {text!r} in JSON")
            found[text] = self.form(item)
        return found

    def _key(self, key: object) -> str:
        """A key that is no string as `json.dumps` writes it: 1 as "1", True as "true"."""
        if isinstance(key, float) and not math.isfinite(key):
            return json.dumps(float(key))
        form = self.form(key)
        if isinstance(form, str):
            return form
        if isinstance(form, list | dict):
            raise TypeError(f"a key of type {_named(type(key))} has no form in JSON")
        return json.dumps(form)

    def _numpy_scalar(self, value: Any, numpy: Any) -> object:
        if isinstance(value, numpy.bool_):
            return bool(value)
        if isinstance(value, numpy.integer) and not isinstance(value, numpy.timedelta64):
            return int(value)
        if isinstance(value, numpy.floating):
            return self.form(float(value))
        if isinstance(value, numpy.datetime64 | numpy.timedelta64):
            return _numpy_time(value, numpy)
        if isinstance(value, numpy.void) and value.dtype.names:
            return {name: self.form(value[name]) for name in value.dtype.names}
        if isinstance(value, numpy.str_ | numpy.bytes_ | numpy.void):
            return self.form(value.item())
        raise TypeError(f"{_named(type(value))} has no form in JSON; {_advice(type(value))}")

    def _numpy_array(self, value: Any, numpy: Any) -> object:
        kind = value.dtype.kind
        if kind in "biuU" or (kind == "f" and numpy.isfinite(value).all()):
            return self._plain_array(value)
        if not value.ndim:
            return self.form(value[()])
        if isinstance(value, numpy.ma.MaskedArray) and kind in "bfiuU":
            return self.form(value.tolist())  # None where it is masked
        return [self.form(item) for item in value]

    def _plain_array(self, value: Any) -> object:
        """An array of numbers or text. `tolist` would leave long doubles as they are."""
        return value.astype(float).tolist() if value.dtype.char == "g" else value.tolist()


def _fields_of(value: Any) -> Iterable[str] | None:
    """The fields of a dataclass, a named tuple or an attrs class."""
    kind = type(value)
    if dataclasses.is_dataclass(kind):
        return [field.name for field in dataclasses.fields(kind)]
    if isinstance(value, tuple):
        return cast("tuple[str, ...] | None", getattr(kind, "_fields", None))
    attributes = getattr(kind, "__attrs_attrs__", None)
    return None if attributes is None else [attribute.name for attribute in attributes]


def _is_method(kind: type, name: str) -> bool:
    return callable(getattr(kind, name, None))


def _in_order(items: list[object]) -> list[object]:
    """The items of a set, sorted, since its own order may differ next time."""
    try:
        types = {type(item) for item in items}
        if types <= {int, float, bool} or types == {str}:
            return sorted(items)  # type: ignore[type-var]
    except TypeError:
        pass
    return sorted(items, key=json.dumps)


def _time(value: datetime.date | datetime.time | datetime.timedelta) -> str | None:
    if value != value:  # pandas' NaT
        return None
    return _duration(value) if isinstance(value, datetime.timedelta) else value.isoformat()


def _duration(value: datetime.timedelta) -> str:
    """A duration as ISO 8601 has it, in seconds.

    >>> _duration(datetime.timedelta(minutes=-1, milliseconds=500))
    '-PT59.5S'
    """
    micros = value // datetime.timedelta(microseconds=1)
    seconds, rest = divmod(abs(micros), 1_000_000)
    fraction = f".{rest:06}".rstrip("0") if rest else ""
    return f"{'-' if micros < 0 else ''}PT{seconds}{fraction}S"


def _numpy_time(value: Any, numpy: Any) -> object:
    if numpy.isnat(value):
        return None
    if isinstance(value, numpy.datetime64):
        return str(value)  # ISO 8601, at its own precision
    return _duration(datetime.timedelta(microseconds=int(value / numpy.timedelta64(1, "us"))))


def _named(kind: type) -> str:
    home = "" if kind.__module__ in ("builtins", "__main__") else f"{kind.__module__}."
    return f"{home}{kind.__qualname__}"


def _advice(kind: type) -> str:
    is_frame: Callable[..., object] | None = getattr(kind, "to_dict", None)
    return "return its to_dict()" if callable(is_frame) else "return a dict, a list or a text"
