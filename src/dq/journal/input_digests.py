"""Digests of inputs, by which a resumed run notices that one has changed."""

from __future__ import annotations

import hashlib
import pickle
import zlib
from array import array
from collections.abc import Sequence
from contextlib import suppress
from typing import cast

from dq.core.records import Batch
from dq.data.buffers import LargePickle
from dq.data.pickling import SCALARS, dump_one
from dq.data.pieces import pieces
from dq.security.safe_pickle import safe_loads


def part_of(item: object, lines: bool) -> bytes:
    """The bytes of an input that are digested. A line is digested without its newline, which the
    last line of a file may lack. A value becomes bytes that differ for different values."""
    if lines:
        return cast("bytes", item).removesuffix(b"\n")
    try:
        if type(item) in SCALARS:
            return _text_of(item)
        return _bytes_of(LargePickle.of(item, {}))
    except Exception:
        return b""  # it cannot be pickled, so no worker ever had it


def _text_of(scalar: object) -> bytes:
    try:
        return repr(scalar).encode()
    except ValueError:  # an integer of more than 4,300 digits
        return pickle.dumps(scalar)


def part_again(value: object) -> bytes:
    """The same for a value after pickling and unpickling it, which may have happened to the
    recorded one. Equal strings of one character are then one object, which changes the pickle."""
    try:
        value = pickle.loads(dump_one(value))
    except Exception:
        return b""
    return part_of(value, False)


def parts_in(batch: Batch, lines: bool) -> list[bytes]:
    """The same for the inputs of a batch. It uses the batch's own pickles, because a value that is
    unpickled and pickled again may give other bytes."""
    parts: list[bytes] = []
    found = pieces(batch.blob, pickle.loads, batch.skip, batch.count, apart=True)
    for pickled, items in found:
        part = _part_of_pickle if pickled else part_of
        parts += [part(item, lines) for item in items]
    return parts


def _bytes_of(value: LargePickle) -> bytes:
    """The bytes for a value. Its pickle begins as dq 0.1.0 had it, so that journals of then can be
    resumed."""
    pickled = value.pickle
    if isinstance(pickled, str):
        return b"".join([pickled.encode(), *value.buffers])
    return b"".join([_PROTOCOL_4, pickled[len(_PROTOCOL_4) :], *value.buffers])


_PROTOCOL_4 = b"\x80\x04"


def _part_of_pickle(piece: bytes | LargePickle, lines: bool) -> bytes:
    """The bytes for one pickle, which may be of a line or another scalar."""
    whole = piece if isinstance(piece, LargePickle) else LargePickle(piece, ())
    with suppress(Exception):
        value = whole.load(safe_loads)
        if type(value) in SCALARS:
            return part_of(value, lines)
    return _bytes_of(whole)


def digest_of(parts: Sequence[bytes]) -> tuple[bytes, bytes]:
    """A digest of inputs, and a four-byte checksum of each, to find a changed one."""
    digest = hashlib.blake2b(array("Q", map(len, parts)).tobytes(), digest_size=16)
    digest.update(b"".join(parts))
    return digest.digest(), array("I", map(zlib.crc32, parts)).tobytes()
