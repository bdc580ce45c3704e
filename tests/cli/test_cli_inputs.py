"""What `dq run` takes as TASK and as inputs."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from support import DQ, Running
from support.warm import dq


def values(*args: str, cwd: Path, **kw: Any) -> list[object]:
    """The results of a run that succeeds, through `--format jsonl`."""
    done = dq("run", "-w", "1", "-f", "jsonl", *args, cwd=cwd, **kw)
    assert done.returncode == 0, done.stderr
    return [json.loads(line)["result"] for line in done.stdout.splitlines()]


# -- TASK


@pytest.mark.parametrize("task", ["app:square", "app.py:square", "./app.py:square"])
def test_a_task_is_named_by_module_or_by_file(project: Path, task: str) -> None:
    assert values(task, "2", "3", cwd=project) == [4, 9]


def test_a_file_elsewhere_is_a_task_and_imports_its_neighbours(project: Path) -> None:
    (project / "jobs").mkdir()
    (project / "jobs" / "helper.py").write_text("FACTOR = 10\n")
    source = "from helper import FACTOR\ndef f(x):\n    return x * FACTOR\n"
    (project / "jobs" / "work.py").write_text(source)
    assert values("jobs/work.py:f", "4", cwd=project) == [40]


def test_a_task_may_be_a_dotted_attribute(project: Path) -> None:
    source = "class Shop:\n    @staticmethod\n    def open(day):\n        return f'open on {day}'\n"
    (project / "shop.py").write_text(source)
    assert values("shop:Shop.open", "Monday", cwd=project) == ["open on Monday"]
    assert values("shop.py:Shop.open", "Monday", cwd=project) == ["open on Monday"]


def test_a_module_in_a_package_is_a_task(project: Path) -> None:
    (project / "pack").mkdir()
    (project / "pack" / "__init__.py").write_text("")
    (project / "pack" / "inner.py").write_text("from . import __name__ as f\nf = str.upper\n")
    assert values("pack.inner:f", "abc", cwd=project) == ["ABC"]


def test_a_users_module_may_have_the_name_of_a_standard_one(project: Path) -> None:
    (project / "queue.py").write_text("def f(x):\n    return x + 1\n")
    assert values("queue.py:f", "1", cwd=project) == [2]


def test_what_a_module_prints_when_imported_is_not_among_the_results(project: Path) -> None:
    (project / "loud.py").write_text("print('loaded')\ndef f(x):\n    return x\n")
    done = dq("run", "loud:f", "1", "-w", "1", cwd=project)
    assert done.stdout == "1\n"
    assert "loaded" in done.stderr


# -- arguments


def test_arguments_are_json_or_strings(project: Path) -> None:
    given = ["1", "1.5", "true", "null", '"x"', "[1, 2]", '{"a": 1}', "word", "[1", "007", ""]
    assert values("app:echo", *given, cwd=project) == [
        1, 1.5, True, None, "x", [1, 2], {"a": 1}, "word", "[1", "007", "",
    ]  # fmt: skip


def test_an_argument_comes_as_it_was_given(project: Path) -> None:
    texts = ["two\nlines", "ends in\n", "\n", "\r", "a\r\n", " x ", "grün"]
    assert values("app:echo", *texts, cwd=project) == texts
    assert values("app:echo", *texts, "--raw", cwd=project) == texts


def test_raw_arguments_stay_strings(project: Path) -> None:
    assert values("app:echo", "--raw", "1", "[2]", cwd=project) == ["1", "[2]"]


def test_arguments_that_look_like_options_go_after_two_dashes(project: Path) -> None:
    assert values("app:echo", "--", "-5", "--raw", cwd=project) == [-5, "--raw"]


def test_unpack_spreads_lists_and_mappings(project: Path) -> None:
    given = ["[1, 2]", '{"a": 3, "b": 4}', '{"b": "x", "a": "y"}']
    assert values("app:add", "--unpack", *given, cwd=project) == [3, 7, "yx"]


# -- files and pipes


def test_each_line_of_a_file_is_an_input(project: Path) -> None:
    (project / "in.txt").write_bytes(b"1\r\nword\n\n[2]\nlast")
    assert values("app:echo", "--input", "in.txt", cwd=project) == [1, "word", "", [2], "last"]


@pytest.mark.parametrize("end", ["", "\n"])
def test_standard_input_is_a_dash(project: Path, end: str) -> None:
    assert values("app:echo", "-i", "-", cwd=project, input="1\n2" + end) == [1, 2]


def test_an_empty_file_is_a_run_without_tasks(project: Path) -> None:
    (project / "in.txt").touch()
    done = dq("run", "app:echo", "-i", "in.txt", cwd=project)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
def test_a_named_pipe_is_a_file_of_inputs(project: Path) -> None:
    os.mkfifo(project / "pipe")
    argv = (*DQ, "run", "app:square", "-i", "pipe", "-w", "1")
    with Running(*argv, cwd=project) as running, open(project / "pipe", "w") as pipe:
        pipe.write("3\n")
        pipe.flush()
        running.wait_for("^9$", stream="stdout")
        pipe.close()
        assert running.wait() == 0


def test_a_csv_file_gives_a_mapping_for_each_row(project: Path) -> None:
    data = '\ufeffname,n\r\n"Ada, Countess",1\r\n"two\r\nlines",x\r\n\r\nplain,"say ""hi"""\r\n'
    (project / "in.csv").write_bytes(data.encode())
    assert values("app:echo", "-i", "in.csv", cwd=project) == [
        {"name": "Ada, Countess", "n": 1},
        {"name": "two\r\nlines", "n": "x"},
        {"name": "plain", "n": 'say "hi"'},
    ]


