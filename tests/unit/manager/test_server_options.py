"""What can be asked of a server."""

from __future__ import annotations

from typing import Any

import pytest

from dq.errors import UsageError
from dq.manager.server_options import LOADS, ServerOptions


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"maxsize": -1}, "maxsize must be a whole number of 0 or more, not -1"),
        ({"max_message": 0}, "max_message must be a whole number of 1 or more, not 0"),
        ({"keepalive": 4}, "keepalive must be a whole number from 5 to 86400, not 4"),
        ({"port": 65536}, "port must be a whole number from 0 to 65535, not 65536"),
        ({"host": None}, "host must be a string, not None"),
        ({"host": "10.0.0.2:5000"}, r"host '10.0.0.2:5000' has a port in it"),
        ({"host": "[::1]:5000"}, r"host '\[::1\]:5000' has a port in it"),
        ({"pickle": "all"}, "pickle must be 'safe' or 'any', not 'all'"),
    ],
)
def test_a_value_that_cannot_be_used_is_refused_by_its_name(
    wrong: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        ServerOptions(**wrong)


@pytest.mark.parametrize(("host", "bare"), [("", ""), ("[::1]", "::1"), ("here", "here")])
def test_its_address_is_without_the_brackets_of_ipv6(host: str, bare: str) -> None:
    assert ServerOptions(host=host, port=0).address == (bare, 0)
    assert ServerOptions(host=host).address is None


def test_a_dispatcher_has_the_options() -> None:
    options = ServerOptions(maxsize=3, redeliver=False, max_message=99, keepalive=7, pickle="any")
    dispatcher = options.dispatcher(lambda line: None)
    assert (dispatcher.plain.maxsize, dispatcher.plain.redeliver) == (3, False)
    assert (dispatcher.max_message, dispatcher.keepalive) == (99, 7)
    assert options.loads is LOADS["any"]
