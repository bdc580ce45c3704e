"""The calls from wherever people make them: scripts, `-c`, a REPL, threads, start methods."""

from __future__ import annotations

import errno
import signal
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import pytest

import dq as api
from dq._support import platform
from dq.worker import lifeline, pool
from support import Running, dq, python, run, script, wait_until

POINTS = """
class Point:
    def __init__(self, x):
        self.x = x
    def __repr__(self):
        return f"Point({self.x})"

def twice(point):
    return Point(2 * point.x)
"""


def write(folder: Path, source: str, name: str = "work.py") -> Path:
    path = folder / name
    path.write_text(source)
    return path


def assert_prints(done: subprocess.CompletedProcess[str], expected: str) -> None:
    assert (done.returncode, done.stdout, done.stderr) == (0, expected, "")


# -- scripts


def test_a_script_needs_no_guard(tmp_path: Path) -> None:
    source = "import dq\ndef f(x):\n    return x * 2\nprint(dq.run(f, [1, 2], workers=2))\n"
    assert_prints(script(write(tmp_path, source)), "[2, 4]\n")


def test_a_script_with_a_guard_works_as_well(tmp_path: Path) -> None:
    source = (
        "import dq\ndef f(x):\n    return x * 2\n"
        "if __name__ == '__main__':\n    print(dq.run(f, [1, 2], workers=2))\n"
    )
    assert_prints(script(write(tmp_path, source)), "[2, 4]\n")


def test_classes_of_a_script_may_be_inputs_and_values(tmp_path: Path) -> None:
    source = POINTS + (
        "import dq\n"
        "points = dq.run(twice, [Point(1), Point(2)], workers=2)\n"
        "print(points, type(points[0]) is Point)\n"
    )
    assert_prints(script(write(tmp_path, source)), "[Point(2), Point(4)] True\n")


def test_a_task_may_be_whatever_can_be_pickled_by_a_script_s_names(tmp_path: Path) -> None:
    source = (
        "import dq\nfrom functools import partial\n"
        "class Scale:\n"
        "    def __init__(self, by):\n        self.by = by\n"
        "    def times(self, x):\n        return self.by * x\n"
        "    __call__ = times\n"
        "    @classmethod\n    def double(cls, x):\n        return cls(2).times(x)\n"
        "def add(x, y):\n    return x + y\n"
        "with dq.Master(workers=1) as master:\n"
        "    for task in (Scale(3).times, Scale.double, Scale(3), partial(add, 4)):\n"
        "        print(*master.map(task, [2]))\n"
    )
    assert_prints(script(write(tmp_path, source)), "6\n4\n6\n6\n")


def test_nothing_of_a_script_runs_in_its_workers(tmp_path: Path) -> None:
    source = (
        "import os, dq\n"
        "with open('loads', 'a') as file:\n"
        "    file.write(f'{os.getpid()}\\n')\n"
        "def f(x):\n    return x\n"
        "with dq.Master(workers=2) as master:\n"
        "    print(*master.map(f, [1]), *master.map(f, [2]), *master.map(f, [3]))\n"
    )
    assert_prints(script(write(tmp_path, source), cwd=tmp_path), "1 2 3\n")
    assert len((tmp_path / "loads").read_text().splitlines()) == 1


def test_a_module_that_calls_dq_when_imported_is_refused(tmp_path: Path) -> None:
    """Each of its workers would start workers of its own."""
    write(tmp_path, "import dq\ndef f(x):\n    return x * 2\nprint(dq.run(f, [5], workers=1))\n")
    for task in ("work.py:f", "work:f"):
        done = dq("run", task, "1", cwd=tmp_path)
        assert done.returncode == 2
        assert "calls dq when imported; put that under `if __name__ == '__main__':`" in done.stderr


