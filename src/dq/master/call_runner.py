"""What the calls of an executor need of whatever runs them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from dq.core.records import Recorded
from dq.dispatch.results import Inputs
from dq.master.call_functions import CallFunctions


class RunnerOwner(Protocol):
    """The calls, as what runs them sees them."""

    @property
    def functions(self) -> CallFunctions:
        """The functions that they name."""

    def begin(self, indices: Sequence[int]) -> None:
        """Note that a worker has these calls."""

    def resolve(self, record: Recorded, indices: Sequence[int], inputs: Inputs) -> None:
        """Take the outcome of these calls."""

    def check(self) -> None:
        """Fail those that will never be made. Called at intervals."""

    def fail(self, error: BaseException) -> None:
        """Fail them all."""


class CallRunner(Protocol):
    """Runs the calls of one executor."""

    def open(self, calls: RunnerOwner) -> None:
        """Begin to run these calls."""

    def encode(self, call: tuple[object, ...]) -> object:
        """What `push` takes for a call. This may run a user's code, so it is called without a
        lock."""

    def push(self, index: int, item: object) -> None:
        """Add a call. They are added in the order of their indices."""

    def hand_out(self) -> None:
        """Have what was added sent to a worker. Called without a lock."""

    def cancel(self, index: int) -> None:
        """End a call, also if it runs."""

    def consumed(self, record: Recorded) -> None:
        """Note that the values of a record have been taken."""

    def check(self) -> None:
        """Raise the error for which no call will ever be made."""

    def stopped(self) -> tuple[str, bool]:
        """Why no more calls are made, "" if they are; and whether those that ran have ended."""

    def close(self) -> None:
        """End, once each call has its outcome."""


class CallHost(Protocol):
    """Where the calls of an executor run: a master in this process, or one elsewhere."""

    @property
    def closed(self) -> bool:
        """Whether it has ended, or is about to."""

    def start(self) -> None:
        """Start it, or connect to it.

        Raises:
            DqError: that cannot be done.
        """

    def runner(self) -> CallRunner:
        """What runs the calls of one executor."""

    def close(self) -> None:
        """End what was started."""

    def after_fork(self) -> None:
        """In a fork of this process: release what the original process still uses."""
