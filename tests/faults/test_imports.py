"""What a task's module does when it is imported: the run works, or ends and says why."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from support import DQ, Running, script, wait_until
from support.warm import dq

PATCHES = """
import select, socket, threading, time

def broken(*args, **kw):
    raise RuntimeError("patched")

for module, names in [
    (socket, ["socket", "create_connection", "SOL_SOCKET"]),
    (threading, ["Thread", "Lock", "Event", "_start_new_thread", "Condition"]),
    (time, ["sleep", "monotonic"]),
    (select, ["select", "poll"]),
]:
    for name in names:
        setattr(module, name, broken)

def double(x):
    return 2 * x
"""
GEVENT = """
from gevent import monkey
monkey.patch_all()
import gevent

def total(x):
    return sum(job.value for job in gevent.joinall([gevent.spawn(int, i) for i in range(x)]))
"""
# In a task process only, or wherever it is imported.
ENDLESS = """
import os, time
if {where}:
    open("imported", "w").close()
    while True:
        try:
            time.sleep(0.05)
        except BaseException:
            pass

def echo(x):
    return x
"""
WORKER, ANYWHERE = "'DQ_SLOT' in os.environ", "True"


def write(folder: Path, source: str) -> None:
    (folder / "odd.py").write_text(source)


@pytest.mark.parametrize("options", [(), ("--max-tasks", "2", "--batch", "1")])
def test_a_module_that_patches_the_standard_library_works(
    project: Path, options: tuple[str, ...]
) -> None:
    write(project, PATCHES)
    done = dq("run", "odd:double", "1", "2", "3", "4", "-w", "1", *options, cwd=project)
    assert (done.returncode, done.stdout, done.stderr) == (0, "2\n4\n6\n8\n", "")


def test_a_module_that_gevent_patches_works(project: Path) -> None:
    pytest.importorskip("gevent")
    write(project, GEVENT)
    done = dq("run", "odd:total", "3", "4", "5", "-w", "1", "--batch", "2", cwd=project)
    assert (done.returncode, done.stdout, done.stderr) == (0, "3\n6\n10\n", "")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("where", "words"),
    [
        (ANYWHERE, r"cannot import odd:echo: that has not ended after 10\.1 s"),
        (WORKER, r"task process \d+ has not loaded its function"),
    ],
)
def test_an_import_without_end_is_ended_by_the_time_limit(
    project: Path, where: str, words: str
) -> None:
    write(project, ENDLESS.format(where=where))
    argv = (*DQ, "run", "odd:echo", "1", "2", "-w", "1", "--timeout", "0.1")
    with Running(*argv, cwd=project) as run:
        run.wait_for(f"^dq: {words}.*--timeout", timeout=60)
        assert run.wait() == 2
    assert run.stdout_text == ""


@pytest.mark.parametrize("signals", [[signal.SIGINT], [signal.SIGTERM]])
def test_an_import_without_end_is_ended_by_a_signal(
    project: Path, signals: list[signal.Signals]
) -> None:
    write(project, ENDLESS.format(where=ANYWHERE))
    with Running(*DQ, "run", "odd:echo", "1", "-w", "1", cwd=project) as run:
        wait_until((project / "imported").exists)
        started = time.monotonic()
        run.signal_group(signals[0])
        assert run.wait() == (130 if signals == [signal.SIGINT] else 4), run.printed
    assert time.monotonic() - started < 20


def test_an_import_without_end_in_a_worker_is_ended_by_the_second_signal(project: Path) -> None:
    write(project, ENDLESS.format(where=WORKER))
    with Running(*DQ, "run", "odd:echo", "1", "-w", "1", cwd=project) as run:
        wait_until((project / "imported").exists)
        run.send_signal(signal.SIGINT)
        run.wait_for("once more to leave now")
        run.send_signal(signal.SIGINT)
        assert run.wait() == 130, run.printed


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("os._exit(0)", "cannot import odd:echo: that ends the process"),
        ("os.kill(os.getpid(), 9)", "cannot import odd:echo: that ends the process"),
        ("raise SystemExit(3)", "cannot import odd: odd.py line 2: SystemExit: 3"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
    ],
)
def test_an_import_that_ends_its_process_is_said(project: Path, statement: str, words: str) -> None:
    write(project, f"import os\n{statement}\ndef echo(x):\n    return x\n")
    done = dq("run", "odd:echo", "1", "-w", "1", cwd=project)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr


def test_a_module_is_imported_once_for_all_that_is_looked_at(project: Path) -> None:
    source = (
        "import os\n"
        "with open('imports', 'a') as file:\n"
        "    file.write(os.environ.get('DQ_SLOT', 'command') + '\\n')\n"
        "def set_up():\n    pass\n"
        "def echo(x):\n    return x\n"
    )
    write(project, source)
    dq("run", "odd:echo", "1", "--init", "odd:set_up", "-w", "1", cwd=project)
    assert (project / "imports").read_text().split() == ["command", "0"]


@pytest.mark.parametrize("task", ["'odd:total'", "odd.total"])
def test_a_program_that_gevent_patches_is_told_what_to_do(project: Path, task: str) -> None:
    pytest.importorskip("gevent")
    write(project, GEVENT)
    first = "" if task.startswith("'") else "import odd\n"
    (project / "main.py").write_text(f"{first}import dq\ndq.run({task}, [1], workers=1)\n")
    done = script("main.py", cwd=project)
    assert done.returncode == 1
    assert "UsageError: gevent has patched this process" in done.stderr