def test_a_script_may_run_twice_over(tmp_path: Path) -> None:
    source = (
        "import dq\ndef f(x):\n    return x * 2\ndef g(x):\n    return x + 1\n"
        "print(dq.run(g, dq.run(f, [1, 2], workers=1), workers=1))\n"
    )
    assert_prints(script(write(tmp_path, source)), "[3, 5]\n")


ONCE = {
    "bare except": """
        try:
            print(dq.run(f, [1, 2], workers=2))
        except:
            note("caught")
        note("after")
        """,
    "finally": """
        def go():
            try:
                print(dq.run(f, [1, 2], workers=2))
            finally:
                note("after")
        go()
        """,
    "suppress": """
        with contextlib.suppress(BaseException):
            print(dq.run(f, [1, 2], workers=2))
        note("after")
        """,
    "a module that catches everything": """
        import helper
        print(helper.safely(dq.run, f, [1, 2], workers=2))
        note("after")
        """,
    "a context manager that cleans up": """
        class Note:
            def __enter__(self): pass
            def __exit__(self, *exc): note("after")
        with Note():
            print(dq.run(f, [1, 2], workers=2))
        """,
    "atexit": """
        atexit.register(note, "after")
        print(dq.run(f, [1, 2], workers=2))
        """,
    "a thread": """
        def go():
            try:
                print(dq.run(f, [1, 2], workers=2))
            finally:
                note("after")
        thread = threading.Thread(target=go)
        thread.start()
        thread.join()
        note("joined")
        """,
    "a pool of threads": """
        with concurrent.futures.ThreadPoolExecutor() as pool:
            try:
                print(pool.submit(dq.run, f, [1, 2], workers=2).result())
            except BaseException:
                note("caught")
            note("after")
        """,
    "asyncio.to_thread": """
        async def main():
            try:
                [value] = await asyncio.gather(
                    asyncio.to_thread(dq.run, f, [1, 2], workers=2), return_exceptions=True
                )
                print(value)
            finally:
                note("after")
        asyncio.run(main())
        note("ended")
        """,
    "an event loop": """
        async def nap():
            await asyncio.sleep(0)
        def g(x):
            asyncio.run(nap())
            return 2 * x
        async def main():
            print(dq.run(g, [1, 2], workers=2))
            note("after")
        asyncio.run(main())
        """,
    "a signal handler": """
        signal.signal(signal.SIGUSR1, lambda *_: None)
        def g(x):
            signal.signal(signal.SIGUSR1, lambda *_: None)  # tasks run in the main thread, too
            return 2 * x
        print(dq.run(g, [1, 2], workers=2))
        note("after")
        """,
}


@pytest.mark.sampled(6)
@pytest.mark.parametrize(
    ("what", "threads"), [*((what, 1) for what in ONCE), ("finally", 3), ("an event loop", 3)]
)
def test_what_is_around_a_script_s_run_happens_once(
    tmp_path: Path, what: str, threads: int
) -> None:
    (tmp_path / "helper.py").write_text(
        "def safely(call, *args, **kwds):\n"
        "    try:\n        return call(*args, **kwds)\n"
        "    except BaseException as error:\n        return error\n"
    )
    head = """
        import asyncio, atexit, concurrent.futures, contextlib, os, signal, threading
        import dq
        def note(what):
            with open("notes", "a") as file:
                file.write(f"{what} in {os.getpid()}\\n")
        def f(x):
            try:
                return 2 * x
            finally:
                done.append(x)
        done = []
        """
    source = textwrap.dedent(head) + textwrap.dedent(ONCE[what])
    source = source.replace("workers=2", f"workers=2, threads={threads}")
    assert_prints(script(write(tmp_path, source), cwd=tmp_path), "[2, 4]\n")
    notes = (tmp_path / "notes").read_text().splitlines()
    assert "after" in notes[0]
    assert len({note.split()[-1] for note in notes}) == 1, notes
    assert len(notes) == len(set(notes)), notes


