"""What a supervisor says of its worker when it leaves."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from dq.core.beats import OutputLine, WorkerState
from dq.errors import ConnectError
from dq.worker.beat import Beat
from dq.worker.outbox import Outbox
from dq.worker.slot_states import SlotStates
from support import wait_until


class Channel:
    closed = False


class FakeClient:
    """A connection that is lost while a beat is sent, once the test says so; or takes it."""

    def __init__(self, loses: bool) -> None:
        self.channel = Channel()
        self.posting, self.may_go_on = threading.Event(), threading.Event()
        self.said: list[WorkerState] = []
        self._loses = loses

    def post_beat(self, state: WorkerState, seen: int, wait: float) -> None:
        self.posting.set()
        assert self.may_go_on.wait(10)
        if self._loses:
            self.channel.closed = True
            raise ConnectError("lost the connection")
        self.said.append(state)

    def beat_answer(self) -> Any:
        self.channel.closed = True
        return (), 1.0, False, True

    def close(self) -> None:
        pass


@pytest.mark.parametrize("loses", [False, True])
def test_lines_that_are_being_sent_when_it_leaves_come_to_the_master_once(loses: bool) -> None:
    outbox = Outbox()
    outbox.add(OutputLine("h:1", "j", 0, "the last words"))
    beat = Beat(
        SlotStates(1),
        outbox,
        children=list,
        threads=1,
        on_command=lambda command: None,
        on_lack=lambda lacks: None,
    )
    control: Any = FakeClient(loses=False)
    first: Any = FakeClient(loses)
    last: Any = FakeClient(loses=False)
    last.may_go_on.set()
    beat.start(control, lambda: first)
    assert first.posting.wait(10)
    with ThreadPoolExecutor(1) as thread:
        leaving = thread.submit(beat.send_rest, lambda: last)
        wait_until(lambda: leaving.running())
        control.channel.closed = True
        first.may_go_on.set()
        leaving.result(10)
    [state] = first.said + last.said
    assert [line.text for line in state.lines] == ["the last words"]
