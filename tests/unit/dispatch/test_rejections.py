"""Jobs that workers cannot load."""

from __future__ import annotations

from dq.manager.messages import ReportMessage
from support.connections import FakeClients, grant_of, open_job


def test_a_refused_job_goes_elsewhere_and_is_said(clients: FakeClients) -> None:
    said: list[str] = []
    dispatcher = clients.dispatcher(notify=said.append)
    open_job(dispatcher, [3])
    first, second = clients.connect(dispatcher), clients.connect(dispatcher)
    first.hello("a")
    second.hello("b")
    lease, _, start, *_ = grant_of(first.exchange())
    refused = ReportMessage(dispatcher.run, lease, start, refusal="no module named app")
    assert first.exchange(refused, wait=0.0)[0] == "idle"
    assert said == ["no module named app"]
    assert grant_of(second.exchange())[6] == 1
