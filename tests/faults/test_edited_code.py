"""A file that is edited between two jobs: the second runs the new code, on each process."""

from __future__ import annotations

import importlib
import re
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest

import dq as api
from support import DQ, Running, run, wait_until
from support.jobs import JobsMaster

INPUTS = [*map(str, range(8))]
#: A module whose tasks wait until both processes have one, and say which has them.
OF_BOTH = """
import os, time

def work(x):
    open(f"{os.getpid()}.pid", "w").close()
    while sum(".pid" in name for name in os.listdir()) < 2:
        time.sleep(0.01)
    return os.getpid()
"""


def write(folder: Path, **files: str) -> None:
    """Write modules. Their sizes must differ from those before: within a second of the first,
    Python would take the bytecode of that."""
    for name, code in files.items():
        (folder / f"{name}.py").write_text(code)


def answering(word: str) -> str:
    return f"def work(x):\n    return {word!r}\n"


@pytest.fixture(params=["its own", pytest.param("elsewhere", marks=pytest.mark.slow)])
def master(request: pytest.FixtureRequest, project: Path) -> Iterator[JobsMaster]:
    """A master that stays, with two task processes."""
    with JobsMaster(project, workers=2 * (request.param == "its own")) as master:
        if request.param == "its own":
            yield master
            return
        with worker_of(master):
            yield master


@contextmanager
def worker_of(master: JobsMaster, *options: str) -> Iterator[Running]:
    argv = (*DQ, "worker", "-s", f"127.0.0.1:{master.port}", *options)
    with Running(*argv, *(() if options else ("-p", "2")), cwd=master.folder, env=master.env) as it:
        it.wait_for(r"joined|connected|working")
        yield it


def answers(master: JobsMaster, *args: str) -> set[str]:
    """What a job says that both processes take part in."""
    done = master.dq("submit", *args, *INPUTS, "--batch", "1", "--wait")
    assert done.returncode == 0, done.stderr
    assert "version" not in done.stderr
    return set(done.stdout.split())


def test_an_edited_file_is_imported_anew_for_the_next_job(
    master: JobsMaster, project: Path
) -> None:
    for word in ("one", "second", "the third".replace(" ", "-")):
        write(project, app=answering(word))
        assert answers(master, "app:work", "--strict-code") == {word}
        assert answers(master, "app.py:work") == {word}


def test_so_is_one_that_the_edited_file_imports(master: JobsMaster, project: Path) -> None:
    write(
        project, app="import helper\ndef work(x):\n    return helper.word\n", helper="word = 'a'\n"
    )
    assert answers(master, "app:work") == {"a"}
    write(project, helper="word = 'another'\n")
    assert answers(master, "app:work") == {"another"}


def test_so_is_one_that_a_task_imports_when_it_runs(master: JobsMaster, project: Path) -> None:
    code = "def work(x):\n    import helper\n    return helper.word\n"
    write(project, app=code, helper="word = 'a'\n")
    assert answers(master, "app:work") == {"a"}
    write(project, helper="word = 'another'\n")
    assert answers(master, "app:work") == {"another"}


def test_so_is_one_that_has_become_a_package(master: JobsMaster, project: Path) -> None:
    write(
        project, app="import helper\ndef work(x):\n    return helper.word\n", helper="word = 'a'\n"
    )
    assert answers(master, "app:work") == {"a"}
    (project / "helper.py").unlink()
    (project / "helper").mkdir()
    (project / "helper" / "__init__.py").write_text("word = 'another'\n")
    assert answers(master, "app:work") == {"another"}


def test_a_file_that_was_written_before_its_import_has_not_changed(
    master: JobsMaster, project: Path
) -> None:
    found = set[str]()
    for name in ("app", "later", "last"):
        write(project, **{name: OF_BOTH})
        found |= answers(master, f"{name}:work") | answers(master, f"{name}:work")
    assert len(found) == 2


def test_so_is_one_that_was_written_right_after_its_import(
    master: JobsMaster, project: Path
) -> None:
    code = "def work(x):\n    import helper\n    return helper.word\n"
    code += "def edit(x):\n    import helper\n    open('helper.py', 'w').write(\"word = 'new'\")\n"
    write(project, app=code, helper="word = 'older'\n")
    assert master.dq("submit", "app:edit", "1", "--wait").returncode == 0
    assert answers(master, "app:work") == {"new"}


