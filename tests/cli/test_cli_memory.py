"""Inputs are streamed: a long list never sits in the master's memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from support import DQ, Running, rss
from support.procfs import HAS_PROC

pytestmark = pytest.mark.slow

LINES = 1_000_000
LINE = "x" * 120


@pytest.mark.skipif(not HAS_PROC, reason="there is no /proc to read memory from")
@pytest.mark.parametrize("more", [[], ["--unordered"]], ids=["ordered", "unordered"])
def test_a_million_lines_go_through_a_master_that_stays_small(
    project: Path, more: list[str]
) -> None:
    with open(project / "in.txt", "w") as file:
        file.writelines(f"{LINE}{n}\n" for n in range(LINES))
    argv = (*DQ, "run", "app:echo", "-i", "in.txt", "-w", "1", "-o", "out.txt", *more)
    most = 0
    with Running(*argv, cwd=project) as running:
        while running.process.poll() is None:
            most = max(most, rss(running.pid) or 0)
        assert running.wait() == 0, running.printed
    assert (project / "out.txt").stat().st_size == (project / "in.txt").stat().st_size
    assert most < 100 << 20  # the file has over 120 MB
