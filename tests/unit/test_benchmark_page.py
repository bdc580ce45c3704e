"""The figures of docs/performance.md: what is kept of a run, and how it comes into the page."""

from __future__ import annotations

import json
from typing import Any

import pytest

from benchmarks import page, scenarios

KEPT: dict[str, Any] = json.loads(page.DATA.read_text())
TEXT = page.PAGE.read_text(encoding="utf-8")
ABOUT = {"date": "2026-01-02 03:04", "cpus": "2 x a CPU", "command": "python"}
GOAL = {"what": "dq, of it", "value": 0.5, "limit": 1.0, "at_least": True, "met": False}
RUN = {
    "machine": ABOUT,
    "replacing": {
        "seconds": 1.0,
        "load": [0.1, 1.96],
        "tables": [
            {
                "title": "Some tasks",
                "columns": ["", "takes", "of ideal"],
                "rows": [["dq", "1 s", "99%"], ["another", "not installed"]],
                "samples": {"dq": {"takes": [1.0]}},
                "goals": [GOAL],
            }
        ],
    },
}
EMPTY = "Before.\n<!-- measured: replacing -->\nold\n<!-- end -->\nAfter.\n"


def test_the_figures_of_the_page_are_those_that_were_kept() -> None:
    assert page.renewed(TEXT, KEPT) == TEXT


def test_every_scenario_that_the_page_names_has_figures() -> None:
    named = {name for _, name, _ in page.BLOCK.findall(TEXT)} - {page.MISSED, page.MACHINE}
    assert named == set(page.PARTS)
    assert named <= set(KEPT) <= set(scenarios.NAMES)


@pytest.mark.parametrize("name", page.PARTS)
def test_what_the_page_shows_of_a_table_is_in_it(name: str) -> None:
    for part in page.PARTS[name]:
        table = KEPT[name]["tables"][part.table]
        assert set(part.rows) <= {row[0] for row in table["rows"]}
        assert set(part.columns) <= set(table["columns"])


def test_a_run_renews_its_figures_and_nothing_else() -> None:
    other = "<!-- measured: values -->\nas they were\n<!-- end -->\n"
    assert page.renewed(EMPTY + other, page.scenarios(RUN)) == (
        "Before.\n"
        "<!-- measured: replacing -->\n"
        "Some tasks:\n"
        "\n"
        "|  | takes | of ideal |\n"
        "| --- | --: | --: |\n"
        "| dq | 1 s | 99% |\n"
        "| another | not installed |\n"
        "\n"
        "`python -m benchmarks --only replacing`, 2026-01-02, load 0.1 before and 2.0 after.\n"
        "<!-- end -->\n"
        "After.\n" + other
    )


def test_a_goal_that_is_missed_is_in_the_page() -> None:
    text = page.renewed(EMPTY.replace("replacing", page.MISSED), page.scenarios(RUN))
    assert "- `replacing`: dq, of it: 0.5 (goal ≥ 1)\n" in text


def test_the_page_names_the_machine() -> None:
    text = page.renewed(EMPTY.replace("replacing", page.MACHINE), page.scenarios(RUN))
    assert text == "Before.\n<!-- measured: machine -->\n2 x a CPU.\n<!-- end -->\nAfter.\n"


def test_samples_are_not_kept() -> None:
    assert "samples" not in page.scenarios(RUN)["replacing"]["tables"][0]
