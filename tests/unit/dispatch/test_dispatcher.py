"""The two faces, without a socket: each connection is a thread with a channel that is none."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import TypeVar, cast

import pytest

from dq.core.jobs import Rules
from dq.core.records import Done, Failed, Failure
from dq.data import batches
from dq.data.sources import Source
from dq.dispatch.dispatcher import Dispatcher
from dq.dispatch.served_job import PLAIN, ServedJob
from dq.errors import ProtocolError
from dq.functions.reference import TaskRef
from dq.functions.spec import JobSpec
from dq.manager.endpoints import ResultQueue, TaskQueue
from dq.manager.messages import ReportMessage
from dq.manager.protocol import PROTOCOL
from dq.manager.worker_endpoint import WorkerEndpoint
from dq.transport.channel import Channel
from support import wait_until

T = TypeVar("T")
SQUARE = TaskRef("module", "app", "square")
OWN = JobSpec("j", SQUARE)


class Wire:
    """What the faces use of a channel."""

    def __init__(self) -> None:
        self.ended = threading.Event()
        self.on_received: Callable[[], None] = lambda: None
        self.on_sent: Callable[[], None] = lambda: None

    def peer_closed(self) -> bool:
        return self.ended.is_set()

    def shutdown(self) -> None:
        self.ended.set()

    def peer_sends_at_once(self) -> None:
        pass

    def peer(self) -> str:
        return "here"

    def security(self) -> str:
        return "not encrypted"


class Someone:
    """A connection: a thread in which the server would call the faces."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self.dispatcher = dispatcher
        self.wire = Wire()
        self._thread = ThreadPoolExecutor(1)
        self._context = dispatcher.serving(cast(Channel, self.wire))
        self._thread.submit(self._context.__enter__).result(10)

    def start(self, call: Callable[..., T], *args: object) -> Future[T]:
        """Call a face as the server does."""

        def serve() -> T:
            self.wire.on_received()
            try:
                return call(*args)
            finally:
                self.wire.on_sent()

        return self._thread.submit(serve)

    def ask(self, call: Callable[..., T], *args: object) -> T:
        return self.start(call, *args).result(10)

    def put(self, item: object) -> None:
        self.ask(TaskQueue(self.dispatcher).put, item)

    def get(self) -> object:
        return self.ask(TaskQueue(self.dispatcher).get, True, 5)

    def answer(self, value: object) -> None:
        self.ask(ResultQueue(self.dispatcher).put, value)

    def result(self) -> object:
        return self.ask(ResultQueue(self.dispatcher).get, True, 5)

    def hello(self, group: str = "g", role: str = "slot", default: bool = False) -> None:
        info: dict[str, object] = {"role": role, "group": group, "name": "h:1", "default": default}
        self.ask(WorkerEndpoint(self.dispatcher).hello, PROTOCOL, info)

    def exchange(
        self, outcomes: ReportMessage | None = None, wait: float = 5.0
    ) -> tuple[object, ...]:
        report = outcomes.to_wire() if outcomes else None
        return self.ask(WorkerEndpoint(self.dispatcher).exchange, report, -1, wait)

    def leave(self) -> None:
        self.wire.ended.set()
        self._thread.submit(self._context.__exit__, None, None, None).result(10)
        self._thread.shutdown()


class Place:
    """Queues, and who is connected to them."""

    def __init__(self) -> None:
        self.people: list[Someone] = []
        self.all: list[Dispatcher] = []

    def dispatcher(self, **options: object) -> Dispatcher:
        dispatcher = Dispatcher(**options)  # type: ignore[arg-type]  # as the test has them
        self.all.append(dispatcher)
        return dispatcher

    def join(self, dispatcher: Dispatcher) -> Someone:
        someone = Someone(dispatcher)
        self.people.append(someone)
        return someone

    def close(self) -> None:
        for dispatcher in self.all:
            dispatcher.stop()
        for someone in self.people:
            if not someone.wire.ended.is_set():
                someone.leave()
            someone._thread.shutdown()