def test_annotations_of_a_script_are_what_they_are_there(tmp_path: Path) -> None:
    source = (
        "import dq\ndef f(x: int) -> str:\n"
        "    return [type(a).__name__ for a in f.__annotations__.values()]\n"
        "print(dq.run(f, [1], workers=1))\n"
    )
    assert_prints(script(write(tmp_path, source)), "[['type', 'type']]\n")


def test_a_script_started_with_m_may_import_from_its_package(tmp_path: Path) -> None:
    (tmp_path / "pack").mkdir()
    write(tmp_path / "pack", "", "__init__.py")
    write(tmp_path / "pack", "FACTOR = 10\n", "other.py")
    source = (
        "import dq\nfrom .other import FACTOR\ndef f(x):\n    return x * FACTOR\n"
        "print(dq.run(f, [1, 2], workers=1))\n"
    )
    write(tmp_path / "pack", source, "work.py")
    assert_prints(run(sys.executable, "-m", "pack.work", cwd=tmp_path), "[10, 20]\n")


def test_a_script_sees_its_arguments_in_its_tasks_processes(tmp_path: Path) -> None:
    source = (
        "import sys, dq\nFACTOR = int(sys.argv[1])\ndef f(x):\n    return x * FACTOR\n"
        "print(dq.run(f, [1, 2], workers=1))\n"
    )
    assert_prints(script(write(tmp_path, source), "7"), "[7, 14]\n")


def test_a_script_elsewhere_imports_its_neighbours(tmp_path: Path) -> None:
    write(tmp_path, "def f(x):\n    return -x\n", "helper.py")
    source = "import dq, helper\nprint(dq.run(helper.f, [1, 2], workers=1))\n"
    assert_prints(script(write(tmp_path, source), cwd="/"), "[-1, -2]\n")


def test_ctrl_c_in_a_script_is_a_keyboard_interrupt_and_leaves_nothing(tmp_path: Path) -> None:
    source = (
        "import dq, time\n"
        "def f(x):\n    open('started', 'w').close()\n    time.sleep(600)\n"
        "try:\n    dq.run(f, [1], workers=1)\nexcept KeyboardInterrupt:\n    print('stopped')\n"
    )
    with Running(sys.executable, write(tmp_path, source), cwd=tmp_path) as running:
        wait_until((tmp_path / "started").exists)
        running.signal_group(signal.SIGINT)
        assert running.wait() == 0, running.printed
    assert running.stdout_text == "stopped\n"


# -- without a script


def test_python_c_may_call_functions_of_modules() -> None:
    code = (
        "import sys, dq, math\n"
        "print(dq.run(math.sqrt, [4, 9], workers=1), 'cloudpickle' in sys.modules)\n"
    )
    assert_prints(python(code), "[2.0, 3.0] False\n")


def test_python_c_sends_its_own_functions_by_value() -> None:
    code = POINTS + "import dq\nprint(dq.run(twice, [Point(1)], workers=1))"
    assert_prints(python(code), "[Point(2)]\n")


def test_a_repl_sends_its_own_functions_by_value() -> None:
    typed = "import dq\ndef f(x):\n    return x * 2\n\ndq.run(f, [3], workers=1)\n"
    done = run(sys.executable, "-i", "-q", input=typed)
    assert done.stdout == "[6]\n", done.stderr


# -- start methods and threads


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.filterwarnings("ignore")
def test_the_default_start_method_is_nothing_to_dq(tmp_path: Path, method: str) -> None:
    source = POINTS + (
        "import multiprocessing, sys, dq\n"
        f"multiprocessing.set_start_method({method!r})\n"
        "print(dq.run(twice, [Point(1), Point(2)], workers=2))\n"
        "with dq.Master(workers=1) as master:\n"
        "    print(*master.map(twice, [Point(3)]), *master.map(twice, [Point(4)]))\n"
    )
    assert_prints(script(write(tmp_path, source)), "[Point(2), Point(4)]\nPoint(6) Point(8)\n")


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_queue_manager_starts_with_any_start_method(tmp_path: Path, method: str) -> None:
    source = (
        "import multiprocessing, dq\n"
        "if __name__ == '__main__':\n"
        f"    multiprocessing.set_start_method({method!r})\n"
        "    manager = dq.QueueManager(('127.0.0.1', 0), authkey=b'a key of 16 bytes')\n"
        "    manager.start()\n"
        "    manager.get_task_queue().put(1)\n"
        "    print(manager.get_task_queue().get(timeout=30))\n"
        "    manager.shutdown()\n"
    )
    assert_prints(script(write(tmp_path, source)), "1\n")