def test_so_is_one_in_a_zip_file(master: JobsMaster, project: Path) -> None:
    write(project, app="import sys\nsys.path.insert(0, 'a.zip')\nfrom helper import work\n")
    for word in ("one", "another"):
        with zipfile.ZipFile(project / "a.zip", "w") as file:
            file.writestr("helper.py", answering(word))
        assert answers(master, "app:work") == {word}


def test_each_job_has_its_own_modules_of_one_name(master: JobsMaster, project: Path) -> None:
    for place in ("one", "two", "."):
        (project / place).mkdir(exist_ok=True)
        write(project / place, helper=f"word = {place!r}\n")
        write(project / place, task="import helper\ndef work(x):\n    return helper.word\n")
        lazy = "def work(x):\n    import helper\n    return helper.word\n"
        write(project / place, lazy=lazy)
    for name in ("task", "lazy"):
        for place in ("one", "two", "one"):
            assert answers(master, f"{place}/{name}.py:work") == {place}
            assert answers(master, f"{name}:work") == {"."}


def test_a_module_that_its_task_prefers_to_another_is_no_reason_for_another_process(
    master: JobsMaster, project: Path
) -> None:
    (project / "lib").mkdir()
    write(project, helper="word = 'not this'\n")
    write(project / "lib", helper="word = 'this'\n")
    code = "import os, sys\nsys.path.insert(0, 'lib')\nimport helper\n"
    code += "def work(x):\n    return f'{helper.word}:{os.getpid()}'\n"
    write(project, task=code)
    said = answers(master, "task.py:work") | answers(master, "task.py:work")
    assert {one.partition(":")[0] for one in said} == {"this"}
    assert len(said) <= 2


def test_a_function_that_was_added_is_found(master: JobsMaster, project: Path) -> None:
    write(project, app=answering("old"))
    assert answers(master, "app:work") == {"old"}
    write(project, app=answering("old") + "def added(x):\n    return 'added'\n")
    assert answers(master, "app:added") == {"added"}


def test_a_file_that_has_not_changed_is_not_imported_anew(
    master: JobsMaster, project: Path
) -> None:
    write(project, app=OF_BOTH)
    before = answers(master, "app:work")
    assert len(before) == 2
    assert answers(master, "app:work") <= before


def test_failed_tasks_are_run_again_with_the_mended_file(master: JobsMaster, project: Path) -> None:
    write(project, app="def work(x):\n    return 1 / x\n")
    number = master.submit("app:work", "0", "1", "--strict-code")
    assert master.dq("wait", number).returncode == 1
    write(project, app=answering("mended"))
    assert master.dq("retry", number).stdout == "1\n"
    done = master.dq("wait", number)
    assert (done.returncode, done.stderr) == (0, "")
    assert master.dq("results", number).stdout.split() == ["mended", "1.0"]


def test_a_job_that_no_worker_could_load_is_tried_again_on_request(
    master: JobsMaster, project: Path
) -> None:
    write(project, app="from absent import work\n")
    number = master.submit("app:work", *INPUTS)
    wait_until(lambda: "refused: " in master.dq("status", number).stdout)
    write(project, absent=answering("here"))
    assert answers(master, "app:work") == {"here"}
    assert master.dq("retry", number).stdout == "0\n"
    assert master.dq("wait", number).returncode == 0


@pytest.mark.parametrize("deed", ["_exit(7)", "closerange(0, 1000)"])
def test_a_job_whose_import_ends_the_process_ends_neither_workers_nor_other_jobs(
    master: JobsMaster, project: Path, deed: str
) -> None:
    write(project, app=answering("well"))
    abrupt = f"import os\nif 'DQ_SLOT' in os.environ:\n    os.{deed}\n"
    write(project, abrupt=abrupt + answering("never"))
    number = master.submit("abrupt:work", *INPUTS)
    wait_until(lambda: "refused: " in (said := master.dq("status", number).stdout) or print(said))
    said = master.dq("status", number).stdout
    assert "a process that imports its function ended with exit code " in said
    assert ", 3 times in a row" in said
    assert answers(master, "app:work") == {"well"}
    write(project, abrupt=answering("mended"))
    assert master.dq("retry", number).returncode == 0
    assert master.dq("wait", number).returncode == 0
    done = master.dq("results", number, "-f", "jsonl")
    assert set(re.findall(r'"attempts": ?(\d+)', done.stdout)) == {"1"}


