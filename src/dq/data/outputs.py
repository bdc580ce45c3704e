"""The formats of results: what tasks return, as the blobs that workers send.

For a command, a worker's blob is finished text, which the master just copies. For the Python
interface it consists of pickled values.
"""

from __future__ import annotations

import json
import marshal
import os
import pickle
import re
from collections.abc import Callable, Iterable, Sequence

from dq._support.frozen import TYPE_CHECKING, cast, frozen
from dq.core.blobs import Blob
from dq.core.records import Failure, Loads, Result
from dq.data import batches, buffers, kept
from dq.data.pieces import BadValue, open_blob

if TYPE_CHECKING:
    from typing import Any

    # Index of the first task, inputs, results, attempt, name of the worker.
    Encode = Callable[[int, Sequence[object], Sequence[Any], int, str], Blob]
    # Blob, count, what unpickles.
    Decode = Callable[[Blob, int, Loads], list[dict[str, object]]]

NUL_ENDED = "null-ended text"
COMPRESSED_SUFFIXES = (".gz", ".bz2", ".xz", ".zst")  # of files that dq does not write

_LONE_SURROGATES = re.compile("[\ud800-\udc7f\udd00-\udfff]")  # those that stand for no byte


@frozen
class OutputFormat:
    """How the results of consecutive tasks become one blob.

    Args:
        encode: makes the blob.
        decode: gives the fields of each result's record, for `dq journal`; None where the blob
            has lines of such records already.
        is_timed: whether a result is a pair of value and seconds, rather than the value.
        is_command: whether it is text, for a command.
        is_both: whether it has values as text as well as pickled.
        has_exceptions: whether what a task raises is sent along, to be raised again.
        end: what ends each value, where a value is written as its `str`.
        suffixes: of the names of files that are to hold it.
    """

    encode: Encode
    decode: Decode | None = None
    is_timed: bool = False
    is_command: bool = False
    is_both: bool = False
    has_exceptions: bool = False
    end: str = ""
    suffixes: tuple[str, ...] = ()


# Pickled, for the Python interface


def _encode_values(
    start: int, items: Sequence[object], values: Sequence[object], attempt: int, worker: str
) -> Blob:
    return batches.dump(values)


def _decode_values(blob: Blob, count: int, loads: Loads) -> list[dict[str, object]]:
    return [_field_of(value) for value in batches.load(blob, loads)]


def _field_of(value: object) -> dict[str, object]:
    return {} if isinstance(value, BadValue) else {"result": value}


def _encode_timed(
    start: int,
    items: Sequence[object],
    results: Sequence[tuple[object, float]],
    attempt: int,
    worker: str,
) -> Blob:
    blob = batches.dump([value for value, _ in results])
    head = pickle.dumps((buffers.head_of(blob), [seconds for _, seconds in results]))
    return buffers.with_head(blob, head)


def _decode_timed(blob: Blob, count: int, loads: Loads) -> list[dict[str, object]]:
    values, seconds, _ = load_timed(blob, loads)
    return _timed(map(_field_of, values), seconds)


def _timed(fields: Iterable[dict[str, object]], seconds: list[float]) -> list[dict[str, object]]:
    pairs = zip(fields, seconds, strict=True)
    return [{**field, "seconds": round(took, 6)} for field, took in pairs]


def load_timed(blob: Blob, loads: Loads = pickle.loads) -> tuple[list[object], list[float], bool]:
    """The values and seconds of a blob of "results", and whether one value is a `BadValue`."""
    blob, pair = open_blob(blob, loads)
    head, seconds = cast("tuple[bytes, list[float]]", pair)
    values, has_bad = batches.load_checked(buffers.with_head(blob, head), loads)
    return values, seconds, has_bad


# For a job on a serving master, whose readers choose the form


def _encode_kept(
    start: int,
    items: Sequence[object],
    results: Sequence[tuple[object, float]],
    attempt: int,
    worker: str,
) -> Blob:
    values = [value for value, _ in results]
    forms: dict[int, kept.Forms] = {}
    if not are_plain(values):
        forms = {place: _forms(one) for place, one in enumerate(values) if not are_plain([one])}
        values = [None if place in forms else one for place, one in enumerate(values)]
    return kept.dump(values, [seconds for _, seconds in results], forms)


def _forms(value: object) -> kept.Forms:
    """The forms of a value whose type is not built in."""
    json: str | None = None
    why = ""
    pickled: bytes | None
    try:
        json = dumps({"result": value})
    except TypeError as error:
        why = str(error)
    try:
        pickled = batches.joined(batches.dump([value]))
    except Exception:  # by the value's own code
        pickled = None
    return kept.Forms(text=str(value), json=json, why=why, pickled=pickled)


def _decode_kept(blob: Blob, count: int, loads: Loads) -> list[dict[str, object]]:
    values, seconds = kept.load(blob, loads)
    return _timed(map(_field_of_kept, values), seconds)


def _field_of_kept(value: object) -> dict[str, object]:
    if not isinstance(value, kept.Forms):
        return _field_of(value)
    return {"result": value.text} if value.json is None else json.loads(value.json)


# Text, for a command


def text(form: str, values: Iterable[object]) -> bytes:
    """Values as `print` shows them. A file's name that is not UTF-8 keeps its bytes.

    >>> text("text", [1, "caf\\udce9"])
    b'1\\ncaf\\xe9\\n'
    """
    end = OUTPUT_FORMATS[form].end
    joined = "".join([f"{value!s}{end}" for value in values])
    try:
        return joined.encode()
    except UnicodeEncodeError:
        joined = _LONE_SURROGATES.sub(lambda match: f"\\u{ord(match[0]):x}", joined)
        return joined.encode(errors="surrogateescape")


