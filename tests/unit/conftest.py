"""Fixtures of several packages' tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.connections import FakeClients


@pytest.fixture
def clients() -> Iterator[FakeClients]:
    clients = FakeClients()
    yield clients
    clients.close()