@pytest.mark.slow
def test_nor_does_one_whose_import_has_no_end(master: JobsMaster, project: Path) -> None:
    write(project, app=answering("well"))
    endless = "import os, time\nwhile 'DQ_SLOT' in os.environ:\n    time.sleep(1)\n"
    write(project, endless=endless + answering("never"))
    number = master.submit("endless:work", *INPUTS, "--timeout", "0.1")
    wait_until(lambda: "refused: " in master.dq("status", number).stdout)
    assert "has not loaded its function" in master.dq("status", number).stdout
    assert answers(master, "app:work") == {"well"}
    write(project, endless=answering("mended"))
    assert master.dq("retry", number).returncode == 0
    assert master.dq("wait", number).returncode == 0


def test_running_tasks_of_another_job_go_on_meanwhile(project: Path) -> None:
    """A process whose one slot has to be replaced lets its other slot finish."""
    slow = "import os, time\ndef work(x):\n    open('begun', 'w').close()\n"
    slow += "    while not os.path.exists('go'):\n        time.sleep(0.01)\n    return 'slow'\n"
    write(project, slow=slow, app=answering("old"))
    with JobsMaster(project, workers=0) as master, worker_of(master, "-p", "1", "-t", "2"):
        assert answers(master, "app:work") == {"old"}
        number = master.submit("slow:work", "1")
        wait_until((project / "begun").exists)
        write(project, app=answering("a new one"))
        with master.begin("submit", "app:work", "1", "--wait") as waiting:
            (project / "go").touch()
            assert waiting.wait() == 0
        assert waiting.stdout_text == "a new one\n"
        done = master.dq("results", number, "--follow", "-f", "jsonl")
    assert re.search(r'"result": ?"slow".*"attempts": ?1\b', done.stdout), done.stdout


def test_what_was_preloaded_stays_and_is_said_to(project: Path) -> None:
    write(
        project, app="import helper\ndef work(x):\n    return helper.word\n", helper="word = 'a'\n"
    )
    options = ("-p", "1", "--preload", "helper")
    with JobsMaster(project, workers=0) as master, worker_of(master, *options) as worker:
        assert answers(master, "app:work") == {"a"}
        write(project, helper="word = 'another'\n")
        done = master.dq("submit", "app:work", "1", "--wait")
        assert (done.returncode, done.stdout) == (0, "a\n")
        assert re.search(r"works with \S*helper\.py as it has preloaded it", done.stderr)
        done = master.dq("submit", "app:work", "1", "--wait")  # by somebody else, perhaps
        assert re.search(r"works with \S*helper\.py as it has preloaded it", done.stderr)
        worker.wait_for(r"helper\.py has changed since it was preloaded")


def test_what_was_preloaded_is_the_same_for_all_tasks(project: Path) -> None:
    (project / "one").mkdir()
    write(project, helper="word = 'preloaded'\n")
    code = "import helper\ndef work(x):\n    return helper.word\n"
    write(project / "one", helper="word = 'one'\n", task=code)
    options = ("-p", "1", "--preload", "helper")
    with JobsMaster(project, workers=0) as master, worker_of(master, *options):
        for _ in range(2):
            assert answers(master, "one/task.py:work") == {"preloaded"}


def test_a_task_that_was_preloaded_stays_and_is_refused_where_code_is_strict(project: Path) -> None:
    write(project, app=answering("old"))
    options = ("-p", "1", "--preload", "app")
    with JobsMaster(project, workers=0) as master, worker_of(master, *options):
        assert answers(master, "app:work") == {"old"}
        write(project, app=answering("a new one"))
        done = master.dq("submit", "app:work", "1", "--wait")
        assert (done.returncode, done.stdout) == (0, "old\n")
        assert re.search(r"has loaded another version of \S*app\.py", done.stderr)
        number = master.submit("app:work", "1", "--strict-code")
        wait_until(lambda: "(--strict-code)" in master.dq("status", number).stdout)
        assert "sys.path" not in master.dq("status", number).stdout


# In Python


