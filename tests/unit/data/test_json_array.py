"""The items of a JSON array."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dq.data.json_array import JsonArray
from dq.errors import BadInput
from support.reading import decoded


def array(data: bytes, size: int = 7) -> list[object]:
    chunks = [data[at : at + size] for at in range(0, len(data), size)]
    return decoded("jsonl", *JsonArray(chunks, "a.json").items())


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(
    st.lists(values),
    st.sampled_from([None, 2]),
    st.booleans(),
    st.integers(1, 40),
)
def test_the_items_of_an_array_are_what_json_has(
    items: list[object], indent: int | None, ascii: bool, size: int
) -> None:
    data = json.dumps(items, indent=indent, ensure_ascii=ascii)
    assert array(data.encode(errors="surrogatepass" if ascii else "replace"), size) == json.loads(
        data.encode(errors="surrogatepass" if ascii else "replace")
    )


def test_items_of_an_endless_array_come_as_they_are_there() -> None:
    chunks = itertools.chain([b"["], itertools.repeat(b'{"a": 1},\n'))
    assert list(itertools.islice(JsonArray(chunks, "x").items(), 3)) == [b'{"a": 1}'] * 3


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'{"a": 1}', "a.json does not hold a JSON array; for one JSON value on each line give"),
        (b"", "a.json does not hold a JSON array"),
        (b"[1, 2", "a.json item 2 is not followed by a comma or the array's end"),
        (b"[1 2]", "a.json item 1 is not followed by a comma or the array's end"),
        (b"[1, x]", "a.json item 2 is not JSON: Expecting value"),
        (b"[1,]", "a.json item 2 is not JSON: Expecting value"),
        (b"[NaN]", "a.json item 1 is not JSON: NaN is not JSON"),
        (b"[1] 2", "a.json has more after its JSON array"),
        (b'["\xe9"]', "a.json item 1 is not UTF-8"),
    ],
)
def test_what_is_no_array_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(BadInput) as caught:
        array(data)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("item", [b'{"a" 1}', b"[1, NaN]", b"[" * 100_000])
def test_no_more_is_read_of_an_array_than_it_takes_to_see_that_it_is_none(item: bytes) -> None:
    read = 0

    def chunks() -> Iterator[bytes]:
        nonlocal read
        yield b"[1, " + item
        while read < 10_000:
            read += 1
            yield b", 2" * 1000

    with pytest.raises(BadInput, match=r"a\.json item 2 is not JSON"):
        list(JsonArray(chunks(), "a.json").items())
    assert read < 100


def test_a_number_that_is_cut_off_at_an_arrays_end_is_no_item() -> None:
    items = JsonArray([b"[12, 34"], "a.json").items()
    assert next(items) == b"12"
    with pytest.raises(BadInput, match="item 2 is not followed by"):
        next(items)
