"""What `dq run` writes, where, and in which order."""

from __future__ import annotations

import json
import os
import signal
import sys
import textwrap
from pathlib import Path

import pytest

from support import DQ, Running, python, run, wait_until
from support.warm import dq


def test_text_is_the_value_as_print_shows_it(project: Path) -> None:
    done = dq("run", "app:echo", '"a b"', "1.0", "[1, null]", "null", cwd=project)
    assert done.stdout == "a b\n1.0\n[1, None]\nNone\n"
    assert done.stderr == ""


def test_jsonl_is_a_record_for_each_task(project: Path) -> None:
    done = dq("run", "app:boom_at_7", "6", "7", "-f", "jsonl", "-w", "1", cwd=project)
    good, bad = map(json.loads, done.stdout.splitlines())
    assert (good["id"], good["input"], good["result"], good["attempts"]) == (0, 6, 6, 1)
    assert good["seconds"] >= 0
    assert ":" in good["worker"]
    assert (bad["id"], bad["input"]) == (1, 7)
    assert bad["error"]["type"] == "ValueError"
    assert bad["error"]["message"] == "seven"
    assert 'raise ValueError("seven")' in bad["error"]["traceback"]


def test_a_name_that_ends_in_jsonl_asks_for_records(project: Path) -> None:
    assert dq("run", "app:echo", "1", "-o", "out.jsonl", cwd=project).returncode == 0
    assert json.loads((project / "out.jsonl").read_text())["result"] == 1
    argv = ("run", "app:echo", "1", "-o", "out.jsonl", "-f", "text")
    assert dq(*argv, cwd=project).returncode == 0
    assert (project / "out.jsonl").read_text() == "1\n"


def test_a_packed_file_is_not_promised(project: Path) -> None:
    done = dq("run", "app:echo", "1", "-o", "out.jsonl.gz", cwd=project)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("dq: -o writes no .gz files")


def test_a_value_without_a_form_in_json_fails_its_task_alone(project: Path) -> None:
    source = """
        import collections
        Point = collections.namedtuple("Point", "x y")
        def f(n):
            return {1: object(), 2: {n}, 3: float("nan"), 4: Point(n, b"")}[n]
    """
    (project / "odd.py").write_text(textwrap.dedent(source))
    done = dq("run", "odd:f", "1", "2", "3", "4", "-f", "jsonl", "-w", "1", cwd=project)
    failed, *rest = map(json.loads, done.stdout.splitlines())
    assert done.returncode == 1
    assert failed["error"]["type"] == "TypeError"
    assert "object has no form in JSON" in failed["error"]["message"]
    assert [record["result"] for record in rest] == [[2], None, {"x": 4, "y": {"base64": ""}}]


def test_results_come_in_input_order(gates: Path) -> None:
    with Running(*DQ, "run", "gates:wait", "slow", "fast", "-w", "2", cwd=gates) as running:
        (gates / "fast.go").touch()
        wait_until(lambda: (gates / "fast.started").exists() and (gates / "slow.started").exists())
        assert running.stdout_text == ""
        (gates / "slow.go").touch()
        assert running.wait() == 0
    assert running.stdout_text == "slow\nfast\n"


def test_unordered_results_come_as_they_are_there(gates: Path) -> None:
    argv = (*DQ, "run", "gates:wait", "slow", "fast", "-w", "2", "--unordered")
    with Running(*argv, cwd=gates) as running:
        (gates / "fast.go").touch()
        running.wait_for("^fast$", stream="stdout")
        (gates / "slow.go").touch()
        assert running.wait() == 0
    assert running.stdout_text == "fast\nslow\n"


def test_a_thousand_results_are_in_order(project: Path) -> None:
    given = "".join(f"{n}\n" for n in range(1000))
    done = dq("run", "app:echo", "-i", "-", "-w", "3", cwd=project, input=given)
    assert done.stdout == given


def test_what_a_task_prints_goes_to_standard_error(project: Path) -> None:
    done = dq("run", "app:shout", "1", "-w", "1", cwd=project)
    assert done.stdout == "1\n"
    assert done.stderr == "shout 1\n"