@pytest.fixture
def app(project: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.chdir(project)
    monkeypatch.syspath_prepend(project)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    write(project, app=answering("old"))
    yield importlib.import_module("app")
    del sys.modules["app"]


def test_an_import_path_stands_for_the_file_as_it_is_then(app: ModuleType, project: Path) -> None:
    with api.Master(workers=2, strict_code=True) as master:
        assert set(master.map("app:work", INPUTS)) == {"old"}
        write(project, app=answering("new") + "def added(x):\n    return 'added'\n")
        assert set(master.map("app:work", INPUTS)) == {"new"}
        assert set(master.map("app:added", INPUTS)) == {"added"}


def test_an_object_stands_for_the_same_and_an_older_import_is_said(
    app: ModuleType, project: Path
) -> None:
    said: list[str] = []
    with api.Master(workers=2, report=said.append) as master:
        assert set(master.map(app.work, INPUTS)) == {"old"}
        write(project, app=answering("a new one"))
        assert set(master.map("app:work", INPUTS)) == {"a new one"}
        assert [line for line in said if "version" in line] == []
        assert set(master.map(app.work, INPUTS)) == {"a new one"}
        assert [line for line in said if "has loaded another version" in line]
        del said[:]
        write(project, app=answering("the last of them"))
        importlib.reload(app)
        assert set(master.map(app.work, INPUTS)) == {"the last of them"}
        assert said == []


def test_what_it_imports_is_imported_anew_too(app: ModuleType, project: Path) -> None:
    write(
        project, app="import helper\ndef work(x):\n    return helper.word\n", helper="word = 'a'\n"
    )
    importlib.reload(app)
    with api.Master(workers=2) as master, api.Executor(2) as pool:
        assert set(master.map(app.work, INPUTS)) == {"a"}
        assert set(pool.map(app.work, INPUTS)) == {"a"}
        write(project, helper="word = 'another'\n")
        importlib.reload(sys.modules["helper"])
        importlib.reload(app)
        assert set(master.map(app.work, INPUTS)) == {"another"}
        assert set(pool.map(app.work, INPUTS)) == {"another"}
    del sys.modules["helper"]


def test_each_task_file_has_its_own_modules_of_one_name(project: Path) -> None:
    for place in ("one", "two"):
        (project / place).mkdir()
        write(project / place, helper=f"word = {place!r}\n")
        write(project / place, task="import helper\ndef work(x):\n    return helper.word\n")
    code = """
import dq
if __name__ == "__main__":
    with dq.Master(workers=2) as master, dq.Executor(2) as pool:
        for place in ("one", "two", "one"):
            task = f"{place}/task.py:work"
            print(place, *set(master.map(task, range(20))), pool.submit(task, 1).result())
"""
    (project / "script.py").write_text(code)
    done = run(sys.executable, "script.py", cwd=project)
    assert done.stdout == "one one one\ntwo two two\none one one\n", done.stderr


def test_an_initializer_is_that_of_the_module_that_was_reloaded(
    app: ModuleType, project: Path
) -> None:
    code = (
        "word = ''\ndef begin():\n    global word\n    word = {!r}\ndef work(x):\n    return word\n"
    )
    write(project, app=code.format("begun"))
    importlib.reload(app)
    with api.Master(workers=2, initializer=app.begin) as master:
        assert set(master.map(app.work, INPUTS)) == {"begun"}
        write(project, app=code.format("begun again"))
        importlib.reload(app)
        assert set(master.map(app.work, INPUTS)) == {"begun again"}


def test_an_executors_workers_follow_a_module_that_was_reloaded(
    app: ModuleType, project: Path
) -> None:
    with api.Executor(1) as pool:
        assert set(pool.map(app.work, INPUTS)) == {"old"}
        write(project, app=answering("a new one"))
        assert set(pool.map(app.work, INPUTS)) == {"old"}
        importlib.reload(app)
        assert set(pool.map(app.work, INPUTS)) == {"a new one"}
        assert set(pool.map(app.work, INPUTS, chunksize=3)) == {"a new one"}


def test_an_executor_elsewhere_begins_with_the_files_as_they_are(
    app: ModuleType, master: JobsMaster
) -> None:
    for word in ("old", "a new one", "the last of them"):
        write(master.folder, app=answering(word))
        importlib.reload(app)
        where = {"server": f"127.0.0.1:{master.port}", "authkey": master.env["DQ_AUTHKEY"]}
        with api.Executor(**where) as pool:  # type: ignore[arg-type]
            assert set(pool.map(app.work, INPUTS)) == {word}


def test_in_the_programs_own_process_an_older_import_is_said(
    app: ModuleType, project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert set(api.run("app:work", INPUTS, workers=0)) == {"old"}
    write(project, app=answering("a new one"))
    assert set(api.run("app:work", INPUTS, workers=0)) == {"old"}
    assert "app.py has changed since this program imported it" in capfd.readouterr().err
    assert set(api.run(app.work, INPUTS, workers=0)) == {"old"}
    assert capfd.readouterr().err == ""
