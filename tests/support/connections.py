"""A dispatcher's clients without a socket: each is a thread with a channel that is none."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar, cast

from dq.core.beats import WorkerState
from dq.core.jobs import Rules
from dq.core.records import Done
from dq.data import batches
from dq.data.sources import Source
from dq.dispatch.dispatcher import Dispatcher
from dq.dispatch.served_job import ServedJob
from dq.functions.reference import TaskRef
from dq.functions.spec import JobSpec
from dq.manager.endpoints import ResultQueue, TaskQueue
from dq.manager.messages import BeatWire, ReportMessage
from dq.manager.protocol import PROTOCOL
from dq.manager.worker_endpoint import WorkerEndpoint
from dq.transport.channel import Channel
from support.fakes import FakeChannel

T = TypeVar("T")
SQUARE = TaskRef("module", "app", "square")
SPEC = JobSpec("j", SQUARE)


class FakeClient:
    """A connection: a thread in which the server would call the endpoints."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self.dispatcher = dispatcher
        self.channel = FakeChannel()
        self._thread = ThreadPoolExecutor(1)
        self._context = dispatcher.serving(cast(Channel, self.channel))
        self._thread.submit(self._context.__enter__).result(10)

    def start(self, call: Callable[..., T], *args: object) -> Future[T]:
        """Call an endpoint as the server does."""

        def serve() -> T:
            self.channel.on_received()
            try:
                return call(*args)
            finally:
                self.channel.on_sent()

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

    def hello(
        self, group: str = "g", role: str = "slot", default: bool = False, **more: object
    ) -> None:
        info: dict[str, object] = {"role": role, "group": group, "name": "h:1", "default": default}
        info.update(more)
        self.ask(WorkerEndpoint(self.dispatcher).hello, PROTOCOL, info)

    def beat(self, wait: float = 0.0, seen: int = 0, state: WorkerState | None = None) -> BeatWire:
        """Say what a worker does, and hear what it is told; after `hello(role="beat")`."""
        beat = WorkerEndpoint(self.dispatcher).beat
        return self.ask(beat, (state or WorkerState()).to_wire(), seen, wait)

    def exchange(
        self, outcomes: ReportMessage | None = None, wait: float = 5.0
    ) -> tuple[object, ...]:
        report = outcomes.to_wire() if outcomes else None
        self.ask(WorkerEndpoint(self.dispatcher).exchange, report, -1, wait)
        return self.received()

    def received(self) -> tuple[object, ...]:
        """The answer to an exchange, which any thread may send."""
        kind, answer = cast("tuple[str, tuple[object, ...]]", self.channel.sent.get(timeout=10))
        assert kind == "#RETURN"
        return answer

    def leave(self) -> None:
        self.start_leaving().result(10)

    def start_leaving(self) -> Future[bool | None]:
        self.channel.ended.set()
        left = self._thread.submit(self._context.__exit__, None, None, None)
        self._thread.shutdown(wait=False)
        return left


class FakeClients:
    """Dispatchers, and the clients that are connected to them."""

    def __init__(self) -> None:
        self._connected: list[FakeClient] = []
        self._dispatchers: list[Dispatcher] = []

    def dispatcher(self, **options: object) -> Dispatcher:
        dispatcher = Dispatcher(**options)  # type: ignore[arg-type]  # as the test has them
        self._dispatchers.append(dispatcher)
        return dispatcher

    def connect(self, dispatcher: Dispatcher) -> FakeClient:
        client = FakeClient(dispatcher)
        self._connected.append(client)
        return client

    def close(self) -> None:
        for dispatcher in self._dispatchers:
            dispatcher.stop()
        for client in self._connected:
            if not client.channel.ended.is_set():
                client.leave()
            client._thread.shutdown()


def open_job(dispatcher: Dispatcher, values: list[object], rules: Rules | None = None) -> ServedJob:
    """Let a master have inputs of its own."""
    source = Source(values)
    return dispatcher.jobs.open(SPEC, rules or Rules(), source)


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