def test_what_a_tasks_own_program_prints_goes_to_standard_error(project: Path) -> None:
    (project / "sub.py").write_text("import os\ndef f(x):\n    os.system(f'echo sub {x}')\n")
    done = dq("run", "sub:f", "1", "-w", "1", cwd=project)
    assert done.stdout == "None\n"
    assert done.stderr == "sub 1\n"


# -- a file


def test_an_output_file_is_absent_until_it_is_complete(gates: Path) -> None:
    argv = (*DQ, "run", "gates:wait", "a", "b", "-w", "2", "-o", "out.txt")
    with Running(*argv, cwd=gates) as running:
        (gates / "a.go").touch()
        wait_until(lambda: (gates / "b.started").exists())
        assert not (gates / "out.txt").exists()
        (gates / "b.go").touch()
        assert running.wait() == 0
    assert (gates / "out.txt").read_text() == "a\nb\n"
    assert running.stdout_text == ""
    assert not list(gates.glob("*.part"))


def test_an_output_file_is_replaced_by_success(project: Path) -> None:
    (project / "out.txt").write_text("old, and longer than the new one\n")
    assert dq("run", "app:square", "3", "-o", "out.txt", cwd=project).returncode == 0
    assert (project / "out.txt").read_text() == "9\n"


@pytest.mark.parametrize("old", [None, "old\n"])
def test_an_output_file_is_left_alone_by_a_run_that_stops(project: Path, old: str | None) -> None:
    out = project / "out.txt"
    if old is not None:
        out.write_text(old)
    before = sorted(os.listdir(project))
    argv = ("run", "app:fail", "1", "2", "--fail-fast", "-w", "1", "--batch", "1")
    done = dq(*argv, "-o", "out.txt", cwd=project)
    assert done.returncode == 4
    assert (out.read_text() if out.exists() else None) == old
    assert sorted(set(os.listdir(project)) - {"__pycache__"}) == before


def test_an_output_file_holds_the_failures_too(project: Path) -> None:
    argv = ("run", "app:boom_at_7", "7", "8", "-f", "jsonl", "-o", "out.jsonl")
    assert dq(*argv, cwd=project).returncode == 1
    records = [json.loads(line) for line in (project / "out.jsonl").read_text().splitlines()]
    assert ["error" in record for record in records] == [True, False]


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="there is no SIGHUP here")
def test_a_terminal_that_is_closed_leaves_no_file(gates: Path, tmp_path: Path) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    argv = (*DQ, "run", "gates:wait", "1", "-o", "out")
    with Running(*argv, cwd=gates, env={"TMPDIR": str(temporary)}) as running:
        wait_until((gates / "1.started").exists)
        running.send_signal(signal.SIGHUP)
        assert running.wait() == 4, running.printed
    assert not list(gates.glob("out*"))
    assert not list(temporary.iterdir())


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="there is no SIGHUP here")
def test_nohup_has_a_closed_terminal_ignored(gates: Path) -> None:
    argv = ("sh", "-c", 'trap \'\' HUP; exec "$0" "$@"', *DQ, "run", "gates:wait", "1")
    with Running(*argv, cwd=gates) as running:
        wait_until((gates / "1.started").exists)
        running.send_signal(signal.SIGHUP)
        (gates / "1.go").touch()
        assert (running.wait(), running.stdout_text) == (0, "1\n"), running.printed


def test_an_input_file_may_be_replaced_by_its_own_output(project: Path) -> None:
    (project / "n.txt").write_text("1\n2\n3\n")
    assert dq("run", "app:square", "-i", "n.txt", "-o", "n.txt", cwd=project).returncode == 0
    assert (project / "n.txt").read_text() == "1\n4\n9\n"


# -- outputs that end early


