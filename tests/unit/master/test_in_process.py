"""A master's own process, where a signal interrupts the tasks but not the dispatcher."""

from __future__ import annotations

import pytest

from dq.dispatch.dispatcher import Dispatcher
from dq.master.in_process import InProcessWorker


def test_an_interrupt_within_interruptible_code_is_raised_there() -> None:
    worker = InProcessWorker(Dispatcher())
    with pytest.raises(KeyboardInterrupt), worker.interruptible():
        worker.interrupt()


def test_one_that_comes_just_before_is_raised_as_soon_as_it_may() -> None:
    worker = InProcessWorker(Dispatcher())
    worker.interrupt()
    with pytest.raises(KeyboardInterrupt), worker.interruptible():
        pass
