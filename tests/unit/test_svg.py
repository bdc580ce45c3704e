"""The plots: valid SVG, with every line and every number where it belongs."""

from __future__ import annotations

import doctest
from xml.etree import ElementTree

import pytest

from benchmarks import plots, simulate, svg
from benchmarks.svg import Axis, around, plot

NAMES = "{http://www.w3.org/2000/svg}"


def drawn(text: str, what: str) -> list[ElementTree.Element]:
    return list(ElementTree.fromstring(text).iter(NAMES + what))


@pytest.mark.parametrize("module", [svg, simulate])
def test_the_examples_in_docstrings_are_true(module: object) -> None:
    assert doctest.testmod(module).failed == 0  # type: ignore[arg-type]  # modules, both


def test_every_line_is_drawn_and_named() -> None:
    lines = {"a < b": [(1.0, 10.0), (10.0, 100.0)], "c": [(1.0, 100.0)]}
    text = plot("T & T", Axis("x", 1, 10), Axis("y", 10, 100), lines)
    assert len(drawn(text, "polyline")) == 2
    assert {"a < b", "c", "T & T", "x", "y"} <= {e.text for e in drawn(text, "text")}


def test_a_higher_value_is_drawn_higher() -> None:
    text = plot("", Axis("x", 1, 10), Axis("y", 1, 10), {"": [(1, 2), (5, 8)]})
    (x0, y0), (x1, y1) = (
        map(float, pair.split(",")) for pair in drawn(text, "polyline")[0].attrib["points"].split()
    )
    assert x0 < x1
    assert y0 > y1


def test_an_axis_around_values_holds_them_all() -> None:
    axis = around([0.03, 7.0], "", str)
    assert (axis.low, axis.high) == (0.01, 10.0)
    assert around([1.0], "", str).high == 10.0


def test_the_plots_of_the_documentation_can_be_drawn_from_their_data() -> None:
    lines = {"dq": [(1.0, 10.0), (64.0, 640.0)]}
    data = {"machine": {"cpus": "2 x a CPU", "python": "CPython 3.11.7", "date": "2026-01-01 x"}}
    kinds = ("throughput", "latency")
    files = plots.draw({**data, **dict.fromkeys(kinds, lines)})
    assert set(files) == {f"{kind}.svg" for kind in kinds}
    assert all(drawn(text, "polyline") for text in files.values())
