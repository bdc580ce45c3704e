"""What is public, and what survives a trip through pickle."""

from __future__ import annotations

import importlib
import inspect
import pickle
import pkgutil
from typing import Any

import pytest

import dq
from dq import DqError, Failure, Result, TaskError
from support import python

PUBLIC = [
    *("run", "run_master", "run_worker", "connect", "current_task", "progress"),
    *("Master", "Executor", "Client", "SubmittedJob", "QueueManager"),
    *("Failure", "Result", "CurrentTask", "JobStatus", "FailureGroup"),
    *("WorkerStatus", "RunningTask", "ProcessStacks"),
    *("DqError", "UsageError", "BadTask", "BadInput", "InputChanged", "BadJournal", "BadKey"),
    *("ConnectError", "UnknownHost", "AuthenticationFailed", "ProtocolError", "PlainMaster"),
    *("TlsError",),
    *("Stopped", "MasterLost", "OutputError", "Interrupted"),
    *("TaskError", "RemoteTraceback"),
]

EXIT_CODES = {
    2: {"UsageError", "BadTask", "BadInput", "BadKey", "InputChanged", "BadJournal"},
    3: {"ConnectError", "AuthenticationFailed", "ProtocolError", "PlainMaster", "UnknownHost"}
    | {"TlsError"},
    4: {"Stopped", "MasterLost", "OutputError"},
    130: {"Interrupted"},
}

FAILURE = Failure("ValueError", "no", "Traceback ...")
#: What those are made of that take something else than a message.
ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "TaskError": (Result(3, "in", error=FAILURE),),
    "InputChanged": (3,),
    "Leave": (10,),
    "BadItem": (FAILURE,),
}


def every_class() -> list[type]:
    """Every class that dq defines, in whichever module."""
    found = {}
    for info in pkgutil.walk_packages(dq.__path__, "dq."):
        if info.name.endswith("__main__"):
            continue
        module = importlib.import_module(info.name)
        for _, value in inspect.getmembers(module, inspect.isclass):
            if value.__module__.startswith("dq"):
                found[f"{value.__module__}.{value.__qualname__}"] = value
    return [found[name] for name in sorted(found)]


ERRORS = [each for each in every_class() if issubclass(each, BaseException)]


def test_the_public_names_are_these() -> None:
    assert sorted(dq.__all__) == sorted(PUBLIC)


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_is_there_and_says_what_it_is(name: str) -> None:
    assert inspect.getdoc(getattr(dq, name))
    assert name in dir(dq)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'dq' has no attribute 'nope'"):
        dq.nope  # noqa: B018


def test_a_star_import_takes_all_of_them() -> None:
    done = python("from dq import *; print(Master, run, QueueManager, TaskError)")
    assert done.returncode == 0, done.stderr


def test_importing_dq_loads_neither_master_nor_worker() -> None:
    code = "import dq, sys; print(sorted(name for name in sys.modules if name.startswith('dq')))"
    assert python(code).stdout == "['dq', 'dq.errors']\n"


def test_every_error_is_a_dq_error_with_its_exit_code() -> None:
    names = [name for name in PUBLIC if inspect.isclass(getattr(dq, name))]
    errors = [name for name in names if issubclass(getattr(dq, name), BaseException)]
    for name in errors:
        error = getattr(dq, name)
        assert issubclass(error, DqError)
        expected = next((code for code, them in EXIT_CODES.items() if name in them), 1)
        assert error.exit_code == expected, name
        assert str(inspect.getdoc(error)).startswith("Raised ")


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__qualname__)
def test_every_error_passes_a_pickle_round_trip(error: type[BaseException]) -> None:
    given = ARGUMENTS.get(error.__name__, ("what happened",))
    before = error(*given)
    after = pickle.loads(pickle.dumps(before))
    assert type(after) is error
    assert str(after) == str(before)
    assert repr(after.args) == repr(before.args)


def test_a_task_error_keeps_its_record_and_its_cause() -> None:
    after = pickle.loads(pickle.dumps(TaskError(Result(3, "in", error=FAILURE))))
    assert after.result == Result(3, "in", error=FAILURE)
    assert str(after.__cause__) == "\nTraceback ..."
