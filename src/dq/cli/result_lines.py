"""The results of a job on a serving master, as `dq run` would have written them.

Nothing of a task's own is unpickled for this: the master keeps values of built-in types, and for
others the forms that their workers have made.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import cast

from dq._support.frozen import frozen
from dq.cli.failures import named
from dq.core.records import Failure, Reading, Result
from dq.data import batches, kept
from dq.data.decoding import Decoder
from dq.data.outputs import is_text, jsonl, text
from dq.data.pieces import BadValue
from dq.security.safe_pickle import safe_loads
from dq.service.results import Row

UNKNOWN: object = BadValue(Failure("KeyError", "this input was not fetched"))


@frozen
class ResultLines:
    """Some results, written.

    Args:
        blob: what goes to the output.
        failed: the results of those that failed, or cannot be written in this format.
    """

    blob: bytes
    failed: tuple[Result[object], ...] = ()


class LineMaker:
    """Makes the lines of results.

    Args:
        form: the format.
        reading: how inputs are read.
        fill: what is written for a failed task in text; None for nothing.
    """

    def __init__(self, form: str, reading: Reading, fill: str | None) -> None:
        self._form = form
        self._decoder = Decoder(reading, safe_loads)
        self._fill = fill

    @property
    def needs_inputs(self) -> bool:
        """Whether lines have the inputs in them."""
        return not is_text(self._form)

    def lines(self, row: Row) -> ResultLines:
        """The lines of consecutive tasks."""
        start, count, attempts, worker, blob, failure, seconds, items = row
        inputs = [UNKNOWN] * count if items is None else self._inputs(items)
        if failure is not None:
            cause = Failure(*failure[:3])
            return self._failed(Result(start, inputs[0], None, cause, attempts, seconds, worker))
        values, times = kept.load(blob, safe_loads)
        if is_text(self._form):
            try:
                return ResultLines(text(self._form, map(_as_text, values)))
            except ValueError:  # an integer of more digits than Python converts
                pass
        found = [
            self._line(Result(start + n, inputs[n], values[n], None, attempts, times[n], worker))
            for n in range(count)
        ]
        failed = tuple(result for one in found for result in one.failed)
        return ResultLines(b"".join(one.blob for one in found), failed)

    def _inputs(self, items: list[bytes]) -> list[object]:
        return self._decoder.decode(batches.dump(items), 0, len(items))

    def _line(self, result: Result[object]) -> ResultLines:
        try:
            if is_text(self._form):
                return ResultLines(text(self._form, [_as_text(result.value)]))
            return ResultLines(_record(_as_json(result)))
        except (TypeError, ValueError) as error:
            cause = Failure(type(error).__name__, f"this result cannot be sent: {error}")
            return self._failed(replace(result, value=None, error=cause))

    def _failed(self, result: Result[object]) -> ResultLines:
        if not is_text(self._form):
            return ResultLines(_record(result), (result,))
        filled = b"" if self._fill is None else text(self._form, [self._fill])
        return ResultLines(filled, (result,))


def name_of(result: Result[object]) -> str:
    """The name of a task, with its input if that is known here."""
    return named(result.id, result.input, known=not isinstance(result.input, BadValue))


def _as_text(value: object) -> object:
    return value.text if isinstance(value, kept.Forms) else value


def _as_json(result: Result[object]) -> Result[object]:
    value = result.value
    if not isinstance(value, kept.Forms):
        return result
    if value.json is None:
        raise TypeError(value.why)
    return replace(result, value=json.loads(value.json)["result"])


def _record(result: Result[object]) -> bytes:
    """A line of JSON. It has no input if that cannot be had here: a null could be one."""
    if not isinstance(result.input, BadValue):
        return jsonl(result).encode()
    record = cast("dict[str, object]", json.loads(jsonl(replace(result, input=None))))
    del record["input"]
    return (json.dumps(record) + "\n").encode()
