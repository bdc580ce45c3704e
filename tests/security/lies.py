"""What a client with the key may say of tasks that is not so.

Each lie is made of the run's id, the liar's own lease and that of somebody else, and is a method of
the workers' endpoint with its arguments.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

from dq.data import batches
from dq.manager.messages import LeaseMessage
from dq.manager.protocol import PROTOCOL
from security import pickles

Lie = Callable[[str, LeaseMessage, LeaseMessage], tuple[Any, ...]]

BLOB = batches.dump([666])
ONE = [(1, BLOB, 0.0)]
NAN, ENDLESS = float("nan"), float("inf")
DEEP = pickles.Ready(pickles.deep(50_000))
SHARED = pickles.shared(22)  # of 4 million parts, were it shown
INFO = {"role": "slot", "group": "liars", "name": "liar:1", "default": True}


def mine(
    outcomes: object = ONE,
    *,
    first: object = None,
    back: object = 0,
    busy: object = 0.0,
    refusal: object = "",
) -> Lie:
    """A report on the liar's own lease."""

    def lie(run: str, own: LeaseMessage, theirs: LeaseMessage) -> tuple[Any, ...]:
        start = own.start if first is None else first
        return "exchange", (run, own.lease, start, outcomes, back, busy, refusal), 0, 0.0

    return lie


def said(*args: object) -> Lie:
    """Whatever the leases."""
    return lambda run, own, theirs: args


#: After these the connection is ended.
REPORTS: dict[str, Lie] = {
    "on somebody else's lease": lambda run, own, theirs: (
        "exchange", (run, theirs.lease, theirs.start, ONE, 0, 0.0, ""), 0, 0.0,
    ),
    "on somebody else's task": lambda run, own, theirs: (
        "exchange", (run, own.lease, theirs.start, ONE, 0, 0.0, ""), 0, 0.0,
    ),
    "from a task on that is none": mine(first=10**6),
    "from a task on before all": mine(first=-1),
    "from half a task on": mine(first=0.5),
    "from a text on": mine(first="0"),
    "of two tasks": mine([(2, BLOB, 0.0)]),
    "of one task twice": mine([*ONE, *ONE]),
    "of 2^70 tasks": mine([(2**70, BLOB, 0.0)]),
    "of fewer than no tasks": mine([(-1, BLOB, 0.0)]),
    "of no task": mine([(0, BLOB, 0.0)]),
    "of half a task": mine([(0.5, BLOB, 0.0)]),
    "of a true task": mine([(True, BLOB, 0.0)]),
    "of as many as a list": mine([([1], BLOB, 0.0)]),
    "that is text": mine([(1, "blob", 0.0)]),
    "that took less than no time": mine([(1, BLOB, -1.0)]),
    "that took no number": mine([(1, BLOB, NAN)]),
    "that took for ever": mine([(1, BLOB, ENDLESS)]),
    "that took a text": mine([(1, BLOB, "1")]),
    "without outcomes": mine(None),
    "with a number for outcomes": mine(5),
    "with a text for outcomes": mine("abc"),
    "with a range for outcomes": mine(range(10**10)),
    "with a mapping for outcomes": mine({1: 2}),
    "with a number for an outcome": mine([5]),
    "with an empty outcome": mine([()]),
    "with an outcome of two": mine([(1, BLOB)]),
    "with an outcome of four": mine([(1, BLOB, 0.0, 1)]),
    "with a deep outcome": mine([DEEP]),
    "with a failure of no name": mine([(None, "x", "x", 0.0, False, b"")]),
    "with a failure of a shared name": mine([(SHARED, "x", "x", 0.0, False, b"")]),
    "with a failure of a deep message": mine([("x", DEEP, "x", 0.0, False, b"")]),
    "with a failure that took a text": mine([("x", "x", "x", "0", False, b"")]),
    "with a failure without an exception": mine([("x", "x", "x", 0.0, False)]),
    "with a failure of an exception as text": mine([("x", "x", "x", 0.0, False, "x")]),
    "with a failure of a shared exception": mine([("x", "x", "x", 0.0, False, SHARED)]),
    "with a failure of a large exception": mine([("x", "x", "x", 0.0, False, bytes(2**17))]),
    "with more handed back than there is": mine([], back=2),
    "with 2^70 handed back": mine([], back=2**70),
    "with fewer than none handed back": mine([], back=-1),
    "with half a task handed back": mine([], back=0.5),
    "with what is done handed back": mine(back=1),
    "busy for ever": mine(busy=ENDLESS),
    "busy for no number": mine(busy=NAN),
    "busy with a list": mine(busy=[0.0]),
    "that refuses with a list": mine([], refusal=["no"]),
    "that refuses with what is shared": mine([], refusal=SHARED),
    "of a run that is a list": lambda run, own, theirs: (
        "exchange", (SHARED, own.lease, own.start, ONE, 0, 0.0, ""), 0, 0.0,
    ),
    "of one part": said("exchange", (1,), 0, 0.0),
    "of eight parts": said("exchange", (1,) * 8, 0, 0.0),
    "that is a text": said("exchange", "report", 0, 0.0),
    "that is a number": said("exchange", 7, 0, 0.0),
    "that is a range": said("exchange", range(10**10), 0, 0.0),
    "that is deep": said("exchange", DEEP, 0, 0.0),
}  # fmt: skip