@pytest.fixture
def place() -> Iterator[Place]:
    place = Place()
    yield place
    place.close()


def own(dispatcher: Dispatcher, values: list[object], rules: Rules | None = None) -> ServedJob:
    """Let a master have inputs of its own."""
    source = Source(values)
    return dispatcher.jobs.open(OWN, rules or Rules(), source)


def grant_of(answer: tuple[object, ...]) -> tuple[int, str, int, int, int, bytes, int]:
    state, grant, _ = answer
    assert state == "go"
    return cast("tuple[int, str, int, int, int, bytes, int]", grant)


def outcome_of(
    dispatcher: Dispatcher, answer: tuple[object, ...], values: list[object]
) -> ReportMessage:
    lease, _, start, *_ = grant_of(answer)
    return ReportMessage(
        dispatcher.run, lease, start, (Done(len(values), batches.dump(values)),), busy=0.01
    )


# --- the plain face ---


def test_items_come_in_the_order_they_were_put(place: Place) -> None:
    me = place.join(place.dispatcher())
    for item in range(5):
        me.put(item)
    assert [me.get() for _ in range(5)] == list(range(5))


def test_an_empty_queue_is_empty_at_once_or_in_time(place: Place) -> None:
    me = place.join(place.dispatcher())
    for args in [(False,), (True, 0.05)]:
        with pytest.raises(queue.Empty):
            me.ask(TaskQueue(me.dispatcher).get, *args)
        with pytest.raises(queue.Empty):
            me.ask(ResultQueue(me.dispatcher).get, *args)


def test_a_full_queue_is_full_until_an_item_is_got(place: Place) -> None:
    me = place.join(place.dispatcher(maxsize=1))
    me.put("a")
    assert me.ask(TaskQueue(me.dispatcher).full)
    for args in [("b", False), ("b", True, 0.05)]:
        with pytest.raises(queue.Full):
            me.ask(TaskQueue(me.dispatcher).put, *args)
    me.get()
    me.put("b")


def test_a_negative_time_out_is_refused_as_by_queue(place: Place) -> None:
    me = place.join(place.dispatcher())
    with pytest.raises(ValueError, match="non-negative"):
        me.ask(TaskQueue(me.dispatcher).get, True, -1)


def test_who_waits_gets_what_another_puts(place: Place) -> None:
    dispatcher = place.dispatcher()
    me, other = place.join(dispatcher), place.join(dispatcher)
    waiting = me.start(TaskQueue(dispatcher).get)
    other.put("late")
    assert waiting.result(10) == "late"


def test_what_a_connection_held_is_given_out_again_when_it_ends(place: Place) -> None:
    dispatcher = place.dispatcher()
    me, other = place.join(dispatcher), place.join(dispatcher)
    other.put("a")
    assert me.get() == "a"
    me.leave()
    assert other.get() == "a"


def test_an_item_is_settled_by_its_holders_next_request(place: Place) -> None:
    dispatcher = place.dispatcher()
    me, other = place.join(dispatcher), place.join(dispatcher)
    other.put("a")
    me.get()
    me.ask(TaskQueue(dispatcher).qsize)
    me.leave()
    assert other.ask(TaskQueue(dispatcher).empty)


def test_with_redeliver_off_what_was_got_is_gone(place: Place) -> None:
    dispatcher = place.dispatcher(redeliver=False)
    me, other = place.join(dispatcher), place.join(dispatcher)
    other.put("a")
    me.get()
    me.leave()
    assert other.ask(TaskQueue(dispatcher).empty)


def test_a_client_that_went_while_it_waited_swallows_nothing(place: Place) -> None:
    dispatcher = place.dispatcher()
    me, other = place.join(dispatcher), place.join(dispatcher)
    waiting = me.start(TaskQueue(dispatcher).get)
    me.wire.ended.set()
    other.put("a")
    with pytest.raises(EOFError):
        waiting.result(10)
    assert other.get() == "a"


