"""From results to outcomes, and from one report to several."""

from __future__ import annotations

import pytest

from dq.core.records import Done, Failed, Outcome
from dq.data import batches
from dq.manager.messages import ReportMessage
from dq.worker.outcomes import Encoder, split


def encoder(limit: int = 1000) -> Encoder:
    def finish(awaitable: object) -> object:
        return "awaited"

    return Encoder(form="values", attempt=1, worker="h:1", limit=limit, finish=finish)


def encoded(results: list[object], limit: int = 1000) -> list[Outcome]:
    return encoder(limit).encode(0, [None] * len(results), results)


def shown(outcomes: list[Outcome]) -> list[object]:
    """The values, or the type of a failure in the place of each that failed."""
    found: list[object] = []
    for one in outcomes:
        found += batches.load(one.blob) if isinstance(one, Done) else [one.failure.type]
    return found


def test_results_that_can_be_encoded_are_one_blob() -> None:
    [outcome] = encoded([1, 2, 3])
    assert isinstance(outcome, Done)
    assert shown([outcome]) == [1, 2, 3]


@pytest.mark.parametrize("place", range(5))
def test_a_result_over_the_limit_fails_alone(place: int) -> None:
    results: list[object] = [0, 1, 2, 3, 4]
    results[place] = bytes(2000)
    expected = [*results[:place], "ResultTooLarge", *results[place + 1 :]]
    assert shown(encoded(results)) == expected


def test_a_result_that_is_still_to_be_run_fails_alone() -> None:
    assert shown(encoded([1, iter([]), 3])) == [1, "TypeError", 3]


class Awaitable:
    def __await__(self) -> object:
        raise AssertionError  # whoever is given it finishes it

    def __reduce__(self) -> str:
        raise TypeError("not to be pickled")


def test_a_result_that_is_to_be_awaited_is_finished_first() -> None:
    assert shown(encoded([1, Awaitable(), 3])) == [1, "awaited", 3]


def report(sizes: list[int]) -> ReportMessage:
    outcomes = tuple(Done(2, bytes(size), 0.0) for size in sizes)
    return ReportMessage("run", 7, 10, outcomes, handed_back=3, busy=1.0)


def test_a_report_within_the_limit_stays_as_it_is() -> None:
    whole = report([10, 10])
    assert split(whole, 1000) == [whole]


def test_a_large_report_is_split_and_says_the_same_in_sum() -> None:
    parts = split(report([300, 300, 300]), 500)
    assert [part.first for part in parts] == [10, 12, 14]
    assert [part.handed_back for part in parts] == [3, 0, 0]
    assert sum(part.busy for part in parts) == pytest.approx(1.0)
    assert sum((part.outcomes for part in parts), ()) == report([300, 300, 300]).outcomes


def test_an_outcome_over_the_limit_is_sent_alone_rather_than_never() -> None:
    assert [len(part.outcomes) for part in split(report([900, 1]), 100)] == [1, 1]


def test_failures_are_not_tried_again_for_what_they_returned() -> None:
    [outcome] = encoded([bytes(2000)])
    assert isinstance(outcome, Failed)
    assert not outcome.retry