#: These are answered with an error.
ERRORS: dict[str, Lie] = {
    "half a task wanted": said("exchange", None, 0.5, 0.0),
    "less than nothing wanted": said("exchange", None, -0.5, 0.0),
    "no number wanted": said("exchange", None, NAN, 0.0),
    "a fraction wanted": said("exchange", None, Fraction(1, 3), 0.0),
    "a truth wanted": said("exchange", None, True, 0.0),
    "a text wanted": said("exchange", None, "1", 0.0),
    "nobody knows what wanted": said("exchange", None, None, 0.0),
    "a wait for a text": said("exchange", None, 1, "1"),
    "a wait of no number": said("exchange", None, 1, NAN),
    "a wait for a list": said("exchange", None, 1, DEEP),
    "a wait of 400 digits": said("exchange", None, 1, 10**400),
    "a hello again": said("hello", PROTOCOL, INFO),
    "a hello of another protocol": said("hello", PROTOCOL + 1, INFO),
    "a hello of a shared protocol": said("hello", SHARED, INFO),
    "a hello of nobody": said("hello", PROTOCOL, None),
    "a hello of no name": said("hello", PROTOCOL, {}),
    "a hello without arguments": said("hello"),
    "a death at half a task": lambda run, own, theirs: (
        "charge", run, "died", own.lease, own.start + 0.5, 1, "x",
    ),
    "a death before all tasks": lambda run, own, theirs: (
        "charge", run, "died", own.lease, -1, 1, "x",
    ),
    "a death at a text": lambda run, own, theirs: ("charge", run, "died", own.lease, "0", 1, "x"),
    "a death in half a task": lambda run, own, theirs: (
        "charge", run, "died", own.lease, own.start, 1.5, "x",
    ),
    "a death of a list": lambda run, own, theirs: (
        "charge", run, "died", own.lease, own.start, 1, ["x"],
    ),
    "a death of what is shared": lambda run, own, theirs: (
        "charge", run, "died", own.lease, own.start, 1, SHARED,
    ),
    "a death of a lease that is a list": lambda run, own, theirs: (
        "charge", run, "died", [own.lease], own.start, 1, "x",
    ),
    "an end of a lease that is a list": lambda run, own, theirs: (
        "charge", run, "ended", [own.lease], own.start, 1, "x",
    ),
    "a time-out at half a task": lambda run, own, theirs: (
        "charge", run, "timeout", own.lease, own.start + 0.5, 1, "",
    ),
    "a ping of less than nothing": said("ping", b"", -1),
    "a ping of a text": said("ping", b"", "1"),
    "a ping of half a byte": said("ping", b"", 0.5),
}  # fmt: skip

#: These are answered as if they were true, and come to nothing.
IGNORED: dict[str, Lie] = {
    "a lease of nobody": said("exchange", ("", 12345, 0, ONE, 0, 0.0, ""), 0, 0.0),
    "the lease after mine": lambda run, own, theirs: (
        "exchange", (run, own.lease + 1, own.start, ONE, 0, 0.0, ""), 0, 0.0,
    ),
    "a refusal of somebody else's lease": lambda run, own, theirs: (
        "exchange", (run, theirs.lease, theirs.start, [], 0, 0.0, "no"), 0, 0.0,
    ),
    "another run": lambda run, own, theirs: (
        "exchange", ("f" * 16, own.lease, own.start, ONE, 0, 0.0, ""), 0, 0.0,
    ),
    "a death in another run": lambda run, own, theirs: (
        "charge", "f" * 16, "died", theirs.lease, theirs.start, 1, "x",
    ),
    "a death of nobody": lambda run, own, theirs: ("charge", run, "died", 12345, 0, 1, "x"),
    "a death of the lease after theirs": lambda run, own, theirs: (
        "charge", run, "died", theirs.lease + 1, theirs.start, 1, "x",
    ),
    "a death at a task that is none": lambda run, own, theirs: (
        "charge", run, "died", own.lease, 10**6, 1, "x",
    ),
    "a death among 2^70 tasks": lambda run, own, theirs: (
        "charge", run, "died", own.lease + 1, own.start, 2**70, "x",
    ),
    "an explosion": lambda run, own, theirs: (
        "charge", run, "exploded", own.lease, own.start, 1, "x",
    ),
    "an end of nobody": lambda run, own, theirs: ("charge", run, "ended", 12345, 0, 1, ""),
    "a time-out of nobody": lambda run, own, theirs: ("charge", run, "timeout", 12345, 0, 1, ""),
}  # fmt: skip
