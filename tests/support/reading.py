"""What a worker makes of inputs, and files to read them from."""

from __future__ import annotations

from pathlib import Path

from dq.core.records import Reading
from dq.data import batches
from dq.data.decoding import Decoder
from dq.data.pieces import BadValue


def decoded(reading: Reading | str, *items: object) -> list[object]:
    """The values of these inputs; in the place of a bad one, what is said of it."""
    decoder = Decoder(Reading(reading) if isinstance(reading, str) else reading)
    values = decoder.decode(batches.dump(items), 0, len(items))
    return [value.failure.message if isinstance(value, BadValue) else value for value in values]


def written(folder: Path, name: str, data: bytes) -> str:
    """The path of a new file."""
    path = folder / name
    path.write_bytes(data)
    return str(path)