def read_text(form: str, blob: Blob, count: int) -> list[str] | None:
    """The inverse of `text`; None if a value contains the mark that ends values."""
    end = OUTPUT_FORMATS[form].end
    values = buffers.head_of(blob).decode(errors="surrogateescape").removesuffix(end)
    parts = values.split(end) if count > 1 else [values]
    return parts if len(parts) == count else None


def _text_format(form: str, end: str) -> OutputFormat:
    def encode(
        start: int, items: Sequence[object], values: Sequence[object], attempt: int, worker: str
    ) -> bytes:
        return text(form, values)

    def decode(blob: Blob, count: int, loads: Loads) -> list[dict[str, object]]:
        texts = read_text(form, blob, count)
        return [{}] * count if texts is None else [{"result": text} for text in texts]

    return OutputFormat(encode=encode, decode=decode, is_command=True, end=end)


def _encode_jsonl(
    start: int,
    items: Sequence[object],
    results: Sequence[tuple[object, float]],
    attempt: int,
    worker: str,
) -> bytes:
    is_plain = are_plain([value for value, _ in results])
    lines = [
        jsonl(Result(start + place, item, value, None, attempt, seconds, worker), is_plain=is_plain)
        for place, (item, (value, seconds)) in enumerate(zip(items, results, strict=True))
    ]
    return "".join(lines).encode()


#: By the names that `JobSpec.output` has for them.
OUTPUT_FORMATS = {
    "values": OutputFormat(encode=_encode_values, decode=_decode_values, has_exceptions=True),
    "results": OutputFormat(encode=_encode_timed, decode=_decode_timed, is_timed=True),
    "text": _text_format("text", end="\n"),
    "kept": OutputFormat(
        encode=_encode_kept,
        decode=_decode_kept,
        is_timed=True,
        is_both=True,
        has_exceptions=True,
    ),
    NUL_ENDED: _text_format(NUL_ENDED, end="\0"),
    "jsonl": OutputFormat(
        encode=_encode_jsonl, is_timed=True, is_command=True, suffixes=(".jsonl", ".ndjson")
    ),
}
#: Those that `--format` offers.
CHOICES = [name for name, each in OUTPUT_FORMATS.items() if each.is_command and name != NUL_ENDED]


def encode(
    form: str,
    start: int,
    items: Sequence[object],
    results: Sequence[object],
    attempt: int,
    worker: str,
) -> Blob:
    """The blob of consecutive tasks that returned.

    Args:
        form: one of `OUTPUT_FORMATS`.
        start: index of the first task.
        items: their inputs; needed for records alone.
        results: their values, or pairs of value and seconds where the format is timed.
        attempt: which attempt it was.
        worker: who ran them.
    """
    return OUTPUT_FORMATS[form].encode(start, items, results, attempt, worker)


def decode(form: str, blob: Blob, count: int, loads: Loads) -> list[dict[str, object]] | None:
    """The fields that each result of a blob gives to a record; None where the blob has lines of
    such records already."""
    decode = OUTPUT_FORMATS.get(form, OUTPUT_FORMATS["values"]).decode
    return None if decode is None else decode(blob, count, loads)


def is_timed(form: str) -> bool:
    """Whether results in this format come with their seconds."""
    return OUTPUT_FORMATS[form].is_timed


def is_command(form: str) -> bool:
    """Whether a job with this output is a command's."""
    return OUTPUT_FORMATS[form].is_command


def has_exceptions(form: str) -> bool:
    """Whether what a task raises is sent along, to be raised again in the caller."""
    return OUTPUT_FORMATS[form].has_exceptions


def has_text(form: str) -> bool:
    """Whether results in this format are there as text."""
    return OUTPUT_FORMATS[form].is_command or OUTPUT_FORMATS[form].is_both


def has_pickles(form: str) -> bool:
    """Whether results in this format are pickled."""
    return not OUTPUT_FORMATS[form].is_command


def is_text(form: str) -> bool:
    """Whether each value is written as its `str`, without a record."""
    return OUTPUT_FORMATS[form].end != ""


def format_of(path: str | None) -> str:
    """The format that a file's name stands for.

    >>> format_of("squares.jsonl"), format_of("squares.txt"), format_of(None)
    ('jsonl', 'text', 'text')
    """
    suffix = os.path.splitext(path or "")[1].lower()
    return next((name for name, each in OUTPUT_FORMATS.items() if suffix in each.suffixes), "text")


def compressed_suffix_of(path: str | None) -> str:
    """The suffix of a name that stands for a compressed file; "" where there is none."""
    suffix = os.path.splitext(path or "")[1]
    return suffix if suffix.lower() in COMPRESSED_SUFFIXES else ""


# Records


def are_plain(values: Sequence[object]) -> bool:
    """Whether all types in these values are built in, so that `json.dumps` can write them as they
    are. (It would write a named tuple as a list.) `marshal` refuses any other type, in a twentieth
    of the time."""
    try:
        marshal.dumps(values, 2)  # type: ignore[arg-type]  # marshal may refuse a value
    except ValueError:
        return False
    return True


def jsonl(result: Result[object], *, is_plain: bool = False) -> str:
    """One line of ``--format jsonl``.

    Args:
        result: the record.
        is_plain: whether `are_plain` is known of it.

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
    """The record of a task that failed, with None for an input that could not be read."""
    given = None if isinstance(item, BadValue) else item
    return Result(
        id=index, input=given, error=error, attempts=attempts, seconds=seconds, worker=worker
    )
