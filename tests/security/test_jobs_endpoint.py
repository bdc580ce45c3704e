"""Who has the key and sends a master that keeps jobs anything at all: is told so, and changes
nothing for anybody else."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

import dq
from dq.core.records import Reading
from dq.data.blocks import pack
from dq.errors import ConnectError
from dq.functions.reference import TaskRef
from dq.functions.spec import JobSpec
from dq.manager.client import ServerConnection
from dq.service.endpoint import JobsEndpoint
from dq.service.endpoint_names import JOBS
from dq.service.options import JobOptions
from dq.service.specs import CALL_OUTPUT, OUTPUT, PICKLED
from support.jobs import KEY, keeping_jobs

SPEC = JobSpec(
    id="s", ref=TaskRef("module", "math", "sqrt"), reading=Reading("lines"), output=OUTPUT
)
WIRE = SPEC.to_wire()
OPTIONS = JobOptions().to_wire()
HUGE, LONE = 1 << 70, "\udc80"
ANYTHING: list[Any] = [
    None, True, -1, HUGE, 0.5, float("nan"), "", "x", LONE, b"x", [], [HUGE], ["1"], {}, {"a": 1},
    (), ("x",), {1}, Fraction(1, 3), "all", "last", "1", ["all"],
]  # fmt: skip


class Evil:
    def __reduce__(self) -> Any:
        return eval, ("__import__('os').abort()",)


@pytest.fixture
def client(tmp_path: Path) -> Iterator[dq.Client]:
    with keeping_jobs(tmp_path / "jobs") as found:
        yield found


def say(client: dq.Client, method: str, *args: object) -> object:
    """What the endpoint answers; the error, if it or the server refuses."""
    address = client._connection.address
    with closing(ServerConnection(address, KEY.encode())) as server:
        try:
            return server.call(JOBS, method, *args)
        except Exception as error:
            return error


def is_well(client: dq.Client) -> bool:
    """Whether the master goes on for everybody else."""
    job = client.submit("math:sqrt", [4, 9])
    return list(job.values()) == [2.0, 3.0]


@pytest.mark.parametrize("methods", [JobsEndpoint.EXPOSED[place::4] for place in range(4)])
def test_arguments_that_are_none_are_refused(client: dq.Client, methods: tuple[str, ...]) -> None:
    for method in methods:
        if method != "stop":  # whoever has the key may do that
            attack(client, method)


def attack(client: dq.Client, method: str) -> None:
    counts = {
        "hello": 1,
        "begin": 4,
        "block": 3,
        "commit": 3,
        "results": 5,
        "lines": 3,
        "wait": 3,
        "probe": 3,
        "open_calls": 4,
        "push_calls": 6,
        "take_calls": 3,
        "cancel_calls": 2,
        "drop_functions": 2,
    }
    count = counts.get(method, 2 if method in ("failures", "retry") else 1)
    done = client.submit("math:sqrt", [16])
    done.wait(60)
    for place in range(count):
        for value in ANYTHING:
            args: list[Any] = ["no such job"] * count
            if method in ("results", "lines", "wait", "failures", "retry"):
                args = ["1", 0, True, True, 0.0][:count]
            args[place] = value
            if method in ("cancel", "forget") and value in (["1"], ["all"]):
                continue  # that is what they are for
            answer = say(client, method, *args)
            assert not isinstance(answer, ConnectError) or "lost" not in str(answer), args
    assert is_well(client), method
    assert list(done.values()) == [4.0], method


NO_SPECS: list[Any] = [
    *ANYTHING,
    WIRE[:-1],
    ("s", None, *WIRE[2:]),
    ("s", ("value", "f", "", "", b""), *WIRE[2:-1], True),
    ("s", ("other", "f", "", "", b""), *WIRE[2:]),
    ("s", ("module", 3, "", "", b""), *WIRE[2:]),
    (*WIRE[:2], ("nonsense", (), False, "", ","), *WIRE[3:]),
    (*WIRE[:4], "text", *WIRE[5:]),
    (*WIRE[:5], "soon", *WIRE[6:]),
]


def test_a_spec_that_is_none_is_refused(client: dq.Client) -> None:
    for spec in NO_SPECS:
        answer = say(client, "begin", "id", spec, None, OPTIONS)
        assert isinstance(answer, Exception) or answer[0] != "ok", spec  # type: ignore[index]
        assert client.jobs() == [], spec
    assert is_well(client)


NO_OPTIONS: list[Any] = [
    {**OPTIONS, "priority": HUGE},
    {**OPTIONS, "priority": "high"},
    {**OPTIONS, "name": LONE},
    {**OPTIONS, "name": "x" * 100_000},
    {**OPTIONS, "after": ["9"]},
    {**OPTIONS, "after": [HUGE]},
    {**OPTIONS, "tasks": {"retries": -1}},
    {**OPTIONS, "tasks": {"timeout": float("nan")}},
    {**OPTIONS, "tasks": {"batch": "x"}},
    {"tasks": None},
]


def test_options_that_cannot_be_used_are_refused(client: dq.Client) -> None:
    for options in NO_OPTIONS:
        answer = say(client, "begin", "id", WIRE, None, options)
        assert isinstance(answer, Exception) or answer[0] != "ok", options  # type: ignore[index]
        assert client.jobs() == [], options
    assert is_well(client)


def test_what_workers_would_unpickle_is_not_unpickled_by_the_master(client: dq.Client) -> None:
    evil = pickle.dumps(Evil())
    ref = ("value", "f", "", "", evil)
    spec = ("s", ref, *WIRE[2:])
    assert say(client, "begin", "a", spec, None, OPTIONS) == ("ok", 0)
    assert say(client, "block", "a", 0, pack([evil]))[0] == "ok"  # type: ignore[index]
    for functions in (evil, pickle.dumps((4, [evil, b""]))):
        answer = say(client, "begin", "b", (*spec[:-1], True), functions, OPTIONS)
        assert isinstance(answer, Exception) or answer[0] != "ok"  # type: ignore[index]
    assert is_well(client)


@pytest.mark.parametrize("data", [b"", b"x", b"\xff" * 64, pack([b"1"]) + b"x", pack([b"1"])[:-1]])
def test_a_block_that_is_none_is_refused(client: dq.Client, data: bytes) -> None:
    assert say(client, "begin", "a", WIRE, None, OPTIONS) == ("ok", 0)
    answer = say(client, "block", "a", 0, data)
    assert isinstance(answer, Exception) or answer[0] == "UsageError"  # type: ignore[index]
    assert is_well(client)


def test_blocks_out_of_turn_are_not_taken(client: dq.Client) -> None:
    assert say(client, "begin", "a", WIRE, None, OPTIONS) == ("ok", 0)
    for number in (HUGE, 1):
        assert say(client, "block", "a", number, pack([b"1"])) == ("ok", (0, 0))
    assert say(client, "commit", "a", 1, 1) == ("ok", (0, 0, 0))
    assert is_well(client)


def test_a_part_of_a_job_is_not_begun(client: dq.Client) -> None:
    assert say(client, "begin", "a", WIRE, None, OPTIONS) == ("ok", 0)
    say(client, "block", "a", 0, pack([b"1"]))
    assert say(client, "commit", "a", 2, 1)[1][:2] == (0, 1)  # type: ignore[index]
    for blocks, total in ((1, 2), (0, 0)):
        answer = say(client, "commit", "a", blocks, total)
        assert answer == ("UsageError", f"the {blocks} blocks do not have {total} inputs")
    assert client.jobs() == []
    assert say(client, "commit", "a", 1, 1) == ("ok", (1, 1, 1))


CALLS = JobSpec(id="c", ref=None, reading=PICKLED, output=CALL_OUTPUT, unpack="call").to_wire()


NO_SPECS_OF_CALLS: list[Any] = [
    *ANYTHING,
    WIRE,
    ("c", SPEC.to_wire()[1], *CALLS[2:]),
    (*CALLS[:2], Reading("lines").to_wire(), *CALLS[3:]),
    (*CALLS[:3], "items", *CALLS[4:]),
    (*CALLS[:4], OUTPUT, *CALLS[5:]),
]


def test_a_spec_of_calls_that_is_none_is_refused(client: dq.Client) -> None:
    for spec in NO_SPECS_OF_CALLS:
        answer = say(client, "open_calls", "id", spec, None, OPTIONS)
        assert isinstance(answer, Exception) or answer[0] != "ok", spec  # type: ignore[index]
        assert say(client, "take_calls", "id", 0, 0.0) == ("ok", None), spec
    assert is_well(client)


def test_calls_that_are_none_fail_and_nobody_else_does(client: dq.Client) -> None:
    assert say(client, "open_calls", "id", CALLS, None, OPTIONS) == ("ok", None)
    evil = pickle.dumps(Evil())
    for args in (
        ("id", 5, [b"x"], {}, 0, []),
        ("id", 0, [b"x"], {}, 3, []),
        ("id", 0, ["x"], {}, 0, []),
        ("id", 0, [], {b"d": evil}, 0, []),
        ("id", 0, [], {b"d": (True, evil)}, 0, []),
        ("id", 0, [], {1: (False, evil)}, 0, []),
        ("id", 0, [], {}, 0, [((1,), evil)]),
        ("id", 0, [], {}, 0, [(("a",), None)]),
    ):
        answer = say(client, "push_calls", *args)
        assert isinstance(answer, Exception) or answer[0] == "UsageError", args  # type: ignore[index]
    items = [
        b"",
        b"x",
        pickle.dumps(3),
        pickle.dumps((True, [(1, 2, 3)])),
        pickle.dumps((True, [()])),
    ]
    assert say(client, "push_calls", "id", 0, items, {b"d": (False, b"x")}, 0, []) == ("ok", 5)
    assert say(client, "cancel_calls", "id", [HUGE, 7]) == ("ok", None)
    ended = 0
    cursor = 0
    while ended < len(items):
        answer = say(client, "take_calls", "id", cursor, 10.0)
        kind, found = answer  # type: ignore[misc]
        assert kind == "ok", answer
        events, cursor, _ = found
        outcomes = [event for event in events if len(event) > 2]
        assert all(event[5] is not None for event in outcomes), outcomes
        ended += len(outcomes)
    answer = say(client, "take_calls", "id", cursor + 1, 0.0)
    assert answer[0] == "UsageError"  # type: ignore[index]
    assert say(client, "close_calls", "id") == ("ok", None)
    assert say(client, "push_calls", "id", 5, [b"x"], {}, 0, []) == ("ok", None)
    assert is_well(client)
