"""Results: from a worker's values to blobs.

For the command line a worker's blob is finished text, which the master only copies; for the
Python interface it is pickled values.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from dq import inputs
from dq.records import Failure, Result

FORMATS = ("text", "jsonl")


def encode(
    form: str,
    start: int,
    items: Sequence[object],
    results: Sequence[tuple[object, float]],
    attempt: int,
    worker: str,
) -> bytes:
    """The blob of consecutive tasks that returned, in "text" or "jsonl".

    Args:
        form: which of the two.
        start: index of the first task.
        items: their inputs.
        results: their values and seconds.
        attempt: which attempt it was.
        worker: who ran them.
    """
    if form == "text":
        return "".join([f"{value}\n" for value, _ in results]).encode(errors="backslashreplace")
    lines = [
        jsonl(Result(start + place, item, value, None, attempt, seconds, worker))
        for place, (item, (value, seconds)) in enumerate(zip(items, results, strict=True))
    ]
    return "".join(lines).encode()


def is_command(form: str) -> bool:
    """Whether a job with this output is a command's, which alone asks for text."""
    return form in ("text", "jsonl")


def jsonl(result: Result[object]) -> str:
    """One line of ``--format jsonl``; what JSON does not know stands in it as its `str`.

    >>> jsonl(Result(0, 3, 9, seconds=0.25, worker="here:1"))[:-1]
    '{"id": 0, "input": 3, "result": 9, "attempts": 1, "seconds": 0.25, "worker": "here:1"}'
    """
    record: dict[str, object] = {"id": result.id, "input": result.input}
    if result.error is None:
        record["result"] = result.value
    else:
        error = result.error
        record["error"] = {
            "type": error.type,
            "message": error.message,
            "traceback": error.traceback,
        }
    record |= {
        "attempts": result.attempts,
        "seconds": round(result.seconds, 6),
        "worker": result.worker,
    }
    return dumps(record) + "\n"


def dumps(record: dict[str, object]) -> str:
    """JSON, in which what JSON does not know stands as its `str`."""
    try:
        return json.dumps(record, default=str, allow_nan=False)
    except (TypeError, ValueError, RecursionError):  # keys that are no strings, a cycle, NaN
        plain = {key: value if _is_json(value) else str(value) for key, value in record.items()}
        return json.dumps(plain)


def _is_json(value: object) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return False
    return True


def failed(
    index: int, item: object, error: Failure, attempts: int, seconds: float, worker: str
) -> Result[object]:
    """The record of a task that failed; an input that could not be read stands as None."""
    given = None if isinstance(item, inputs.Bad) else item
    return Result(index, given, None, error, attempts, seconds, worker)
