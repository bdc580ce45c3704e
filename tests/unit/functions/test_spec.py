"""What a worker is told of a job, on the wire."""

from __future__ import annotations

from dq.core.records import Reading
from dq.functions.reference import TaskRef
from dq.functions.spec import JobSpec


def test_a_job_spec_survives_the_wire() -> None:
    ref = TaskRef(kind="file", where="a.py", name="f", path="/x/a.py")
    spec = JobSpec(
        id="id",
        ref=ref,
        reading=Reading(kind="csv", fields=("a", "b"), raw=True, field="a", delimiter=";"),
        unpack="items",
        output="jsonl",
        timeout=1.5,
        init=ref,
        digest="d",
        strict=True,
    )
    assert JobSpec.from_wire(spec.to_wire()) == spec

    plain = JobSpec(id="plain", ref=None)
    assert JobSpec.from_wire(plain.to_wire()) == plain
