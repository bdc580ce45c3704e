"""What several tests of the command line need."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.jobs import JobsMaster

# A task that says that it has started, and waits for a file named after its input.
GATES = """
import os, time

def wait(x):
    open(f"{x}.started", "w").close()
    while not os.path.exists(f"{x}.go"):
        time.sleep(0.01)
    return x
"""


@pytest.fixture
def gates(project: Path) -> Path:
    """The project, with that task in `gates.py`."""
    (project / "gates.py").write_text(GATES)
    return project


@pytest.fixture
def master(project: Path) -> Iterator[JobsMaster]:
    """A master that keeps jobs in the project, with one worker process."""
    with JobsMaster(project) as running:
        yield running