def test_rows_unpack_to_keyword_arguments(project: Path) -> None:
    (project / "in.csv").write_text("a,b\n1,2\n3,4\n")
    assert values("app:add", "-i", "in.csv", "--unpack", cwd=project) == [3, 7]


def test_raw_rows_hold_strings(project: Path) -> None:
    (project / "in.csv").write_text("a,b\n1,2\n")
    assert values("app:add", "-i", "in.csv", "--unpack", "--raw", cwd=project) == ["12"]


def test_json_lines_are_values_and_blank_lines_are_none(project: Path) -> None:
    (project / "in.jsonl").write_text('{"a": 1}\n\n  \n"x"\n')
    assert values("app:echo", "-i", "in.jsonl", cwd=project) == [{"a": 1}, "x"]


@pytest.mark.parametrize(
    ("form", "expected"), [("csv", [{"1": 2}]), ("jsonl", [1, 2]), ("lines", [1, 2])]
)
def test_the_format_can_be_said_for_a_pipe(
    project: Path, form: str, expected: list[object]
) -> None:
    argv = ("app:echo", "-i", "-", "--input-format", form)
    assert values(*argv, cwd=project, input="1\n2\n") == expected


# -- broken inputs


BROKEN = [
    ("in.jsonl", b'1\n\n{"a"\n3\n', "in.jsonl line 3 is not JSON"),
    ("in.jsonl", b'1\n2\n"\xff"\n3\n', "in.jsonl line 3 is not UTF-8 (byte 0xff at column 2)"),
    ("in.csv", b"n\n1\n\n2,3\n3\n", "in.csv line 4 has 2 cells, the header has 1"),
    ("in.csv", b'n\n"1\n"\n"2\n', "in.csv line 4 is not CSV"),
]


@pytest.mark.parametrize(("name", "data", "message"), BROKEN)
def test_a_broken_line_stops_the_run_and_is_named(
    project: Path, name: str, data: bytes, message: str
) -> None:
    (project / name).write_bytes(data)
    done = dq("run", "app:echo", "-i", name, "-w", "1", cwd=project)
    assert done.returncode == 2
    assert done.stderr.startswith(f"dq: {message}")
    assert done.stderr.count("\n") == 1
    assert "--skip-bad" in done.stderr


@pytest.mark.parametrize(("name", "data", "message"), BROKEN)
def test_skip_bad_goes_on_without_broken_lines(
    project: Path, name: str, data: bytes, message: str
) -> None:
    (project / name).write_bytes(data)
    done = dq("run", "app:echo", "-i", name, "-w", "1", "--skip-bad", cwd=project)
    assert done.returncode == 0, done.stderr
    assert f"dq: skipped {message}" in done.stderr
    assert done.stderr.splitlines()[-1].endswith(", 1 skipped")
    assert "Traceback" not in done.stderr
    assert len(done.stdout.splitlines()) == data.count(b"\n") - data.count(b"\n\n") - (
        1 if name != "in.csv" else 2 if b'"' not in data else 3
    )


# -- names in whatever encoding

NAME = b"caf\xe9 \xff.txt"


def run_bytes(project: Path, *args: str | bytes, input: bytes = b"") -> bytes:
    argv = [*DQ, "run", *args, "-w", "1"]
    done = subprocess.run(argv, cwd=project, capture_output=True, timeout=60, input=input)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("options", [(), ("--raw",)])
def test_a_name_that_is_not_utf8_goes_out_as_it_came(
    project: Path, options: tuple[str, ...]
) -> None:
    (project / "names.txt").write_bytes(NAME + b"\nplain\n")
    assert run_bytes(project, "app:echo", *options, NAME) == NAME + b"\n"
    assert run_bytes(project, "app:echo", *options, "-i", "names.txt") == NAME + b"\nplain\n"
    assert run_bytes(project, "app:echo", *options, "-i", "-", input=NAME) == NAME + b"\n"


