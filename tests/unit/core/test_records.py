"""The frozen records that travel through dq."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dq.core import records
from dq.core.records import RECORD_BYTES, Batch, Done, Failed, Failure, Reading, Recorded, Result

BATCH = Batch("j", 10, 5, b"in")
FAILURE = Failure("ValueError", "no such day", "Traceback ...")
EXAMPLES = [
    BATCH,
    FAILURE,
    Reading("csv", ("a", "b"), delimiter=";"),
    Done(5, b"out", 0.5),
    Failed(FAILURE),
    Recorded(BATCH, Done(5, b"out"), 2, "host:1"),
    Result(3, input="x", value=9),
]


def test_every_kind_of_record_has_an_example_here() -> None:
    kinds = {kind for _, kind in inspect.getmembers(records, dataclasses.is_dataclass)}
    assert {type(example) for example in EXAMPLES} == kinds


@pytest.mark.parametrize("record", EXAMPLES, ids=lambda record: type(record).__name__)
def test_a_record_survives_pickling(record: object) -> None:
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(record, protocol)) == record
    assert copy.copy(record) == record


@pytest.mark.parametrize("record", EXAMPLES, ids=lambda record: type(record).__name__)
def test_a_record_cannot_be_changed(record: object) -> None:
    name = dataclasses.fields(record)[0].name  # type: ignore[arg-type]  # all of them are dataclasses
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(record, name, "else")
    assert not hasattr(record, "__dict__")


@given(st.data())
def test_a_part_of_a_part_means_the_same_items_of_the_blob(data: st.DataObject) -> None:
    items, batch = list(range(100, 130)), Batch("j", 100, 30, b"blob")
    for _ in range(3):
        start = data.draw(st.integers(batch.start, batch.stop))
        stop = data.draw(st.integers(start, batch.stop))
        batch = batch.part(start, stop)
        assert (batch.start, batch.stop, batch.blob) == (start, stop, b"blob")
        assert items[batch.skip : batch.skip + batch.count] == list(range(start, stop))


@pytest.mark.parametrize(("start", "stop"), [(9, 12), (12, 16), (13, 12)])
def test_a_part_must_lie_within_its_batch(start: int, stop: int) -> None:
    with pytest.raises(ValueError, match=r"is not within 10\.\.15"):
        BATCH.part(start, stop)


def test_a_part_is_as_loose_as_its_batch_unless_told() -> None:
    again = BATCH.part(10, 15, redelivered=True)
    assert again.part(11, 12).redelivered
    assert not again.part(11, 12, redelivered=False).redelivered
    assert not BATCH.part(11, 12).redelivered


def test_a_failure_reads_as_the_last_line_of_a_traceback() -> None:
    assert str(FAILURE) == "ValueError: no such day"
    assert str(Failure("KeyboardInterrupt", "")) == "KeyboardInterrupt"


def test_a_result_is_ok_if_the_function_returned_even_none() -> None:
    assert Result(0, input=1).ok
    assert not Result(0, input=1, error=FAILURE).ok


def test_a_recorded_outcome_weighs_what_its_results_weigh() -> None:
    assert Recorded(BATCH, Done(5, b"x" * 1000), 1, "").nbytes == RECORD_BYTES + 1000
    assert Recorded(BATCH, Failed(FAILURE), 1, "").nbytes == RECORD_BYTES
