"""The items of a file that is one JSON array."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterable, Iterator

from dq._support.naming import setting
from dq.data.parsing import json_decoder
from dq.errors import BadInput

READ_CHARS = 1 << 16  # to read at a time, when the current item may be complete
MAX_TOKEN_CHARS = len("-Infinity")  # of JSON's tokens other than strings and numbers

_SPACE = re.compile(r"[ \t\n\r]*")


class JsonArray:
    """The items of a JSON array that is read in chunks. No more of it is in memory than its largest
    item and a chunk.

    Args:
        chunks: the file's bytes.
        name: what to call it in errors.

    >>> list(JsonArray([b'[1, {"a": ', b'[2, 3]}]'], "x").items())
    [b'1', b'{"a": [2, 3]}']
    """

    def __init__(self, chunks: Iterable[bytes], name: str) -> None:
        self._chunks = iter(chunks)
        self._name = name
        self._utf8 = codecs.getincrementaldecoder("utf-8-sig")()
        self._text = ""
        self._at = 0
        self._count = 0

    def items(self) -> Iterator[bytes]:
        if self._next() != "[":
            raise BadInput(
                f"{self._name} does not hold a JSON array; for one JSON value on each line give"
                f" {setting('input_format')} jsonl"
            )
        self._at += 1
        if self._next() == "]":
            self._finish()
            return
        while True:
            self._count += 1
            item = self._item()
            end = self._next()  # check this before yielding: the item may be part of a bad number
            if end not in (",", "]"):
                raise self._bad("is not followed by a comma or the array's end")
            yield item.encode()
            if end == "]":
                self._finish()
                return
            self._at += 1

    def _item(self) -> str:
        """The text of the next item. Move the position behind it, and read more if the item may be
        incomplete."""
        while True:
            self._next()
            try:
                _, end = json_decoder.raw_decode(self._text, self._at)
            except (ValueError, RecursionError) as error:
                if self._may_go_on(error) and self._read(len(self._text)):
                    continue
                raise self._bad(f"is not JSON: {getattr(error, 'msg', None) or error}") from None
            if end == len(self._text) and self._read(READ_CHARS):
                continue  # a number may have more digits
            item, self._at = self._text[self._at : end], end
            return item

    def _may_go_on(self, error: Exception) -> bool:
        """Whether text that is not JSON may become JSON with more of the file. Without this check,
        an error at the start would read the whole file into memory."""
        if not isinstance(error, json.JSONDecodeError):
            return False
        is_open = error.msg.startswith("Unterminated string")
        return is_open or error.pos >= len(self._text) - MAX_TOKEN_CHARS

    def _next(self) -> str:
        """The next character that is not space; "" at the end."""
        while True:
            match = _SPACE.match(self._text, self._at)
            assert match is not None
            self._at = match.end()
            if self._at < len(self._text) or not self._read(READ_CHARS):
                return self._text[self._at : self._at + 1]

    def _read(self, size: int) -> bool:
        """Read up to `size` more characters; False if there are none left."""
        parts: list[str] = []
        while size > 0:
            chunk = next(self._chunks, b"")
            try:
                parts.append(self._utf8.decode(chunk, final=not chunk))
            except UnicodeDecodeError:
                raise self._bad("is not UTF-8") from None
            if not chunk:
                break
            size -= len(parts[-1])
        self._text, self._at = self._text[self._at :] + "".join(parts), 0
        return any(parts)

    def _finish(self) -> None:
        self._at += 1
        if self._next():
            raise BadInput(f"{self._name} has more after its JSON array")

    def _bad(self, what: str) -> BadInput:
        return BadInput(f"{self._name} item {max(self._count, 1)} {what}")