@pytest.mark.parametrize("guarded", [True, False])
def test_another_thread_than_the_main_one(tmp_path: Path, guarded: bool) -> None:
    body = (
        "thread = threading.Thread(target=work)\nthread.start()\nthread.join()\nprint(values[0])\n"
    )
    if guarded:
        lines = "".join(f"    {line}\n" for line in body.splitlines())
        body = f"if __name__ == '__main__':\n{lines}"
    source = (
        "import threading, dq\n"
        "values = []\n"
        "def f(x):\n    return x * 2\n"
        "def work():\n    values.append(dq.run(f, [1, 2], workers=2))\n"
    )
    assert_prints(script(write(tmp_path, source + body)), "[2, 4]\n")


def test_a_task_may_itself_run_tasks(tmp_path: Path) -> None:
    source = (
        "import dq\n"
        "def inner(x):\n    return x * 2\n"
        "def outer(x):\n    return dq.run(inner, range(x), workers=1)\n"
        "if __name__ == '__main__':\n    print(dq.run(outer, [2, 3], workers=2))\n"
    )
    assert_prints(script(write(tmp_path, source)), "[[0, 2], [0, 2, 4]]\n")


def test_dev_mode_has_nothing_to_complain_about(tmp_path: Path) -> None:
    source = "import dq\ndef f(x):\n    return x * 2\nprint(dq.run(f, [1, 2], workers=2))\n"
    path = write(tmp_path, source)
    assert_prints(run(sys.executable, "-X", "dev", "-W", "error", path), "[2, 4]\n")


@pytest.mark.sampled(2)
@pytest.mark.parametrize("given", [["1", "2"], ["-i", "in.txt"], ["-i", "in.csv"], ["-i", "-"]])
def test_dev_mode_has_nothing_to_complain_about_at_the_command(
    project: Path, given: list[str]
) -> None:
    (project / "in.txt").write_text("1\n2\n")
    (project / "in.csv").write_text("n\n1\n2\n")
    argv = ("-X", "dev", "-W", "error", "-m", "dq", "run", "app:echo", *given, "-w", "2")
    done = run(sys.executable, *argv, cwd=project, input="1\n2\n")
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 2


# -- what task processes have of the program that starts them


def test_a_managers_proxies_work_in_tasks(tmp_path: Path) -> None:
    write(tmp_path, "def put(box, x):\n    box[x] = x * x\n", "jobs.py")
    source = (
        "import functools, multiprocessing, dq, jobs\n"
        "if __name__ == '__main__':\n"
        "    box = multiprocessing.Manager().dict()\n"
        "    dq.run(functools.partial(jobs.put, box), range(3), workers=2)\n"
        "    print(sorted(box.items()))\n"
    )
    assert_prints(script(write(tmp_path, source)), "[(0, 0), (1, 1), (2, 4)]\n")


