"""The benchmarks' arithmetic, and that every scenario runs."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from benchmarks import measure, peers, scenarios, stats
from benchmarks.report import Goal, Table
from support import ROOT, run
from support.process import DQ

pytestmark = pytest.mark.slow

PYTHON = DQ[0]


def bench(*args: str | Path) -> str:
    done = run(PYTHON, "-m", "benchmarks", *args, cwd=ROOT / "tests", timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# -- statistics


def test_the_median_of_nothing_is_not_a_number() -> None:
    assert math.isnan(stats.median([]))


@pytest.mark.parametrize(("percent", "value"), [(0, 1), (50, 50), (99, 99), (100, 100)])
def test_a_percentile_is_a_value_that_was_measured(percent: int, value: int) -> None:
    assert stats.percentile(range(1, 101), percent) == value


def test_a_percentile_does_not_ask_for_sorted_values() -> None:
    assert stats.percentile([5, 1, 4, 2, 3], 50) == 3


def test_repeats_are_interleaved() -> None:
    assert [name for _, name in stats.interleaved("ABC", 2)] == list("ABCCBA")


def test_a_ratio_to_nothing_is_not_a_number() -> None:
    assert math.isnan(stats.ratio(1, 0))
    assert math.isnan(stats.ratio(1, math.nan))


def test_no_schedule_is_shorter_than_the_work_shared_or_the_longest_task() -> None:
    assert stats.bound([1, 2, 3], 2) == 3
    assert stats.bound([2, 2, 2], 2) == 3
    assert stats.bound([], 2) == 0


def test_whoever_is_free_takes_the_next_task() -> None:
    assert stats.list_schedule([3, 1, 1, 1], 2) == 3
    assert stats.list_schedule([1, 1, 1, 3], 2) == 4
    assert stats.list_schedule([1, 2, 3], 1) == 6


@pytest.mark.parametrize("seed", range(20))
def test_a_heavy_tail_has_its_total_and_one_longest_task(seed: int) -> None:
    durations = stats.heavy_tail(500, 5.0, seed=seed)
    assert len(durations) == 500
    assert sum(durations) == pytest.approx(5.0, rel=0.01)
    assert max(durations) == pytest.approx(100 * 5.0 / 500)
    assert durations.count(max(durations)) == 1
    assert min(durations) > 0


def test_a_heavy_tail_is_the_same_for_the_same_seed() -> None:
    assert stats.heavy_tail(50, 1.0, seed=3) == stats.heavy_tail(50, 1.0, seed=3)
    assert stats.heavy_tail(50, 1.0, seed=3) != stats.heavy_tail(50, 1.0, seed=4)


def test_long_tasks_are_hidden_among_short_ones() -> None:
    durations = stats.mixed(1000, 5, 2.0)
    assert (durations.count(2.0), durations.count(0.0)) == (5, 995)


# -- measuring


def test_everybody_is_measured_as_often_as_asked() -> None:
    order: list[str] = []

    def sample(name: str) -> measure.Sample:
        order.append(name)
        return {"rate": float(len(order))}

    samples = measure.collect([(name, lambda name=name: sample(name)) for name in "AB"], 3)
    assert order == list("ABBAAB")
    assert samples.figures == {"A": {"rate": [1, 4, 5]}, "B": {"rate": [2, 3, 6]}}
    assert samples.median("A", "rate") == 4
    assert samples.best("AB", "rate") == 4


def test_who_fails_is_out_with_the_reason_and_the_others_go_on() -> None:
    def fail() -> measure.Sample:
        raise RuntimeError("no luck")

    samples = measure.collect([("A", fail), ("B", lambda: {"rate": 1.0})], 2)
    assert samples.reasons == {"A": "failed: RuntimeError: no luck"}
    assert samples.figures == {"B": {"rate": [1.0, 1.0]}}
    assert math.isnan(samples.best("A", "rate"))


def test_who_takes_too_long_is_out() -> None:
    def forever() -> measure.Sample:
        while True:
            pass

    samples = measure.collect([("A", forever)], 1, patience=1)
    assert samples.reasons == {"A": "failed: TookTooLong: no end after 1 s"}


def test_values_that_are_not_right_do_not_count() -> None:
    measure.check([4, 0, 1], lambda: (0, 1, 4))
    for wrong in ([0, 1], [0, 1, 4, 4], [0, 1, 5]):
        with pytest.raises(AssertionError):
            measure.check(wrong, lambda: (0, 1, 4))


# -- reporting


def test_a_goal_says_whether_it_was_met() -> None:
    assert Goal("share", 0.99, 0.99).met
    assert not Goal("share", 0.98, 0.99).met
    assert Goal("stretch", 1.05, 1.1, at_least=False).met
    assert not Goal("stretch", 1.2, 1.1, at_least=False).met
    assert Goal("share", math.nan, 1.0).met is None


def test_a_row_may_be_a_name_and_a_reason() -> None:
    table = Table("Rates", ["", "rate", "ratio"], [["A", "12", "1"], ["B", "not installed"]])
    assert str(table).splitlines()[-3:] == [
        "   rate  ratio",
        "A    12      1",
        "B  not installed",
    ]


# -- everything together


@pytest.mark.parametrize("name", [*peers.STANDARD, *peers.OUTSIDE])
def test_a_peer_says_why_it_is_absent_or_which_version_it_is(name: str) -> None:
    peer = peers.load(name)
    reason = peer.available()
    assert isinstance(reason, str) if reason is not None else peer.version()
    assert peer.CONTENDERS


def test_the_list_has_every_scenario_with_what_it_measures() -> None:
    lines = bench("--list").splitlines()
    assert [line.split()[0] for line in lines] == list(scenarios.NAMES)
    assert all(len(line.split()) > 3 for line in lines)


@pytest.mark.parametrize("name", scenarios.NAMES)
def test_a_scenario_runs(name: str, tmp_path: Path) -> None:
    path = tmp_path / "found.json"
    printed = bench("--quick", "--repeats", "1", "--only", name, "--json", path)
    [*tables] = json.loads(path.read_text())[name]["tables"]
    assert all(table["title"] in printed for table in tables)
    dq = [row for table in tables for row in table["rows"] if row[0].startswith("dq")]
    assert dq
    assert not [row for row in dq if row[1].startswith("failed")]
