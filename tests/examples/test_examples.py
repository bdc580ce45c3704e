"""Each command in the examples' READMEs runs as written, and prints what is written below it.

A README is one session of a shell in the repository's root. Only its ports and its /tmp are
replaced, by some of the test's own.
"""

from __future__ import annotations

import asyncio
import csv
import mailbox
import math
import os
import re
import shlex
import shutil
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support import ROOT, dq, free_port, run, script

EXAMPLES = ROOT / "examples"
FOLDERS = sorted(path.name for path in EXAMPLES.glob("[a-z]*") if path.is_dir())
BLOCK = re.compile(r"^```(?:console|sh)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

needs_bash = pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash here")


def steps(text: str) -> list[tuple[str, list[str]]]:
    """The commands of a README, each with the lines below it: what it prints."""
    found: list[tuple[str, list[str]]] = []
    for line in "".join(BLOCK.findall(text)).splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        elif line:
            found[-1][1].append(line)
    return found


def as_pattern(lines: list[str]) -> str:
    """What matches these lines, of which `...` stands for any number."""
    return "".join("(.*\n)*?" if line == "..." else re.escape(line) + "\n" for line in lines)


@dataclass(frozen=True)
class Terminal:
    """Runs a README. `folder` is its /tmp, and holds what it printed."""

    folder: Path
    ports: dict[str, str]

    def run(self, example: str) -> None:
        """Run all its commands, and compare what they print with what it says."""
        self._put_on_path(dq=(sys.executable, "-m", "dq"), python=(sys.executable,))
        todo = steps(self._read(example))
        done = run("bash", "-c", self._as_script(todo), cwd=ROOT, env=self._env())
        out, err = (self._printed(stream) for stream in ("out", "err"))
        assert done.returncode == 0, out + err
        stated = [line for _, lines in todo for line in lines]
        assert [line for line in stated if line.startswith("dq: ") and line not in err] == []
        results = [line for line in stated if not line.startswith("dq: ")]
        assert re.fullmatch(as_pattern(results), out), f"{example} printed\n{out}{err}"

    def _read(self, example: str) -> str:
        text = (EXAMPLES / example / "README.md").read_text(encoding="utf-8")
        for port, free in self.ports.items():
            text = text.replace(f":{port}", f":{free}")
        return text.replace("/tmp/", f"{self.folder}/")

    def _as_script(self, todo: list[tuple[str, list[str]]]) -> str:
        """A program for bash, which waits for what a command in the background is to say first."""
        bash = ["set -em", f"D={shlex.quote(str(self.folder))}"]
        bash.append('exec >"$D/out" 2>"$D/err"')
        for command, lines in todo:
            bash.append(command)
            if command.endswith("&") and lines:
                said = f'cat "$D/out" "$D/err" | grep -qxF {shlex.quote(lines[0])}'
                bash.append(f"until {said}; do kill -0 $!; sleep 0.05; done")
        return "\n".join([*bash, "wait"])

    def _env(self) -> dict[str, str]:
        return {
            "PATH": os.pathsep.join([str(self.folder / "bin"), os.environ["PATH"]]),
            "PYTHONDONTWRITEBYTECODE": "1",
            "DQ_MASTER_PORT": self.ports["5000"],
            "DQ_WORKER_SERVER": f"127.0.0.1:{self.ports['5000']}",
        }

    def _put_on_path(self, **programs: tuple[str, ...]) -> None:
        (self.folder / "bin").mkdir()
        for name, argv in programs.items():
            path = self.folder / "bin" / name
            path.write_text(f'#!/bin/sh\nexec {shlex.join(argv)} "$@"\n')
            path.chmod(0o755)

    def _printed(self, stream: str) -> str:
        return (self.folder / stream).read_text(encoding="utf-8")


@pytest.fixture
def ports() -> dict[str, str]:
    """A free port for each in the READMEs."""
    return {port: str(free_port()) for port in ("5000", "8025")}


@pytest.fixture
def terminal(tmp_path: Path, ports: dict[str, str]) -> Terminal:
    return Terminal(tmp_path, ports)


# -- the READMEs


@needs_bash
@pytest.mark.parametrize(
    "example",
    [
        pytest.param(name, marks=pytest.mark.slow if name == "prime_factors" else ())
        for name in FOLDERS
        if name != "mail_queue"
    ],
)
def test_the_commands_of_a_readme_print_what_it_says(terminal: Terminal, example: str) -> None:
    terminal.run(example)


def test_the_list_of_examples_names_each_of_them() -> None:
    text = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^- \[\w+\]\((\w+)/README\.md\)", text, re.MULTILINE)) == FOLDERS


@pytest.mark.parametrize("example", FOLDERS)
def test_each_readme_has_a_command(example: str) -> None:
    assert steps((EXAMPLES / example / "README.md").read_text(encoding="utf-8"))


# -- what their results are worth


def recipients() -> list[str]:
    with open(EXAMPLES / "mail_queue" / "mails.csv", newline="", encoding="utf-8") as file:
        return sorted(row["to"] for row in csv.DictReader(file))


@needs_bash
def test_each_mail_is_in_the_box_exactly_once(terminal: Terminal) -> None:
    pytest.importorskip("aiosmtpd")
    terminal.run("mail_queue")
    box = mailbox.Maildir(terminal.folder / "mail_box", create=False)
    assert sorted(mail["To"] for mail in box) == recipients()


class Gathering:
    """A mail server's handler that takes mails only once so many are being sent at a time."""

    def __init__(self, wanted: int) -> None:
        self.wanted = wanted
        self.sending = 0
        self.enough = asyncio.Event()

    async def handle_DATA(self, *_: Any) -> str:  # noqa: N802  # aiosmtpd's name
        self.sending += 1
        if self.sending == self.wanted:
            self.enough.set()
        await asyncio.wait_for(self.enough.wait(), 20)
        return "250 OK"


def test_mails_are_sent_at_the_same_time(ports: dict[str, str]) -> None:
    controller = pytest.importorskip("aiosmtpd.controller")
    port = ports["8025"]
    server = controller.Controller(Gathering(4), hostname="127.0.0.1", port=int(port))
    server.start()
    try:
        sent = dq(
            *("run", "examples/mail_queue/mail.py:send", "--unpack", "-w", "1", "-t", "4"),
            *("--input", "examples/mail_queue/mails.csv"),
            cwd=ROOT,
            env={"SMTP_SERVER": f"127.0.0.1:{port}"},
        )
    finally:
        server.stop()
    assert sent.stdout.count("sent to") == len(recipients()), sent.stderr


def test_the_total_is_that_of_all_lines_in_all_files(tmp_path: Path) -> None:
    folder, counts = tmp_path / "logs", tmp_path / "counts.jsonl"
    script(EXAMPLES / "log_files/make_logs.py", folder, "--files", "3", "--lines", "50")
    logs = sorted(folder.iterdir())
    dq("run", "examples/log_files/logs.py:count", *logs, "-f", "jsonl", "-o", counts, cwd=ROOT)
    total = script(EXAMPLES / "log_files/total.py", counts).stdout.split()
    text = "".join(log.read_text(encoding="utf-8") for log in logs)
    expected = {"lines": 150, **Counter(re.findall(r'" (\d{3}) ', text))}
    assert dict(zip(total[::2], map(int, total[1::2]), strict=True)) == expected


def test_logs_are_as_many_and_as_long_as_said(tmp_path: Path) -> None:
    make = script(EXAMPLES / "log_files/make_logs.py", tmp_path, "--files", "3", "--lines", "50")
    sizes = [log.stat().st_size for log in tmp_path.iterdir()]
    assert len(sizes) == 3
    assert make.stdout == f"3 files, 150 lines, {sum(sizes)} bytes\n"


def test_prime_factors_multiply_to_the_number() -> None:
    numbers = ["2", "8", "91", "1009", "1018081"]
    printed = dq("run", "examples/prime_factors/primes.py:factors", *numbers, cwd=ROOT).stdout
    found = [line.split(" = ") for line in printed.splitlines()]
    assert [number for number, _ in found] == numbers
    for number, factors in found:
        assert math.prod(map(int, factors.split(" * "))) == int(number)
