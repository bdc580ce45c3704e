"""What a supervisor sends to a task process that it has started."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

import pytest

from dq.worker import cells, lifeline
from dq.worker.child import Child

resource = pytest.importorskip("resource")


@pytest.fixture
def child_and_end() -> tuple[Child, int]:
    """One that is not there, and the end of the pipe that it would read."""
    end, pipe = os.pipe()
    popen: Any = SimpleNamespace(stdin=open(pipe, "wb"), pid=0)  # noqa: SIM115
    shared: Any = SimpleNamespace(view=[0] * cells.count(1), close=lambda: None)
    return Child(popen, shared, 0), end


def test_it_has_its_configuration_where_no_descriptor_is_left(
    child_and_end: tuple[Child, int],
) -> None:
    child, end = child_and_end
    most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, most[1]))
    try:
        child.send_config(b"all")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, most)
    child.drain()
    child.close()
    with open(end, "rb") as told:
        assert told.read() == (3).to_bytes(lifeline.LENGTH_BYTES, "big") + b"all" + lifeline.DRAIN


def test_one_that_has_ended_gets_none(child_and_end: tuple[Child, int]) -> None:
    child, end = child_and_end
    child.close()
    child.send_config(b"all")
    with open(end, "rb") as told:
        assert told.read() == b""
