"""From a reference to a function, and the one line where that fails."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from dq.errors import BadTask
from dq.functions import loading, reference


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current directory, first on the import path; what is imported from it is forgotten."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def load(text: str) -> object:
    return loading.load(reference.parse(text))


def refusal(text: str) -> str:
    with pytest.raises(BadTask) as caught:
        load(text)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("text", ["os.path:join", "collections:OrderedDict.fromkeys", "math:sqrt"])
def test_a_module_and_a_dotted_attribute_are_loaded(text: str) -> None:
    assert callable(load(text))


def test_a_file_is_loaded_with_its_folder_on_the_import_path(folder: Path) -> None:
    (folder / "jobs").mkdir()
    (folder / "jobs" / "helper.py").write_text("def double(x):\n    return 2 * x\n")
    (folder / "jobs" / "work.py").write_text("import helper\nf = helper.double\n")
    assert load("jobs/work.py:f")(4) == 8  # type: ignore[operator]


def test_files_of_the_same_name_are_different_modules(folder: Path) -> None:
    for name in ("a", "b", "c"):
        (folder / name).mkdir()
        (folder / name / "work.py").write_text(f"def f(x):\n    return {name!r}\n")
    functions = [load(f"{name}/work.py:f") for name in ("a", "b", "c", "a")]
    assert [f(0) for f in functions] == ["a", "b", "c", "a"]  # type: ignore[operator]


def test_a_file_is_run_once(folder: Path) -> None:
    (folder / "json.py").write_text(
        "import os\nwith open('runs', 'a') as file:\n    file.write('x')\nf = id\n"
    )
    load("json.py:f")
    load("json.py:f")
    assert (folder / "runs").read_text() == "x"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "x = 1\nraise ValueError('broken')",
            "cannot import work: work.py line 2: ValueError: broken",
        ),
        ("def f(:\n", "cannot import work: work.py line 1: SyntaxError: "),
        ("import nothing_of_that_name", "work.py line 1: ModuleNotFoundError: No module named"),
        ("import sys\nsys.exit(3)", "cannot import work: work.py line 2: SystemExit: 3"),
        ("def sort():\n    pass", "work has no 'f'; it has sort"),
        ("f = 12", "work:f is not a function but an int"),
        ("import dq\ndef f(x): ...\ndq.run(f, [1])", ""),
    ],
)
def test_a_module_that_cannot_be_used_says_why_in_one_line(
    folder: Path, source: str, message: str
) -> None:
    (folder / "work.py").write_text(source)
    assert message in refusal("work:f")


def test_a_missing_module_is_refused_with_the_nearest_names(folder: Path) -> None:
    (folder / "resize.py").touch()
    message = refusal("resise:f")
    assert f"no module 'resise' in {folder} or on the import path" in message
    assert "did you mean resize?" in message


def test_a_missing_attribute_is_refused_with_the_nearest_names(folder: Path) -> None:
    (folder / "work.py").write_text("def square(x): ...\ndef other(x): ...\n")
    assert refusal("work:sqare") == "work has no 'sqare'; it has square"


def test_a_missing_file_is_refused(folder: Path) -> None:
    assert refusal("gone.py:f") == f"no file gone.py (looked in {folder})"


def test_an_import_in_one_thread_does_not_refuse_a_run_in_another(folder: Path) -> None:
    """A master checks a TASK while another thread may be starting its own run."""
    (folder / "slow_module.py").write_text(
        "import threading, tests_gate\ntests_gate.inside.set()\ntests_gate.leave.wait(10)\nf = id\n"
    )
    (folder / "tests_gate.py").write_text(
        "import threading\ninside = threading.Event()\nleave = threading.Event()\n"
    )
    import tests_gate  # type: ignore[import-not-found]

    thread = threading.Thread(target=load, args=("slow_module:f",))
    thread.start()
    assert tests_gate.inside.wait(10)
    loading.refuse_while_importing()
    tests_gate.leave.set()
    thread.join()