LOGGING = """
import logging, sys, dq

def work(x):
    logging.getLogger("app").info("working on %s", x)
    logging.getLogger("app.quiet").warning("not this")
    logging.getLogger("other").debug("nor this")
    return x

if __name__ == "__main__":
    {setup}
    logging.getLogger("app.quiet").setLevel(logging.ERROR)
    dq.run(work, [1], workers=1)
"""


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("setup", "expected"),
    [
        ("logging.basicConfig(level='INFO')", "INFO:app:working on 1\n"),
        (
            "logging.basicConfig(level='INFO', stream=sys.stdout, format='{name}!', style='{')",
            "app!\n",
        ),
        ("logging.basicConfig(level='WARNING')", ""),
        ("logging.basicConfig(level='INFO', filename='log')", ""),
        ("pass", ""),
    ],
)
def test_tasks_log_to_standard_error_where_the_script_logs_to_a_terminal(
    tmp_path: Path, setup: str, expected: str
) -> None:
    done = script(write(tmp_path, LOGGING.format(setup=setup)), cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr.replace("not this\n", "")) == (
        0,
        "",
        expected,
    )


# -- programs that are their own interpreters

# As PyInstaller makes them: whatever its arguments, the program begins at its top.
FROZEN = """
import os, sys
sys.frozen, sys.executable = True, os.path.abspath("program")
{top}

def double(x):
    return 2 * x

def main():
    {first}
    with open("starts", "a") as file:
        file.write("x")
    import dq
    print(dq.run(double, [1, 2, 3], workers=2, max_tasks=1))

if __name__ == "__main__":
    main()
"""


def frozen(folder: Path, **parts: str) -> Path:
    path = write(folder, FROZEN.format(**{"top": "", "first": ""} | parts), "frozen.py")
    program = write(folder, f'#!/bin/sh\nexec {sys.executable} {path} "$@"\n', "program")
    program.chmod(0o755)
    return program


@pytest.mark.parametrize(
    "parts",
    [
        {"top": "import dq"},
        # What PyInstaller has `multiprocessing.freeze_support` do.
        {"first": "from multiprocessing import spawn; spawn.freeze_support()"},
    ],
)
def test_a_frozen_program_works_and_its_main_runs_once(
    tmp_path: Path, parts: dict[str, str]
) -> None:
    done = run(frozen(tmp_path, **parts), cwd=tmp_path)
    assert_prints(done, "[2, 4, 6]\n")
    assert (tmp_path / "starts").read_text() == "x"


def test_a_frozen_program_without_either_starts_no_further_ones(tmp_path: Path) -> None:
    """It goes as far as its import of dq, in each process."""
    done = run(frozen(tmp_path), cwd=tmp_path)
    assert_prints(done, "[2, 4, 6]\n")
    assert len((tmp_path / "starts").read_text()) <= 1 + 2 + 3


def test_a_task_process_that_has_not_noticed_what_it_is_starts_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(lifeline.MARK, "1")
    with pytest.raises(api.DqError, match=r"this is a task process, in which .* has begun anew"):
        api.run(len, [""], workers=1)


def test_a_task_may_start_programs_that_use_dq(tmp_path: Path) -> None:
    write(tmp_path, "import dq\nprint(dq.run(abs, [-1], workers=1))\n", "inner.py")
    source = (
        "import subprocess, sys, dq\n"
        "def start(x):\n"
        "    return subprocess.run([sys.executable, x], capture_output=True, text=True).stdout\n"
        "print(dq.run(start, ['inner.py'], workers=1))\n"
    )
    assert_prints(script(write(tmp_path, source), cwd=tmp_path), "['[1]\\n']\n")


# -- where nothing can be written


def no_room(*args: object, **kw: object) -> None:
    raise OSError(errno.EROFS, "Read-only file system")


def test_no_folder_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "TemporaryDirectory", no_room)
    assert api.run(abs, [-1, -2], workers=1) == [1, 2]


def test_without_any_room_for_shared_memory_one_line_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tempfile, "TemporaryFile", no_room)
    monkeypatch.setattr(platform.os, "memfd_create", no_room)
    monkeypatch.setattr(pool, "LACK_TIMEOUT_S", 0.1)
    with pytest.raises(api.DqError, match="cannot start a task process: Read-only file system"):
        api.run(abs, [-1], workers=1)
