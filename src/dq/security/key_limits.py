"""Limits on the work for the keys of a message's dicts and sets: to hash them, and to compare those
whose hashes collide."""

from __future__ import annotations

import math
from collections.abc import Iterable

from dq.security.pickle_rules import MAX_COLLISIONS, Refused

# Values that one key may consist of. However they are nested, a stack of one MiB is enough.
MAX_WEIGHT = 10_000
MAX_HASHED = 10_000_000  # values that all keys may consist of: a fifth of a second's work
MAX_EQUAL_HASHES = 64  # keys with the same hash, each of which is compared with those before it
UNPREDICTABLE = (str, bytes)  # nobody can choose their hashes


class KeyLimits:
    """Counts the work for the keys of one message."""

    def __init__(self) -> None:
        self._weights: dict[int, int] = {}  # of tuples and frozensets, by their ids
        self._weighed: list[object] = []  # these objects, kept so that their ids are not reused
        self._hashed = 0  # weight of all keys so far
        self._by_hash: dict[int, list[object]] = {}
        self._tables: dict[int, _Table] = {}  # of dicts and sets, by their ids

    def weigh(self, made: tuple[object, ...] | frozenset[object]) -> None:
        """Note how many values a new tuple or frozenset consists of."""
        self._weights[id(made)] = min(1 + sum(map(self._weight, made)), MAX_WEIGHT + 1)
        self._weighed.append(made)

    def _weight(self, value: object) -> int:
        """How many values hashing this one visits; a large integer counts as several."""
        if isinstance(value, int):
            return 1 + value.bit_length() // 512
        return self._weights.get(id(value), 1)

    def add(self, keys: Iterable[object], found: object = None) -> None:
        """Count keys that are added to a dict or set, or to a new one if none is given.

        Raises:
            Refused: they would be too much work.
        """
        table = _Table(found) if found is None else self._tables.get(id(found))
        for key in keys:
            weight = self._weight(key)
            self._hashed += weight
            if weight > MAX_WEIGHT or self._hashed > MAX_HASHED:
                raise Refused("keys of so many values may not be unpickled here")
            if type(key) not in UNPREDICTABLE:
                table = table or self._tables.setdefault(id(found), _Table(found))
                table.add(key)
                self._compare(key)

    def _compare(self, key: object) -> None:
        same = self._by_hash.setdefault(hash(key), [])
        if key not in same:
            same.append(key)
        if len(same) > MAX_EQUAL_HASHES:
            raise Refused("so many keys of one hash may not be unpickled here")


class _Table:
    """Counts possible collisions between the keys of one dict or set, in order of insertion.

    CPython starts to search for a key's slot at its hash. As long as hashes rise, by no more than
    3/2 of the number of keys, no two searches start at the same slot, as in
    ``set(range(1_000_000))``.
    """

    __slots__ = ("chosen", "count", "first", "last", "orderly", "owner")

    def __init__(self, owner: object) -> None:
        self.owner = owner  # kept so that its id is not reused
        self.count = self.chosen = self.orderly = self.first = 0
        self.last = -1

    def add(self, key: object) -> None:
        if type(key) is tuple and any(part and type(part) in UNPREDICTABLE for part in key):
            return
        if not self.count:
            self.first = hash(key)
        place = hash(key) - self.first
        self.count += 1
        if self.last < place < 1.5 * (self.orderly + 1):
            self.orderly += 1
            self.last = place
        else:
            self.chosen += 1
        if self.chosen * self.count > MAX_COLLISIONS:
            raise Refused(
                f"over {math.isqrt(MAX_COLLISIONS)} keys that are no texts, nor numbers in a row,"
                " may not be unpickled here in one dict or set"
            )
