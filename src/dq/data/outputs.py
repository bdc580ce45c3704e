"""Results: from a worker's values to blobs.

For the command line a worker's blob is finished text, which the master only copies; for the
Python interface it is pickled values.
"""

from __future__ import annotations

import json
import marshal
import os
import re
from collections.abc import Iterable, Sequence

from dq.core.records import Failure, Result
from dq.data import inputs

NUL_ENDED = "null-ended text"
TEXTS = {"text": "\n", NUL_ENDED: "\0"}  # forms that are a value's `str`, and what ends it there
PACKED = (".gz", ".bz2", ".xz", ".zst")  # what files are called that nobody writes here
TIMED = ("jsonl", "results")  # forms of results that have their seconds with them
NAMED = {".jsonl": "jsonl", ".ndjson": "jsonl"}  # what a file's name says that it is to hold

_LONE = re.compile("[\ud800-\udc7f\udd00-\udfff]")  # surrogates that stand for no byte


def format_of(path: str | None) -> str:
    """The format that a file's name asks for.

    >>> format_of("squares.jsonl"), format_of("squares.txt"), format_of(None)
    ('jsonl', 'text', 'text')
    """
    return NAMED.get(os.path.splitext(path or "")[1].lower(), "text")


def packing_of(path: str | None) -> str:
    """The suffix of a name that only a packed file should have; "" where it has none."""
    suffix = os.path.splitext(path or "")[1]
    return suffix if suffix.lower() in PACKED else ""


def encode(
    form: str,
    start: int,
    items: Sequence[object],
    results: Sequence[tuple[object, float]],
    attempt: int,
    worker: str,
) -> bytes:
    """The blob of consecutive tasks that returned, for a command.

    Args:
        form: one of `TEXTS`, or "jsonl".
        start: index of the first task.
        items: their inputs.
        results: their values and seconds.
        attempt: which attempt it was.
        worker: who ran them.
    """
    if form in TEXTS:
        return text(form, [value for value, _ in results])
    is_plain = are_plain([value for value, _ in results])
    lines = [
        jsonl(Result(start + place, item, value, None, attempt, seconds, worker), is_plain=is_plain)
        for place, (item, (value, seconds)) in enumerate(zip(items, results, strict=True))
    ]
    return "".join(lines).encode()


def is_command(form: str) -> bool:
    """Whether a job with this output is a command's, which alone asks for text."""
    return form in TEXTS or form == "jsonl"


def text(form: str, values: Iterable[object]) -> bytes:
    """Values as `print` shows them. A name that is not UTF-8 goes out as the bytes it came as.

    >>> text("text", [1, "caf\\udce9"])
    b'1\\ncaf\\xe9\\n'
    """
    end = TEXTS[form]
    joined = "".join([f"{value!s}{end}" for value in values])
    try:
        return joined.encode()
    except UnicodeEncodeError:
        joined = _LONE.sub(lambda match: f"\\u{ord(match[0]):x}", joined)
        return joined.encode(errors="surrogateescape")


def read_text(form: str, blob: bytes, count: int) -> list[str] | None:
    """The inverse of `text`; None where there is no telling which part is whose."""
    end = TEXTS[form]
    values = blob.decode(errors="surrogateescape").removesuffix(end)
    parts = values.split(end) if count > 1 else [values]
    return parts if len(parts) == count else None


def are_plain(values: Sequence[object]) -> bool:
    """Whether `json.dumps` may see values as they are. It takes a named tuple for a list and says
    nothing, where `marshal` refuses what is of no built-in type, at a twentieth of the time."""
    try:
        marshal.dumps(values, 2)  # type: ignore[arg-type]  # that it may refuse
    except ValueError:
        return False
    return True


def jsonl(result: Result[object], *, is_plain: bool = False) -> str:
    """One line of ``--format jsonl``.

    Args:
        result: the record.
        is_plain: whether it is known that there are no values of other types than JSON's, see
            `are_plain`.

    Raises:
        TypeError: a value in it has no form in JSON.

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
    return dumps(record, is_plain=is_plain) + "\n"


def dumps(record: dict[str, object], *, is_plain: bool = False) -> str:
    """A record as strict JSON; arguments and errors as for `jsonl`."""
    if is_plain or are_plain([record]):
        try:
            return json.dumps(record, allow_nan=False)
        except (TypeError, ValueError, RecursionError):  # sets, bytes, NaN, a key, a cycle
            pass
    from dq.data import json_forms  # here: few results need it

    return json.dumps(json_forms.form_of(record), allow_nan=False)


def failed(
    index: int, item: object, error: Failure, attempts: int, seconds: float, worker: str
) -> Result[object]:
    """The record of a task that failed; an input that could not be read stands as None."""
    given = None if isinstance(item, inputs.Bad) else item
    return Result(index, given, None, error, attempts, seconds, worker)