def test_a_task_can_open_a_file_whose_name_is_not_utf8(project: Path) -> None:
    Path(os.fsdecode(os.fsencode(project) + b"/" + NAME)).write_text("12345")
    assert run_bytes(project, "os.path:getsize", "--raw", NAME) == b"5\n"


def test_a_record_has_such_a_name_so_that_it_can_be_an_input_again(project: Path) -> None:
    lines = run_bytes(project, "app:echo", NAME, "-f", "jsonl")
    assert json.loads(lines)["input"] == os.fsdecode(NAME)
    (project / "done.jsonl").write_bytes(lines)
    again = ("-i", "done.jsonl", "--field", "result")
    assert run_bytes(project, "app:echo", *again) == NAME + b"\n"


def test_such_a_name_is_resumed_from_a_journal(project: Path) -> None:
    first = run_bytes(project, "app:pid", NAME, "--journal", "j")
    assert run_bytes(project, "app:pid", NAME, "--journal", "j") == first


def test_what_stands_before_the_damage_in_a_file_is_worked_on(project: Path) -> None:
    (project / "in.json").write_text(f"[{', '.join(map(str, range(5000)))}, oops]")
    done = dq("run", "app:echo", "-i", "in.json", "-q", "--journal", "j", cwd=project)
    assert done.returncode == 2
    assert done.stdout.split() == [str(n) for n in range(5000)]
    assert done.stderr.startswith(
        "dq: in.json item 5001 is not JSON: Expecting value; 5000 results"
    )
    (project / "in.json").write_text(f"[{', '.join(map(str, range(5000)))}, 7]")
    done = dq("run", "app:echo", "-i", "in.json", "-q", "--journal", "j", cwd=project)
    assert (done.returncode, len(done.stdout.split())) == (0, 5001)


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.json", "a.tsv"])
def test_null_is_not_for_files_of_other_records(project: Path, name: str) -> None:
    (project / name).write_text("[1]\n")
    done = dq("run", "app:echo", "-i", name, "-0", cwd=project)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"dq: --null goes with names that end in NUL, and {name} is read")
    told = ("-0", "--input-format", "null")
    assert dq("run", "app:echo", "-i", name, *told, cwd=project).stdout == "[1]\0"


def test_null_ends_results_and_what_stands_for_failures(project: Path) -> None:
    argv = ("run", "app:boom_at_7", "-i", "-", "-0", "-w", "1", "--fill", "two\nlines")
    how: dict[str, Any] = {"cwd": project, "input": "a\nb\0" + "7\0"}
    first = dq(*argv, "--journal", "j", **how)
    assert (first.returncode, first.stdout) == (1, "a\nb\0two\nlines\0")
    assert dq(*argv, "--journal", "j", **how).stdout == first.stdout
    shown = dq("journal", "j", "-f", "jsonl", cwd=project).stdout.splitlines()
    assert json.loads(shown[0])["result"] == "a\nb"


def test_a_record_is_a_line_with_null_too(project: Path) -> None:
    done = dq("run", "app:echo", "a\nb", "-0", "-f", "jsonl", cwd=project)
    assert done.stdout.count("\n") == 1
    assert json.loads(done.stdout)["result"] == "a\nb"


def test_a_name_with_a_nul_in_it_is_told_of_null(project: Path) -> None:
    done = dq("run", "os.path:getsize", "-i", "-", "-q", cwd=project, input="a\0b\0")
    assert done.returncode == 1
    assert "the input has a NUL in it: --null reads names that end in one" in done.stderr


# -- streaming


def test_the_first_line_of_a_slow_pipe_is_worked_on_at_once(project: Path) -> None:
    argv = (*DQ, "run", "app:square", "-i", "-", "-w", "2")
    with Running(*argv, cwd=project, stdin=subprocess.PIPE) as running:
        for n in (2, 3, 4):
            running.write(f"{n}\n")
            running.wait_for(f"^{n * n}$", stream="stdout")
        running.close_stdin()
        assert running.wait() == 0
    assert running.stdout_text == "4\n9\n16\n"


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_the_first_record_of_a_slow_pipe_is_worked_on_at_once(project: Path, form: str) -> None:
    argv = (*DQ, "run", "app:echo", "-i", "-", "--input-format", form, "-w", "1")
    with Running(*argv, cwd=project, stdin=subprocess.PIPE) as running:
        running.write("1\n2\n")
        running.wait_for("2", stream="stdout")
        running.write("3\n")
        running.wait_for("3", stream="stdout")
        running.close_stdin()
        assert running.wait() == 0


