"""A little of what `fuzz.py` can do without end, and, as a soak, a lot of it."""

from __future__ import annotations

import json
import os
import random
import sys
from typing import Any

import pytest

from dq.security.pickle_rules import Refused
from dq.security.safe_pickle import safe_loads
from security.mutations import ALLOWED, CORPUS, HOSTILE, Mutator
from support import ROOT, run

pytestmark = pytest.mark.slow

SIZES = {"before": 10_000, "pickles": 20_000, "after": 3_000}
LARGE = {
    "before": int(os.environ.get("DQ_TEST_SOAK_FRAMES", "10000000")),
    "pickles": int(os.environ.get("DQ_TEST_SOAK_PICKLES", "1000000")),
    "after": int(os.environ.get("DQ_TEST_SOAK_MESSAGES", "100000")),
}


def fuzz(target: str, inputs: int, timeout: float) -> dict[str, Any]:
    """Run it, with a seed that can be had again, and return its figures."""
    seed = os.environ.get("DQ_TEST_SEED") or str(random.SystemRandom().getrandbits(32))
    print(f"DQ_TEST_SEED={seed}")
    argv = (sys.executable, "-m", "security.fuzz", target, "--inputs", str(inputs), "--seed", seed)
    done = run(*argv, cwd=ROOT / "tests", timeout=timeout)
    assert done.returncode == 0, (done.returncode, done.stderr)
    figures: dict[str, Any] = json.loads(done.stdout)
    print(figures)
    assert figures["inputs"] == inputs
    return figures


@pytest.mark.parametrize("target", SIZES)
def test_hostile_input_does_nothing(target: str) -> None:
    figures = fuzz(target, SIZES[target], 280)
    if target == "pickles":  # of each kind a good part, or they would try nothing
        assert min(figures["data"], figures["refused"], figures["no pickle"]) > SIZES[target] / 20
    if target == "after":
        assert min(figures["#RETURN"], figures["#ERROR"], figures["ended"]) > SIZES[target] / 100


@pytest.mark.soak
@pytest.mark.timeout(86_400)
@pytest.mark.parametrize("target", LARGE)
def test_a_lot_of_hostile_input_does_nothing(target: str) -> None:
    fuzz(target, LARGE[target], 86_000)


# --- that it would see something


WOULD_SEE = """if True:
    import random, sys
    from dq.security import checked_unpickler, pickle_rules, pickle_survey, safe_pickle
    from security import fuzz
    {change}
    try:
        print(fuzz.run({target!r}, 1, {inputs}, None))
    except fuzz.Violation as error:
        sys.exit(f"seen: {{error}}")
"""


@pytest.mark.parametrize(
    ("target", "change"),
    [
        ("pickles", "safe_pickle.safe_loads = __import__('pickle').loads"),
        ("pickles", "pickle_rules._ALLOWED.add(('uuid', 'getnode'))"),
        ("pickles", "checked_unpickler.is_state = lambda found, state: True"),
        ("pickles", "pickle_survey._check_memo = lambda index, at: None"),
        ("pickles", "pickle_survey._SIZES[0x93] = 1"),
        ("before", "fuzz.Server._authenticates = lambda server, conn: True"),
        (
            "before",
            "from dq.transport import handshake;"
            " handshake.deliver_challenge = lambda conn, key: conn.recv()",
        ),
        ("before", "fuzz.Server._admit = lambda server, conn: conn.send_bytes(b'hello')"),
        ("after", "fuzz.Server._loads = lambda s, m: __import__('pickle').loads(m)"),
        (
            "after",
            "__import__('dq.dispatch.dispatcher').dispatch.dispatcher.Dispatcher._leave ="
            " lambda self, connection: None",
        ),
    ],
)
def test_the_fuzzer_sees_what_is_not_as_it_should_be(target: str, change: str) -> None:
    code = WOULD_SEE.format(target=target, change=change, inputs=SIZES[target])
    done = run(sys.executable, "-c", code, cwd=ROOT / "tests")
    assert "seen: " in done.stderr, (done.stdout, done.stderr)


def test_made_up_pickles_name_all_that_they_could() -> None:
    mutator = Mutator(random.Random(1))
    made = b"".join(mutator.written() for _ in range(20_000))
    for module, name in [*HOSTILE[:-4], *ALLOWED]:
        assert f"c{module}\n{name}\n".encode() in made, (module, name)


def test_the_corpus_is_of_what_comes_through_or_was_refused_before() -> None:
    refused = 0
    for data in CORPUS:
        try:
            safe_loads(data)
        except Refused:
            refused += 1
    assert refused < len(CORPUS) / 4  # protocols 0 to 2, in which bytes are calls
