"""That an option is called the same in its record, in the public calls and on the command line."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from dq._support.fields import names_of
from dq._support.naming import parameter
from dq.cli import commands, work
from dq.functions.task_options import TaskOptions
from dq.manager.server_options import ServerOptions
from dq.master.api import run_master
from dq.master.master import Master
from dq.master.options import Options
from dq.security.tls_options import TlsOptions
from dq.worker.api import run_worker
from dq.worker.process_options import ProcessOptions

RECORDS = [TaskOptions, ProcessOptions, ServerOptions, TlsOptions]
#: What only some calls take, and each spells out.
OWN = {"workers", "host", "port", "maxsize", "redeliver", "pickle"}


def defaults_of(*records: Any) -> dict[str, object]:
    """The defaults of the records' fields, by the names of the arguments."""
    values = {name: getattr(record(), name) for record in records for name in names_of(record)}
    return {("workers" if name == "count" else name): value for name, value in values.items()}


@pytest.mark.parametrize("record", RECORDS)
def test_master_takes_each_field_as_an_argument_with_the_same_default(record: Any) -> None:
    parameters = inspect.signature(Master).parameters
    for name, default in defaults_of(record).items():
        assert parameters[name].default == default, name


def test_the_calls_that_hand_options_on_take_all_of_them() -> None:
    assert {*Options.__annotations__} == {*defaults_of(*RECORDS)} - OWN | {"report"}
    assert {*inspect.signature(run_master).parameters} > OWN


def test_run_worker_takes_each_field_that_concerns_a_worker() -> None:
    parameters = inspect.signature(run_worker).parameters
    defaults = defaults_of(ProcessOptions, TlsOptions)
    del defaults["workers"]  # its `processes`, which are one for each CPU by default
    assert {name: parameters[name].default for name in defaults} == defaults


@pytest.mark.parametrize(
    ("command", "records", "lacking"),
    [
        (commands.run, RECORDS, {"maxsize", "redeliver", "pickle"}),
        (commands.master, RECORDS, set()),
        (work.worker, [ProcessOptions, TlsOptions], {"workers"}),
    ],
    ids=["run", "master", "worker"],
)
def test_a_command_has_an_option_for_each_field(
    command: Any, records: list[Any], lacking: set[str]
) -> None:
    given = {param.name for param in command.params}
    assert {n for n in defaults_of(*records) if parameter(n) not in given} == lacking