def test_a_line_without_its_end_waits_for_the_rest(project: Path) -> None:
    argv = (*DQ, "run", "app:echo", "-i", "-", "-w", "1")
    with Running(*argv, cwd=project, stdin=subprocess.PIPE) as running:
        running.write("1\n2")
        running.wait_for("^1$", stream="stdout")
        running.write("3\n")
        running.wait_for("^23$", stream="stdout")
        running.close_stdin()
        assert running.wait() == 0


def test_empty_lines_of_jsonl_are_skipped_with_raw_too(project: Path) -> None:
    (project / "in.jsonl").write_text("1\n\n2\n")
    done = dq("run", "app:echo", "-i", "in.jsonl", "--raw", cwd=project)
    assert (done.returncode, done.stdout) == (0, "1\n2\n")


def test_empty_lines_before_a_header_are_skipped(project: Path) -> None:
    (project / "in.csv").write_text("\n\nx\n7\n8,9\n")
    done = dq("run", "app:echo", "-i", "in.csv", "--skip-bad", cwd=project)
    assert (done.returncode, done.stdout) == (0, "{'x': 7}\n")
    assert "in.csv line 5 has 2 cells" in done.stderr


def test_a_file_named_by_a_variable_may_have_a_space(project: Path) -> None:
    (project / "an input").write_text("3\n")
    done = dq("run", "app:square", cwd=project, env={"DQ_RUN_INPUT": "an input"})
    assert (done.returncode, done.stdout) == (0, "9\n"), done.stderr


def test_a_keepalive_is_a_duration_like_others(project: Path) -> None:
    assert dq("run", "app:square", "3", "--keepalive", "1d", cwd=project).stdout == "9\n"


# -- files of other kinds


def test_a_json_array_gives_its_items(project: Path) -> None:
    (project / "in.json").write_text('[\n  {"id": 1},\n  2\n]\n')
    assert values("app:echo", "-i", "in.json", cwd=project) == [{"id": 1}, 2]


def test_a_json_file_without_an_array_is_refused(project: Path) -> None:
    (project / "in.json").write_text('{"id": 1}\n')
    done = dq("run", "app:echo", "-i", "in.json", cwd=project)
    assert (done.returncode, done.stdout) == (2, "")
    assert "in.json does not hold a JSON array; for one JSON value on each line" in done.stderr


def test_a_packed_file_and_one_that_is_not(project: Path) -> None:
    (project / "a.csv").write_text("n\n1\n")
    with gzip.open(project / "b.csv.gz", "wt") as file:
        file.write("n\n2\n")
    files = ("-i", "a.csv", "-i", "b.csv.gz")
    assert values("app:echo", *files, cwd=project) == [{"n": 1}, {"n": 2}]


def test_a_damaged_packed_file_ends_the_run_with_one_line(project: Path) -> None:
    packed = gzip.compress(b"".join(b"%d\n" % n for n in range(50_000)))
    (project / "in.gz").write_bytes(packed[:-100])
    done = dq("run", "app:echo", "-i", "in.gz", "-q", "-o", "out.txt", cwd=project)
    assert done.returncode == 2
    assert "cannot read in.gz as gzip" in done.stderr
    assert not (project / "out.txt").exists()


def test_a_bad_line_of_a_second_file_is_named_by_it(project: Path) -> None:
    (project / "a.jsonl").write_text("1\n\n2\n")
    (project / "b.jsonl").write_text("\n3\nno\n")
    done = dq("run", "app:echo", "-i", "a.jsonl", "-i", "b.jsonl", cwd=project)
    assert done.returncode == 2
    assert "b.jsonl line 3 is not JSON" in done.stderr


def test_another_delimiter_and_tabs(project: Path) -> None:
    (project / "a.csv").write_text("x;y\n1;2\n")
    (project / "b.tsv").write_text("x\ty\n1\t\n")
    how = ("-i", "a.csv", "--delimiter", ";")
    assert values("app:echo", *how, cwd=project) == [{"x": 1, "y": 2}]
    assert values("app:echo", "-i", "b.tsv", cwd=project) == [{"x": 1, "y": ""}]


def test_names_that_end_with_nul_may_hold_newlines(project: Path) -> None:
    given = ("-i", "-", "--input-format", "null", "--raw")
    assert values("app:echo", *given, cwd=project, input="a\nb\0c\n\0") == ["a\nb", "c\n"]


def test_a_run_with_another_kind_of_file_is_continued_from_its_journal(project: Path) -> None:
    (project / "a.json").write_text("[1, 2]")
    (project / "b.json").write_text("[3]")
    how = ("-i", "a.json", "-i", "b.json", "--journal", "j")
    for _ in range(2):
        assert values("app:echo", *how, cwd=project) == [1, 2, 3]
    (project / "b.json").write_text("[4]")
    done = dq("run", "app:echo", *how, "-f", "jsonl", cwd=project)
    assert done.returncode == 2
    assert "b.json item 1 is not what it was when the journal was written" in done.stderr