def test_a_result_that_its_getter_never_received_is_there_again(place: Place) -> None:
    dispatcher = place.dispatcher()
    me, other = place.join(dispatcher), place.join(dispatcher)
    other.answer("r")
    me._thread.submit(ResultQueue(dispatcher).get).result(10)  # and nothing was sent
    me.leave()
    assert other.result() == "r"


def test_join_waits_for_task_done(place: Place) -> None:
    dispatcher = place.dispatcher()
    me, other = place.join(dispatcher), place.join(dispatcher)
    me.put("a")
    joined = other.start(TaskQueue(dispatcher).join)
    me.get()
    assert not joined.done()
    me.ask(TaskQueue(dispatcher).task_done)
    joined.result(10)


def test_task_done_without_a_task_is_refused_as_by_queue(place: Place) -> None:
    me = place.join(place.dispatcher())
    with pytest.raises(ValueError, match="too many times"):
        me.ask(TaskQueue(me.dispatcher).task_done)


def test_a_stopped_master_ends_who_waits(place: Place) -> None:
    dispatcher = place.dispatcher()
    waiting = place.join(dispatcher).start(TaskQueue(dispatcher).get)
    dispatcher.stop()
    with pytest.raises(EOFError):
        waiting.result(10)


# --- a master's own inputs, by plain clients ---


def test_each_value_answers_the_oldest_of_the_masters_inputs_that_is_held(place: Place) -> None:
    dispatcher = place.dispatcher()
    line = own(dispatcher, [3, 4])
    me = place.join(dispatcher)
    assert [me.get(), me.get()] == [3, 4]
    me.answer(9)
    me.answer(16)
    records = dispatcher.delivery.read(line, 5) or []
    found = {record.batch.start: record.outcome for record in records}
    assert {i: batches.load(cast(Done, o).blob) for i, o in found.items()} == {0: [9], 1: [16]}
    assert dispatcher.delivery.read(line, 5) is None


def test_a_value_of_one_who_holds_nothing_is_a_plain_result(place: Place) -> None:
    me = place.join(place.dispatcher())
    me.answer("plain")
    assert me.result() == "plain"


def test_one_of_the_masters_inputs_is_not_settled_by_the_next_request(place: Place) -> None:
    dispatcher = place.dispatcher()
    own(dispatcher, [3])
    me, other = place.join(dispatcher), place.join(dispatcher)
    assert me.get() == 3
    me.ask(TaskQueue(dispatcher).qsize)
    me.leave()
    assert other.get() == 3


def test_an_input_whose_holder_ends_three_times_is_a_worker_that_died(place: Place) -> None:
    dispatcher = place.dispatcher()
    line = own(dispatcher, [3])
    for _ in range(3):
        me = place.join(dispatcher)
        assert me.get() == 3
        me.leave()
    [record] = dispatcher.delivery.read(line, 5) or []
    assert isinstance(record.outcome, Failed)
    assert record.outcome.failure.type == "WorkerDied"


# --- the lease face ---


def test_a_batch_comes_with_its_jobs_spec_once(place: Place) -> None:
    dispatcher = place.dispatcher()
    own(dispatcher, [3, 4])
    worker = place.join(dispatcher)
    worker.hello()
    first = worker.exchange()
    assert first[2] == (OWN.to_wire(), [], [])
    assert batches.load(grant_of(first)[5]) == [3]
    second = worker.exchange(outcome_of(dispatcher, first, [9]))
    assert second[2] is None


def test_a_new_job_comes_with_word_of_those_that_have_ended(place: Place) -> None:
    dispatcher = place.dispatcher()
    ended = own(dispatcher, [3])
    worker = place.join(dispatcher)
    worker.hello()
    worker.exchange(outcome_of(dispatcher, worker.exchange(), [9]), wait=0.0)
    dispatcher.jobs.close(ended)
    dispatcher.jobs.open(replace(OWN, id="next"), Rules(), Source([4]))
    assert worker.exchange()[2] == (replace(OWN, id="next").to_wire(), [OWN.id], [])


