"""A master's file in which a disk has changed single bits: what is read is right, or refused."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

import dq
from support.jobs import keeping_jobs

Found = dict[int, tuple[str, list[object], list[object]]]


def inverse(x: int) -> float:
    return 1 / x


def found(client: dq.Client) -> Found:
    """Each job's state, and its results in order and as they came."""
    return {
        status.number: (
            status.state,
            [(r.id, r.input, r.value, str(r.error)) for r in job.results()],
            sorted((r.id, str(r.value)) for r in job.results(ordered=False)),
        )
        for status in client.jobs()
        if (job := client.job(status.number))
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, Found]:
    """A master's file, and what is in it."""
    path = tmp_path_factory.mktemp("whole") / "jobs"
    with keeping_jobs(path) as client:
        for inputs in (range(1, 200), range(-10, 10)):
            client.submit(inverse, inputs, batch=5).wait(60)
        before = found(client)
    return path.read_bytes(), before


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    "seed", [*range(4), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(4, 40))]
)
def test_a_changed_bit_never_changes_results_in_silence(
    tmp_path: Path, whole: tuple[bytes, Found], seed: int
) -> None:
    data, before = whole
    random, places = Random(seed), [place for place, byte in enumerate(data) if byte]
    for number in range(10):
        damaged = bytearray(data)
        damaged[random.choice(places)] ^= 1 << random.randrange(8)
        path = tmp_path / f"jobs-{number}"
        path.write_bytes(damaged)
        try:
            with keeping_jobs(path, workers=0) as client:
                assert found(client) == before
        except dq.DqError:
            pass  # which says what is damaged
