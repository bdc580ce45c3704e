"""What is raised by an executor that can run no more calls; imported when that happens."""

from __future__ import annotations

from concurrent.futures.process import BrokenProcessPool

from dq.errors import DqError


class BrokenExecutor(DqError, BrokenProcessPool):
    """Raised when no worker can run calls: the standard library's error, and one of dq's."""
