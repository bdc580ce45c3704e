"""Values into lines and records."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dq.core.records import Failure, Result
from dq.data import outputs
from dq.security.safe_pickle import safe_loads


def record(value: object, given: object = 1) -> dict[str, object]:
    def refuse(name: str) -> object:
        raise AssertionError(f"{name} is not JSON")

    loaded: dict[str, object] = json.loads(
        outputs.jsonl(Result(0, given, value)), parse_constant=refuse
    )
    return loaded


def test_a_record_has_these_keys_in_this_order() -> None:
    assert list(record(2)) == ["id", "input", "result", "attempts", "seconds", "worker"]


def test_a_failed_record_has_an_error_in_the_place_of_a_result() -> None:
    failed = Result(3, "in", error=Failure("ValueError", "no", "Traceback ..."), attempts=2)
    read = json.loads(outputs.jsonl(failed))
    assert read["error"] == {"type": "ValueError", "message": "no", "traceback": "Traceback ..."}
    assert "result" not in read
    assert (read["id"], read["input"], read["attempts"]) == (3, "in", 2)


def test_a_character_that_utf8_does_not_have_stands_in_json_as_its_escape() -> None:
    assert record("\ud800")["result"] == "\ud800"


@given(st.lists(st.text(st.characters(codec=None)), min_size=1))
def test_lines_can_be_written_whatever_is_in_them(values: list[str]) -> None:
    assert outputs.text("text", values).count(b"\n") >= len(values)


def test_bytes_that_are_no_utf8_go_out_as_they_came_and_other_surrogates_as_escapes() -> None:
    assert outputs.text("text", ["caf\udce9 \ud800"]) == b"caf\xe9 \\ud800\n"


def test_what_has_been_written_as_text_is_read_again() -> None:
    values = ["a", "b\nc", "\udce9"]
    blob = outputs.text(outputs.NUL_ENDED, values)
    assert outputs.read_text(outputs.NUL_ENDED, blob, 3) == values
    assert outputs.read_text("text", outputs.text("text", values), 3) is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(json_values)
def test_a_record_is_one_line_of_strict_json(value: object) -> None:
    line = outputs.jsonl(Result(0, value, value))
    assert line.count("\n") == 1
    assert line.isascii()
    if "Infinity" not in repr(value) and "inf" not in repr(value):
        assert json.loads(line)["result"] == value


def test_text_is_what_print_would_show() -> None:
    values = [1, "two", None, [3], "\ud800"]
    blob = outputs.encode("text", 0, [0] * 5, values, 1, "w")
    assert blob == b"1\ntwo\nNone\n[3]\n\\ud800\n"


def test_records_of_a_batch_count_on_from_its_start() -> None:
    blob = outputs.encode("jsonl", 7, ["a", "b"], [(1, 0.5), (2, 0.25)], 3, "here:1")
    read = [json.loads(line) for line in blob.splitlines()]
    assert [(r["id"], r["input"], r["result"], r["seconds"]) for r in read] == [
        (7, "a", 1, 0.5),
        (8, "b", 2, 0.25),
    ]
    assert {(r["attempts"], r["worker"]) for r in read} == {(3, "here:1")}


@pytest.mark.parametrize("form", outputs.OUTPUT_FORMATS)
def test_what_a_format_encodes_a_journal_reads_again(form: str) -> None:
    results: list[object] = ["a", "b"]
    if outputs.is_timed(form):
        results = [(value, 0.25) for value in results]
    blob = outputs.encode(form, 0, [1, 2], results, 1, "here:1")
    read = outputs.decode(form, blob, 2, safe_loads)
    if read is None:  # it has records as they are
        read = [json.loads(line) for line in blob.splitlines()]
    assert [record["result"] for record in read] == ["a", "b"]
    assert all(record["seconds"] == 0.25 for record in read if outputs.is_timed(form))
