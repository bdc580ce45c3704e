"""Documentation as programs: takes a Markdown page apart, and does what it says to do.

What a page is made of, for whoever writes one:

- A line that is only `` `app.py` `` and a code block below it: that block is the file `app.py`.
- A ```python block without a name is a program of its own. A ```text block right below it is
  what it prints.
- A ```console block is a terminal: commands at the prompt ``$ ``, and what they print. `...`
  stands for anything within a line, and alone on a line for any lines.
- A prompt with a name, ``master$ ``, is a terminal of its own: what is typed there goes on while
  others work, until the page's next heading. ``^C`` below it is Ctrl-C, once the other commands
  are over. The one called ``master`` is given the time to listen.
- A command that ends in `&` is a terminal of its own as well, and so is each line of an ```sh
  block that calls dq; its other lines are only for reading.
- ``<!-- not run: why -->`` above a block is an exception to all that.
- The folder is empty at first: a page makes what it uses. Port 5000 and 10.0.0.2 stand for a free
  port of this machine, and `/home/ada` for a home folder.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from support import Running, free_port, wait_until

FENCE = re.compile(r"^```(?P<language>\S*)\s*$")
NAME = re.compile(r"^`(?P<name>\w[\w./-]*)`$")
PROMPT = re.compile(r"^(?P<terminal>[\w-]*)\$ (?P<command>.*)$")
HOST, PORT = "10.0.0.2", 5000


@dataclass(frozen=True)
class Block:
    """A fenced block: where it is, what the lines above it say of it, and its text."""

    line: int
    language: str
    above: str
    after: Block | None  # the block right above, with nothing in between
    section: int
    text: str

    @property
    def file(self) -> str | None:
        found = NAME.match(self.above)
        return found["name"] if found else None


def blocks(page: str) -> Iterator[Block]:
    """The fenced blocks of a page, in order."""
    above, last, section = "", None, 0
    lines = iter(enumerate(page.splitlines(), 1))
    for number, line in lines:
        if fence := FENCE.match(line):
            body = []
            for _, inner in lines:
                if inner.strip() == "```":
                    break
                body.append(inner + "\n")
            after = last if not above else None
            last = Block(number, fence["language"], above, after, section, "".join(body))
            yield last
            above = ""
        elif line.startswith("#"):
            section += 1
            above = line
        elif line.strip():
            above = line.strip()


@dataclass
class Command:
    """A command at a prompt, and the lines below it."""

    line: int
    terminal: str
    command: str
    output: list[str] = field(default_factory=list)


def commands(block: Block) -> list[Command]:
    """What a console block has one type."""
    found: list[Command] = []
    for number, line in enumerate(block.text.splitlines(), block.line + 1):
        if prompt := PROMPT.match(line):
            found.append(Command(number, prompt["terminal"], prompt["command"]))
        elif found and not found[-1].output and found[-1].command.endswith("\\"):
            found[-1].command = found[-1].command[:-1] + line.removeprefix("> ").strip()
        else:
            assert found, f"line {number}: output before any prompt"
            found[-1].output.append(line)
    return found


def matcher(expected: Iterable[str]) -> re.Pattern[str]:
    """What a page says is printed, as a pattern for all that is printed."""
    lines = [line.rstrip() for line in expected]
    while lines and not lines[-1]:
        lines.pop()
    parts = [
        r"(?:.*\n)*?"
        if line.strip() == "..."
        else ".*".join(map(re.escape, line.split("..."))) + r"[ ]*\n"
        for line in lines
    ]
    return re.compile("".join(parts))


class Here:
    """Translates what a page says to this machine."""

    def __init__(self) -> None:
        self.port = free_port()

    def __call__(self, text: str) -> str:
        here = f"127.0.0.1:{self.port}"
        text = re.sub(rf"\b{HOST}(?=:|[\"'],\s*{PORT}\b)", "127.0.0.1", text)
        text = text.replace(HOST, here)
        return re.sub(rf"\b{PORT}\b", str(self.port), text)

    def has_listener(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port)).close()
        except OSError:
            return False
        return True

    def environment(self) -> dict[str, str]:
        return {
            "DQ_MASTER_PORT": str(self.port),
            "DQ_SERVER": f"127.0.0.1:{self.port}",
            "DQ_WORKER_RECONNECT": "20",  # one that came when all was done need not look for long
        }


def write_shims(folder: Path) -> None:
    """`dq` and `python` as this Python has them; `ssh HOST` and `scp -q FILE HOST:FOLDER` with a
    home folder for each host."""
    python = shlex.quote(sys.executable)
    programs = {
        "dq": f'exec {python} -m dq "$@"',
        "python": f'exec {python} "$@"',
        "python3": f'exec {python} "$@"',
        # A machine that has been set up has dq in a virtual environment.
        "ssh": 'export HOME="$HOME/$1"; mkdir -p "$HOME/.venv/bin"; cd "$HOME"; shift;'
        f' ln -sf {shlex.quote(str(folder))}/dq .venv/bin/; exec sh -c "$*"',
        "scp": 'while [ $# -gt 2 ]; do shift; done; to="$HOME/${2%%:*}/${2#*:}";'
        ' mkdir -p "$to"; exec cp -p "$1" "$to"',
    }
    for name, line in programs.items():
        path = folder / name
        path.write_text(f"#!/bin/sh\n{line}\n")
        path.chmod(0o755)


class Reader:
    """Somebody who follows a page from top to bottom, in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "here"
        self.folder.mkdir()
        self._bin = folder / "bin"
        self._bin.mkdir()
        write_shims(self._bin)
        self._home = folder / "ada"
        self._home.mkdir()
        self._here = Here()
        self._code = 0
        self._section = 0
        self._elsewhere: dict[str, tuple[Running, Command]] = {}

    def follow(self, page: str) -> None:
        """Do everything that a page says.

        AssertionError names the line of the first thing that is not as it says.
        """
        try:
            for block in blocks(page):
                if block.section != self._section:
                    self._end_section()
                    self._section = block.section
                self._do(block)
            self._end_section()
        finally:
            for running, _ in self._elsewhere.values():
                running.close()

    def _do(self, block: Block) -> None:
        if block.above.startswith("<!-- not run:"):
            return
        if block.above in ("<!-- run -->", "<!-- test -->"):
            return  # these set up a clone; `test_docs.py` has tests of their own
        if block.file is not None:
            path = self.folder / block.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(self._here(block.text))
        elif block.language == "python":
            self._program(block)
        elif block.language == "console":
            for command in commands(block):
                self._type(command)
        elif block.language == "sh":
            for number, line in enumerate(block.text.splitlines(), block.line + 1):
                if line.startswith("dq "):
                    self._start(Command(number, f"sh-{number}", line, ["..."]))
        elif block.language == "text" and block.after and block.after.language == "python":
            self._compare(Command(block.line, "", "", block.text.splitlines()), self._printed)

    def _program(self, block: Block) -> None:
        path = self.folder / f"block_{block.line}.py"
        path.write_text(self._here(block.text))
        self._printed, self._code = self._shell(f"python {path.name}")
        assert self._code == 0, f"line {block.line}: the program failed\n{self._printed}"

    def _type(self, command: Command) -> None:
        if command.command.endswith("&"):
            command.terminal = command.terminal or f"background-{command.line}"
            command.command = command.command[:-1]
        if command.terminal:
            self._start(command)
            return
        # As a shell has it: `echo $?` shows how the one before ended.
        line = f"(exit {self._code}); {self._here(command.command)}"
        printed, self._code = self._shell(line)
        self._compare(command, printed)
        if not command.output:
            assert self._code == 0, f"line {command.line}: exit code {self._code}"

    def _shell(self, line: str) -> tuple[str, int]:
        with self._running(line) as running:
            running.close_stdin()
            code = running.wait(60)
            return self._text(running), code

    def _text(self, running: Running) -> str:
        return running.stdout_text.replace(str(self._home), "/home/ada")

    def _running(self, line: str) -> Running:
        path = f"{self._bin}{os.pathsep}{os.environ['PATH']}"
        home = {"HOME": str(self._home), "XDG_CONFIG_HOME": None}
        env = {"PATH": path, **home, **self._here.environment()}
        # One stream, as on a terminal.
        return Running("bash", "-c", f"exec 2>&1\n{line}", cwd=self.folder, env=env)

    # Terminals at which something goes on

    def _start(self, command: Command) -> None:
        if command.terminal in self._elsewhere:
            self._finish(command.terminal)
        running = self._running(self._here(command.command))
        self._elsewhere[command.terminal] = running, command
        if command.terminal == "master" or command.command.startswith("dq master"):
            wait_until(lambda: running.process.poll() is not None or self._here.has_listener())

    def _end_section(self) -> None:
        """Wait for what ends by itself, interrupt what does not; workers leave after that."""

        def turn(name: str) -> int:
            _, command = self._elsewhere[name]
            return 1 if "^C" in command.output else 2 if "dq worker" in command.command else 0

        for name in sorted(self._elsewhere, key=turn):
            self._finish(name)

    def _finish(self, terminal: str) -> None:
        running, command = self._elsewhere[terminal]
        if "^C" in command.output:
            place = command.output.index("^C")
            before = self._here("\n".join(command.output[:place]))
            running.wait_for(matcher(before.splitlines()).pattern, stream="stdout")
            command.output[place : place + 1] = []
            running.signal_group(signal.SIGINT)
        code = running.wait(60)
        self._compare(command, self._text(running))
        if command.output in ([], ["..."]):
            assert code == 0, f"line {command.line}: exit code {code}\n{running.printed}"
        del self._elsewhere[terminal]
        running.close()

    def _compare(self, command: Command, printed: str) -> None:
        expected = self._here("\n".join(command.output)).splitlines()
        whole = printed if not printed or printed.endswith("\n") else printed + "\n"
        assert matcher(expected).fullmatch(whole), (
            f"line {command.line}: {command.command}\n"
            f"--- the page says\n{chr(10).join(expected)}\n--- printed\n{whole}---"
        )