def test_outcomes_come_to_be_read(place: Place) -> None:
    dispatcher = place.dispatcher()
    line = own(dispatcher, [3])
    worker = place.join(dispatcher)
    worker.hello()
    worker.exchange(outcome_of(dispatcher, worker.exchange(), [9]), wait=0.0)
    [record] = dispatcher.delivery.read(line, 5) or []
    assert batches.load(cast(Done, record.outcome).blob) == [9]
    assert record.worker == "h:1"


def test_a_worker_without_work_is_idle_and_told_when_the_master_stops(place: Place) -> None:
    dispatcher = place.dispatcher()
    worker = place.join(dispatcher)
    worker.hello()
    assert worker.exchange(wait=0.0)[0] == "idle"
    waiting = worker.start(WorkerEndpoint(dispatcher).exchange, None, -1, 60.0)
    dispatcher.stop()
    assert waiting.result(10)[0] == "stop"


def test_what_a_worker_does_for_a_plain_client_is_a_bare_result(place: Place) -> None:
    dispatcher = place.dispatcher(default=JobSpec(PLAIN, SQUARE))
    client, worker = place.join(dispatcher), place.join(dispatcher)
    worker.hello()
    client.put(3)
    worker.exchange(outcome_of(dispatcher, worker.exchange(), [9]), wait=0.0)
    assert client.result() == 9


def test_a_failure_for_a_plain_client_is_a_runtime_error(place: Place) -> None:
    dispatcher = place.dispatcher(default=JobSpec(PLAIN, SQUARE))
    client, worker = place.join(dispatcher), place.join(dispatcher)
    worker.hello()
    client.put("x")
    lease, _, start, *_ = grant_of(worker.exchange())
    failed = Failed(Failure("TypeError", "no", "Traceback"))
    worker.exchange(ReportMessage(dispatcher.run, lease, start, (failed,)), wait=0.0)
    error = client.result()
    assert isinstance(error, RuntimeError)
    assert error.args == ("TypeError", "no", "Traceback")


def test_without_a_function_plain_items_go_to_workers_that_have_one(place: Place) -> None:
    dispatcher = place.dispatcher()
    client, without, having = (place.join(dispatcher) for _ in range(3))
    client.put(3)
    without.hello("a")
    having.hello("b", default=True)
    assert without.exchange(wait=0.0)[0] == "idle"
    assert batches.load(grant_of(having.exchange())[5]) == [3]


def test_what_a_worker_had_goes_to_another_when_it_ends(place: Place) -> None:
    dispatcher = place.dispatcher()
    own(dispatcher, [3])
    first, second = place.join(dispatcher), place.join(dispatcher)
    first.hello("a")
    second.hello("b")
    first.exchange()
    first.leave()
    assert batches.load(grant_of(second.exchange())[5]) == [3]


def test_a_refused_job_goes_elsewhere_and_is_said(place: Place) -> None:
    said: list[str] = []
    dispatcher = place.dispatcher(notify=said.append)
    own(dispatcher, [3])
    first, second = place.join(dispatcher), place.join(dispatcher)
    first.hello("a")
    second.hello("b")
    lease, _, start, *_ = grant_of(first.exchange())
    refused = ReportMessage(dispatcher.run, lease, start, refusal="no module named app")
    assert first.exchange(refused, wait=0.0)[0] == "idle"
    assert said == ["no module named app"]
    assert grant_of(second.exchange())[6] == 1


def test_outcomes_of_another_run_are_dropped(place: Place) -> None:
    dispatcher = place.dispatcher()
    line = own(dispatcher, [3])
    worker = place.join(dispatcher)
    worker.hello()
    lease, _, start, *_ = grant_of(worker.exchange())
    stale = ReportMessage("another run", lease, start, (Done(1, batches.dump([9])),))
    worker.exchange(stale, wait=0.0)
    assert dispatcher.delivery.read(line, 0.0) == []


def test_a_report_on_anothers_lease_ends_the_connection(place: Place) -> None:
    dispatcher = place.dispatcher()
    line = own(dispatcher, [3])
    honest, liar = place.join(dispatcher), place.join(dispatcher)
    honest.hello("a")
    liar.hello("b")
    forged = outcome_of(dispatcher, honest.exchange(), ["forged"])
    with pytest.raises(ProtocolError):
        liar.exchange(forged, wait=0.0)
    assert liar.wire.ended.is_set()
    assert dispatcher.delivery.read(line, 0.0) == []


