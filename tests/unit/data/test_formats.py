"""The table of input formats."""

from __future__ import annotations

import pytest

from dq.data.decoding import INPUT_KINDS
from dq.data.formats import FORMATS, format_of


@pytest.mark.parametrize("name", FORMATS)
def test_each_format_gives_lines_of_a_kind_that_workers_decode(name: str) -> None:
    assert INPUT_KINDS[FORMATS[name].kind].has_lines


def test_no_two_formats_have_the_same_suffix() -> None:
    suffixes = [suffix for each in FORMATS.values() for suffix in each.suffixes]
    assert len(suffixes) == len(set(suffixes))
    for name, each in FORMATS.items():
        assert {format_of(f"a{suffix}") for suffix in each.suffixes} <= {name}
