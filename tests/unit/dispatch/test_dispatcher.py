"""Connections of a dispatcher, as they come and go."""

from __future__ import annotations

from support.connections import FakeClients, open_job


def test_only_slots_count_as_slots(clients: FakeClients) -> None:
    dispatcher = clients.dispatcher()
    client, slot, supervisor = (clients.connect(dispatcher) for _ in range(3))
    client.put(1)
    client.get()
    slot.hello()
    supervisor.hello(role="supervisor")
    assert dispatcher.slots == 1


def test_nothing_is_left_when_everybody_has_gone(clients: FakeClients) -> None:
    dispatcher = clients.dispatcher()
    open_job(dispatcher, [3])
    worker = clients.connect(dispatcher)
    worker.hello()
    worker.exchange()
    worker.leave()
    assert (dispatcher.busy, dispatcher.slots) == (0, 0)
    assert dispatcher.connections.wait_until_no_workers(0.0)
