"""From a task and its options to a job's spec."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dq.errors import BadTask, MissingModule
from dq.functions.job_specs import JobSpecs
from dq.functions.task_options import TaskOptions


def specs_with(
    said: list[str] | None = None, *, has_workers: bool = False, **options: Any
) -> JobSpecs:
    report = print if said is None else said.append
    return JobSpecs(TaskOptions(**options), has_workers=has_workers, report=report)


@pytest.fixture
def lacking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A task whose module needs a library that is not there."""
    (tmp_path / "lacking.py").write_text("import no_such_library\ndef f(x): return x\n")
    monkeypatch.syspath_prepend(tmp_path)
    return "lacking:f"


def test_a_spec_has_what_the_options_say() -> None:
    specs = specs_with(timeout=3.0, unpack=True, strict_code=True, initializer="gc:collect")
    spec = specs.spec(*specs.refer("math:sqrt"), output="results")
    assert str(spec.ref) == "math:sqrt"
    assert str(spec.init) == "gc:collect"
    assert (spec.timeout, spec.unpack, spec.strict, spec.output) == (3.0, "items", True, "results")


def test_each_job_has_an_id_of_its_own_but_for_that_of_plain_clients() -> None:
    specs = specs_with()
    [ref, init] = specs.refer("math:sqrt")
    assert specs.spec(ref, init).id != specs.spec(ref, init).id
    assert specs.plain_spec("math:sqrt").id == "plain"


def test_a_library_may_be_missing_where_all_workers_are_elsewhere(lacking: str) -> None:
    said: list[str] = []
    specs = specs_with(said)
    for _ in range(2):
        specs.check(lacking)
    [line] = said
    assert "no_such_library" in line
    assert line.endswith("; going on, since only workers need it")


def test_a_library_may_not_be_missing_where_workers_are_here(lacking: str) -> None:
    with pytest.raises(MissingModule):
        specs_with(has_workers=True).check(lacking)


def test_an_initializer_that_cannot_be_loaded_is_refused_at_once() -> None:
    with pytest.raises(BadTask, match="no_such_name"):
        specs_with(initializer="math:no_such_name")


def test_only_what_goes_by_value_has_a_digest_of_its_code() -> None:
    def initialize() -> None: ...

    [ref, _] = specs_with().refer("math:sqrt")
    assert specs_with().code_digest("math:sqrt", ref) == ""
    assert specs_with(initializer=initialize).code_digest("math:sqrt", ref) != ""
