"""The calls of an executor on a master elsewhere, with a master that is not there."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, cast

from dq.core.records import Batch, Done, Recorded
from dq.dispatch.results import Inputs
from dq.functions.task_options import TaskOptions
from dq.master.call_functions import CallFunctions
from dq.master.remote_calls import RemoteCalls
from dq.service.call_wire import to_wire
from dq.service.connection import JobsConnection

TIMEOUT_S = 20.0


class TwoMasters:
    """A connection to a master that sends the outcomes of two calls in one answer, and is another
    one from the next call on."""

    max_message = 1 << 20
    address = ("127.0.0.1", 5000)

    def __init__(self) -> None:
        self.pushed: list[tuple[str, int, int]] = []  # id, number of the first call, how many
        self.has_all_again = threading.Event()
        self._has_two = threading.Event()
        self._is_over = threading.Event()
        self._id = ""

    def another(self, loads: object) -> TwoMasters:
        return self

    def post(self, method: str, *args: object) -> bool:
        return False

    def call(self, method: str, *args: object) -> None:
        if method == "open_calls":
            self._id = str(args[0])

    call_once = call

    def call_often(self, method: str, id: str, *args: Any) -> object:
        return self._push(id, *args) if method == "push_calls" else self._take(id)

    def _push(self, id: str, first: int, items: list[bytes], *_: object) -> int | None:
        if first == 2:
            return None
        self.pushed.append((id, first, len(items)))
        calls = sum(count for by, _, count in self.pushed if by == id)
        if calls == 2:
            (self._has_two if self.pushed[0][0] == id else self.has_all_again).set()
        return first + len(items)

    def _take(self, id: str) -> object:
        assert self._has_two.wait(TIMEOUT_S)
        if id != self.pushed[0][0]:
            self._is_over.wait(TIMEOUT_S)
            return [], 0, None
        return [to_wire(_outcome(0)), to_wire(_outcome(1))], 2, None

    def close(self) -> None:
        self._is_over.set()


class Calls:
    """What a `RemoteCalls` runs the calls of."""

    def __init__(self, on_first: Callable[[], None]) -> None:
        self.functions = CallFunctions()
        self.resolved: list[list[int]] = []
        self.checked = threading.Event()
        self._on_first = on_first

    def begin(self, indices: Sequence[int]) -> None:
        pass

    def resolve(self, record: Recorded, indices: Sequence[int], inputs: Inputs) -> None:
        self.resolved.append(list(indices))
        if len(self.resolved) == 1:
            self._on_first()

    def check(self) -> None:
        pass

    def fail(self, error: BaseException) -> None:
        raise error


def _outcome(number: int) -> Recorded:
    batch = Batch(job="", start=number, count=1, blob=b"")
    return Recorded(batch=batch, outcome=Done(1, b""), attempts=1, worker="")


def test_outcomes_of_an_earlier_master_are_not_taken_for_those_of_other_calls() -> None:
    master = TwoMasters()
    remote = RemoteCalls(cast("JobsConnection", master), TaskOptions(), lambda line: None)

    def call(index: int) -> None:
        remote.push(index, (b"call", b""))
        remote.hand_out()

    def while_the_first_outcome_is_unpickled() -> None:
        call(2)  # the master that this finds is another one, so it gets the calls 1 and 2 anew
        assert master.has_all_again.wait(TIMEOUT_S)

    calls = Calls(while_the_first_outcome_is_unpickled)
    remote.open(calls)
    call(0)
    call(1)
    assert master.has_all_again.wait(TIMEOUT_S)
    remote.close()
    assert calls.resolved == [[0]]