def test_a_reader_that_leaves_is_one_line_and_not_a_traceback(project: Path) -> None:
    dq_run = f"{sys.executable} -m dq run app:echo -i numbers.txt -w 1"
    (project / "numbers.txt").write_text("".join(f"{n}\n" for n in range(200_000)))
    done = run("sh", "-c", f"{{ {dq_run}; echo code $? >&2; }} | head -n 1", cwd=project)
    assert done.stdout == "0\n"
    assert done.stderr == ("dq: standard output was closed by its reader; stopped there\ncode 4\n")


def test_a_file_that_is_replaced_stays_as_private_as_it_was(project: Path) -> None:
    out = project / "out"
    out.write_text("before")
    out.chmod(0o600)
    assert dq("run", "app:square", "3", "-o", "out", cwd=project).returncode == 0
    assert (out.read_text(), out.stat().st_mode & 0o777) == ("9\n", 0o600)


@pytest.mark.skipif(not os.path.exists("/dev/stdout"), reason="there is no /dev/stdout here")
def test_standard_output_by_its_name_is_not_replaced(project: Path) -> None:
    args = "run app:square 3 -o /dev/stdout"
    command = f"(echo before; {sys.executable} -m dq {args}; echo after) > out"
    assert run("sh", "-c", command, cwd=project).returncode == 0
    assert (project / "out").read_text() == "before\n9\nafter\n"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full here")
@pytest.mark.parametrize("how", ["-o /dev/full", "> /dev/full"])
def test_a_full_disk_is_one_line_and_not_a_traceback(project: Path, how: str) -> None:
    command = f"{sys.executable} -m dq run app:echo 1 2 3 -w 1 {how}"
    done = run("sh", "-c", command, cwd=project)
    assert done.returncode == 4
    assert done.stderr.startswith("dq: cannot write")
    assert "No space left on device" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full here")
@pytest.mark.parametrize("buffered", ["", "1"])
@pytest.mark.parametrize("args", ["--help", "--version", "run --help", "keygen k", "bench -w 1"])
def test_what_other_commands_print_may_be_refused_too(
    project: Path, args: str, buffered: str
) -> None:
    command = f"{sys.executable} -m dq {args} > /dev/full"
    done = run("sh", "-c", command, cwd=project, env={"PYTHONUNBUFFERED": buffered})
    assert done.returncode == 4
    assert done.stderr == "dq: cannot write to standard output: No space left on device\n"


def test_an_interrupt_during_the_imports_is_one_line(project: Path) -> None:
    """`click` is what takes longest."""
    source = "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nimport time; time.sleep(60)\n"
    (project / "click.py").write_text(source)
    done = dq("--help", cwd=project, env={"PYTHONPATH": str(project)})
    assert (done.returncode, done.stderr) == (130, "dq: interrupted\n")


def test_a_run_that_can_start_no_thread_is_one_line(project: Path) -> None:
    code = (
        "import sys, threading\n"
        'def start(thread): raise RuntimeError("can\'t start new thread")\n'
        "from dq.cli import main\n"
        "threading.Thread.start = start\n"
        "sys.argv = ['dq', 'run', 'app:square', '1']\n"
        "main()\n"
    )
    done = python(code, cwd=project)
    said = "dq: the system has no room for dq: can't start new thread (see ulimit -a)\n"
    assert (done.returncode, done.stderr) == (1, said)


def test_closed_standard_output_is_refused(project: Path) -> None:
    done = run("sh", "-c", f"{sys.executable} -m dq run app:echo 1 -w 1 >&-", cwd=project)
    assert done.returncode == 2
    assert done.stderr == "dq: standard output is closed: give -o FILE\n"


def test_closed_standard_error_puts_nothing_among_the_results(project: Path) -> None:
    command = f"{sys.executable} -m dq run app:shout 1 -w 1 2>&-"
    done = run("sh", "-c", command, cwd=project)
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")


def test_closed_standard_input_is_an_empty_one(project: Path) -> None:
    done = run("sh", "-c", f"{sys.executable} -m dq run app:square 3 -w 1 <&-", cwd=project)
    assert (done.returncode, done.stdout, done.stderr) == (0, "9\n", "")
