"""Tasks of `test_api_arrays.py`."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
N = 100_000  # 800 kB


def doubled_in_place(array: Array) -> Array:
    array *= 2
    return array


def frame(array: Array) -> dict[str, object]:
    return {"array": array, "bytes": array.tobytes(), "sum": float(array.sum())}


def killed_once(pair: tuple[str, Array]) -> Array:
    path, array = pair
    array += 1
    if not Path(path).exists():
        Path(path).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return array


def one(x: object) -> object:
    return x


def look_up(x: int, table: Array, scale: float = 1.0) -> float:
    return float(table[x]) * scale
