"""What a master says of who comes and goes."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest

from dq.master.announcer import Announcer
from dq.master.lifetime import Lifetime


class FakePresence:
    """News that a test has put there."""

    def __init__(self) -> None:
        self.news: list[Any] = []
        self.lack: str | None = None

    def notes(self) -> list[Any]:
        news, self.news = self.news, []
        return news

    def no_worker_notice(self) -> str | None:
        lack, self.lack = self.lack, None
        return lack

    def needs_task(self) -> bool:
        return False


@pytest.fixture
def presence() -> FakePresence:
    return FakePresence()


def announcer_of(presence: FakePresence, lines: list[str], **options: Any) -> Announcer:
    dispatcher = SimpleNamespace(lock=threading.RLock(), presence=presence)
    serving = SimpleNamespace(
        has_port=options.pop("has_port", True), join_command=lambda needs_task: "dq worker"
    )
    settings: dict[str, Any] = {"key_hint": "that key", "has_workers": False, **options}
    lifetime = settings.pop("lifetime", None) or Lifetime()
    parts: Any = (dispatcher, serving, lifetime)
    return Announcer(*parts, report=lines.append, **settings)


def test_news_and_warnings_are_reported(presence: FakePresence) -> None:
    lines: list[str] = []
    presence.news = [
        SimpleNamespace(line="it came", warning=False),
        SimpleNamespace(line="it is lost", warning=True),
    ]
    announcer_of(presence, lines).announce()
    assert lines == ["it came", "it is lost"]


def test_what_people_can_do_without_may_go_elsewhere(presence: FakePresence) -> None:
    lines: list[str] = []
    presence.news = [
        SimpleNamespace(line="it came", warning=False),
        SimpleNamespace(line="it is lost", warning=True),
    ]
    announcer = announcer_of(presence, lines)
    announcer.note = lambda line: None
    announcer.announce()
    assert lines == ["it is lost"]


def test_where_nobody_works_it_says_how_to_start_a_worker(presence: FakePresence) -> None:
    lines: list[str] = []
    presence.lack = "nobody works"
    announcer_of(presence, lines).announce()
    assert lines == ["nobody works. Start one: dq worker (with that key)"]


@pytest.mark.parametrize("why", [{"has_workers": True}, {"has_port": False}, {"closed": True}])
def test_no_worker_is_asked_for_where_none_could_help(
    why: dict[str, bool], presence: FakePresence
) -> None:
    lines: list[str] = []
    presence.lack = "nobody works"
    lifetime = Lifetime()
    if why.pop("closed", False):
        lifetime.end()
    announcer_of(presence, lines, lifetime=lifetime, **why).announce()
    assert lines == []