@pytest.mark.parametrize(
    "outcomes",
    [
        "abc",
        None,
        [()],
        [(0, b"", 0.0)],
        [(-1, b"", 0.0)],
        [(True, b"", 0.0)],
        [(1, "text", 0.0)],
        [(1, b"", float("nan"))],
        [(1, b"", -1.0)],
        [("a", "b", "c", 0.0)],
    ],
    ids=repr,
)
def test_a_report_that_is_none_is_refused_and_changes_nothing(
    place: Place, outcomes: object
) -> None:
    dispatcher = place.dispatcher()
    line = own(dispatcher, [3])
    worker = place.join(dispatcher)
    worker.hello()
    lease, _, start, *_ = grant_of(worker.exchange())
    report = (dispatcher.run, lease, start, outcomes, 0, 0.0, "")
    with pytest.raises(ProtocolError):
        worker.ask(WorkerEndpoint(dispatcher).exchange, report, -1, 0.0)
    assert dispatcher.delivery.read(line, 0.0) == []
    assert line.job.outstanding == 1


def test_a_supervisors_word_charges_the_task_that_its_process_died_in(place: Place) -> None:
    dispatcher = place.dispatcher()
    line = own(dispatcher, [3], Rules(max_deaths=1))
    worker, supervisor = place.join(dispatcher), place.join(dispatcher)
    worker.hello()
    supervisor.hello(role="supervisor")
    lease, *_ = grant_of(worker.exchange())
    supervisor.ask(
        WorkerEndpoint(dispatcher).charge, dispatcher.run, "died", lease, 0, 1, "signal 9"
    )
    [record] = dispatcher.delivery.read(line, 5) or []
    assert isinstance(record.outcome, Failed)
    assert record.outcome.failure.type == "WorkerDied"


def test_another_protocol_is_refused_with_what_to_do(place: Place) -> None:
    me = place.join(place.dispatcher())
    with pytest.raises(ValueError, match="install the same dq on both"):
        me.ask(WorkerEndpoint(me.dispatcher).hello, PROTOCOL + 1, {})


def test_nobody_says_hello_twice(place: Place) -> None:
    me = place.join(place.dispatcher())
    me.hello()
    with pytest.raises(ValueError, match="said hello before"):
        me.hello()


def test_an_input_that_cannot_be_pickled_fails_by_itself(place: Place) -> None:
    dispatcher = place.dispatcher()
    line = own(dispatcher, [threading.Lock(), 4])
    worker = place.join(dispatcher)
    worker.hello()
    assert batches.load(grant_of(worker.exchange())[5]) == [4]
    [record] = dispatcher.delivery.read(line, 5) or []
    assert isinstance(record.outcome, Failed)
    assert "cannot be pickled" in record.outcome.failure.message


def test_only_slots_count_as_slots(place: Place) -> None:
    dispatcher = place.dispatcher()
    client, slot, supervisor = (place.join(dispatcher) for _ in range(3))
    client.put(1)
    client.get()
    slot.hello()
    supervisor.hello(role="supervisor")
    assert dispatcher.slots == 1


def test_nothing_is_left_when_everybody_has_gone(place: Place) -> None:
    dispatcher = place.dispatcher()
    own(dispatcher, [3])
    worker = place.join(dispatcher)
    worker.hello()
    worker.exchange()
    worker.leave()
    assert (dispatcher.busy, dispatcher.slots) == (0, 0)
    assert dispatcher.connections.wait_until_no_workers(0.0)


# Who is there


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def told(dispatcher: Dispatcher) -> list[str]:
    with dispatcher.lock:
        return [note.line for note in dispatcher.presence.notes()]


