"""What executors elsewhere call of a master that keeps jobs."""

from __future__ import annotations

from typing import cast

from dq.core.blobs import Blob
from dq.core.records import LONGEST_NAME
from dq.dispatch.dispatcher import Dispatcher
from dq.errors import UsageError
from dq.functions.definitions import Definition
from dq.manager.message_checks import as_count, as_text
from dq.manager.worker_endpoint import ANSWERED
from dq.service.answering import answered, time_to_wait
from dq.service.calls import CallService
from dq.service.options import JobOptions
from dq.service.specs import calls_from_client, function_from_client


class CallsEndpoint:
    """Methods for executors. Each answers as those of `JobsEndpoint` do; with None, if there are no
    such calls any more.

    Args:
        calls: has them run.
        dispatcher: the master's.
    """

    EXPOSED: tuple[str, ...] = (
        "open_calls", "push_calls", "take_calls", "cancel_calls", "drop_functions", "close_calls",
    )  # fmt: skip

    def __init__(self, calls: CallService, dispatcher: Dispatcher) -> None:
        self._calls = calls
        self._dispatcher = dispatcher

    def open_calls(self, id: str, spec: object, functions: object, options: object) -> object:
        """Begin with calls; see `CallService.open`."""

        def open() -> None:
            checked = calls_from_client(spec, functions)
            rules = JobOptions.from_wire(options).rules
            self._calls.open(as_text(id)[:LONGEST_NAME], checked, rules)

        return answered(open)

    def push_calls(
        self, id: str, first: int, items: object, functions: object, known: int, definitions: object
    ) -> object:
        """Send calls; see `ClientCalls.push`."""

        def push() -> int | None:
            calls = self._calls.find(as_text(id))
            if calls is None:
                return None
            return calls.push(
                as_count(first),
                _byte_strings(items),
                _functions(functions),
                as_count(known),
                _definitions(definitions),
            )

        return answered(push)

    def take_calls(self, id: str, cursor: int, wait: float) -> object:
        """What has become of calls; see `ClientCalls.take`."""

        def take() -> object:
            seconds = time_to_wait(wait)
            calls = self._calls.find(as_text(id))
            if calls is None:
                return None
            channel = self._dispatcher.connections.current.channel
            found = calls.take(as_count(cursor), seconds, channel)
            return ANSWERED if found is None else found

        answer = answered(take)
        return ANSWERED if answer[1] is ANSWERED else answer

    def cancel_calls(self, id: str, indices: object) -> object:
        """End calls; see `ClientCalls.cancel`."""

        def cancel() -> None:
            calls = self._calls.find(as_text(id))
            if type(indices) is not list:
                raise UsageError("not a list of calls")
            if calls is not None:
                calls.cancel([as_count(index) for index in indices])

        return answered(cancel)

    def drop_functions(self, id: str, digests: object) -> object:
        """Forget functions by value; see `ClientCalls.drop_functions`."""

        def drop() -> None:
            calls = self._calls.find(as_text(id))
            if calls is not None:
                calls.drop_functions(_byte_strings(digests))

        return answered(drop)

    def close_calls(self, id: str) -> object:
        """End calls, those that run too."""
        return answered(lambda: self._calls.close(as_text(id)))


def _byte_strings(wire: object) -> list[bytes]:
    if type(wire) is not list or not all(type(one) is bytes for one in wire):
        raise UsageError("not a list of bytes")
    return wire


def _functions(wire: object) -> dict[bytes, Blob]:
    if type(wire) is not dict or not all(type(digest) is bytes for digest in wire):
        raise UsageError("these are not functions by their digests")
    return {digest: function_from_client(function) for digest, function in wire.items()}


def _definitions(wire: object) -> list[Definition]:
    if type(wire) is not list or not all(map(_is_definition, wire)):
        raise UsageError("these are not definitions of classes")
    return wire


def _is_definition(wire: object) -> bool:
    if type(wire) is not tuple or len(wire) != 2:
        return False
    names, pickled = cast("tuple[object, object]", wire)
    if type(names) is not tuple or type(pickled) is not bytes:
        return False
    return all(type(name) is str for name in names)