@pytest.mark.parametrize(
    ("timeout", "end"),
    [
        (None, "until it reports or is ended (timeout would bound that)"),
        (600.0, "until it reports or is ended, or timeout is over"),
    ],
)
def test_a_silent_worker_is_told_with_what_it_keeps(
    place: Place, timeout: float | None, end: str
) -> None:
    clock = Clock()
    dispatcher = place.dispatcher(clock=clock)
    spec = JobSpec("j", TaskRef("module", "app", "f"), timeout=timeout)
    dispatcher.jobs.open(spec, Rules(batch=2), Source([7, 8, 9]))
    supervisor, first, second = (place.join(dispatcher) for _ in range(3))
    supervisor.hello(role="supervisor")
    first.hello()
    second.hello()
    told(dispatcher)
    first.exchange()
    clock.now = 29.0
    assert told(dispatcher) == []
    clock.now = 31.0
    said = f"worker h:1 has not been heard of for 30 s; it keeps tasks 0, 1 {end}"
    assert told(dispatcher) == [said]
    supervisor.ask(WorkerEndpoint(dispatcher).beat, [])
    assert told(dispatcher) == ["worker h:1 is heard of again"]


def test_a_stopped_process_is_told_with_what_it_keeps(place: Place) -> None:
    clock = Clock()
    dispatcher = place.dispatcher(clock=clock)
    own(dispatcher, [7])
    supervisor, worker = place.join(dispatcher), place.join(dispatcher)
    supervisor.hello(role="supervisor")
    worker.hello()
    worker.exchange()
    told(dispatcher)
    for clock.now in (10.0, 20.0, 30.0):
        supervisor.ask(WorkerEndpoint(dispatcher).beat, ["h:1", "h:2"])
    assert told(dispatcher) == [
        "process h:1 of worker h:1 is stopped (SIGSTOP); it keeps task 0"
        " until it goes on or is ended (timeout would bound that)",
        "process h:2 of worker h:1 is stopped (SIGSTOP) and holds no tasks",
    ]


@pytest.mark.parametrize("first", ["supervisor", "slot"])
def test_what_a_worker_leaves_is_told(place: Place, first: str) -> None:
    dispatcher = place.dispatcher()
    own(dispatcher, [7])
    supervisor, worker = place.join(dispatcher), place.join(dispatcher)
    supervisor.hello(role="supervisor")
    worker.hello()
    worker.exchange()
    leaving = {"supervisor": supervisor.leave, "slot": worker.leave}
    with ThreadPoolExecutor(2) as both:  # a slot's leaving waits for its supervisor's word
        done = both.submit(leaving.pop(first))
        wait_until(lambda: len(dispatcher.presence._held_tasks._groups["g"]) == 1)
        both.submit(leaving.popitem()[1])
        done.result(10)
    assert told(dispatcher)[1:] == [
        "worker h:1 left with 1 task unfinished, for others to do; it was the last one"
    ]


def test_who_leaves_because_the_master_ends_is_not_told(place: Place) -> None:
    dispatcher = place.dispatcher()
    supervisor = place.join(dispatcher)
    supervisor.hello(role="supervisor")
    told(dispatcher)
    dispatcher.stop()
    supervisor.leave()
    assert told(dispatcher) == []


def test_a_worker_hears_that_neither_end_has_a_task_for_what_clients_put(place: Place) -> None:
    dispatcher = place.dispatcher()
    client, without, having = (place.join(dispatcher) for _ in range(3))
    without.hello("a", role="supervisor")
    having.hello("b", role="supervisor", default=True)
    beat = WorkerEndpoint(dispatcher).beat
    assert not without.ask(beat, [])
    client.put(3)
    assert without.ask(beat, [])
    assert not having.ask(beat, [])


@pytest.mark.parametrize("stopped", [None, "h:1", [1], ["x"] * 10_000_001], ids=type)
def test_a_beat_that_is_none_is_refused(place: Place, stopped: object) -> None:
    dispatcher = place.dispatcher()
    supervisor = place.join(dispatcher)
    supervisor.hello(role="supervisor")
    with pytest.raises((ProtocolError, ValueError)):
        supervisor.ask(WorkerEndpoint(dispatcher).beat, stopped)
