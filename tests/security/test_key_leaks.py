"""The key is nowhere that dq puts it: not in arguments, environments, output, or files.

What users type is theirs: the `--authkey` of a command, or the variable that they set for it.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import PIPE
from urllib.parse import quote

import pytest

from support import DQ, Running, descendants, dq, run, serving, wait_until

# Quotes and a backslash: shown as Python shows it, it looks otherwise.
KEY = "s3cret'key\"with\\16 bytes or more: kj9fw0"
LOCAL = ("--host", "127.0.0.1")

TASKS = """\
import os, subprocess, sys, time

def look():
    own = [open(f"/proc/self/{name}", errors="replace").read() for name in ("cmdline", "environ")]
    return [dict(os.environ), *own, subprocess.run("env", capture_output=True, text=True).stdout]

def do(what):
    print(what, look())
    print(what, look(), file=sys.stderr)
    if what == "fail":
        raise ValueError(look())
    if what == "sleep":
        time.sleep(60)
    if what == "die":
        os.abort()
    if what == "wait":
        open("waiting", "w").close()
        while not os.path.exists("gate"):
            time.sleep(0.01)
    return look()

def steal(path):
    # What a task can always do, since it is in the process that has the key.
    import gc
    [config] = [o for o in gc.get_objects() if type(o).__name__ == "Config"]
    with open(path, "wb") as file:
        file.write(config.authkey)
"""
INPUTS = ("show", "fail", "sleep", "die", "wait")
RULES = ("--timeout", "1.5", "--max-deaths", "1", "-f", "jsonl", "--debug")


# What tasks show of their environment is not to have anything of whoever runs these tests.
OURS = ("XDG_CONFIG_HOME", "PATH", "HOME", "LANG", "PYTHONPATH", "TMPDIR")
BARE: dict[str, str | None] = dict.fromkeys(set(os.environ).difference(OURS))


def forms(key: bytes) -> dict[str, bytes]:
    """All that a key would be known by."""
    found = {
        "itself": key,
        "its hexadecimal digits": key.hex().encode(),
        "Python's form": repr(key)[2:-1].encode(),
        "Python's form of text": repr(key.decode())[1:-1].encode(),
        "JSON's form": key.replace(b"\\", b"\\\\").replace(b'"', b'\\"'),
        "a URL's form": quote(key).encode(),
        "its MD5": hashlib.md5(key).hexdigest().encode(),
        "its SHA-256": hashlib.sha256(key).hexdigest().encode(),
    }
    for start in range(3):  # wherever it is within what was encoded
        whole = key[start : start + (len(key) - start) // 3 * 3]
        found[f"base64 from {start} on"] = base64.b64encode(whole)
        found[f"URL-safe base64 from {start} on"] = base64.urlsafe_b64encode(whole)
    return found


@dataclass
class Evidence:
    """What there is to look through, by where it was found."""

    pieces: dict[str, bytes] = field(default_factory=dict)

    def of_processes(self, command: Running) -> None:
        """What `ps` and /proc show of all that a command has started."""
        before = len(self.pieces)
        for pid in descendants(command.pid):
            with contextlib.suppress(OSError):  # it has gone meanwhile
                for name in ("cmdline", "environ"):
                    self.pieces[f"{name} of {pid}"] = Path(f"/proc/{pid}/{name}").read_bytes()
        assert len(self.pieces) > before, command.printed

    def of_output(self, *commands: Running) -> None:
        for command in commands:
            name = f"{command.argv[3:5]}"
            self.pieces[f"output of {name}"] = command.stdout_text.encode()
            self.pieces[f"messages of {name}"] = command.stderr_text.encode()

    def of_files(self, folder: Path, besides: Path) -> None:
        for path in folder.rglob("*"):
            if path.is_file() and path != besides:
                self.pieces[str(path)] = path.read_bytes()

    def check(self, key: bytes) -> None:
        assert any(b"PATH" in piece for piece in self.pieces.values())  # something was looked at
        hits = {
            where: what
            for where, piece in self.pieces.items()
            for what, form in forms(key).items()
            if form in piece
        }
        assert not hits


def test_the_search_finds_a_key_in_every_form() -> None:
    for form in forms(KEY.encode()).values():
        evidence = Evidence({"x": b"PATH " + form})
        with pytest.raises(AssertionError):
            evidence.check(KEY.encode())


Way = tuple[list[str], dict[str, str | None]]


def ways(folder: Path) -> dict[str, Callable[[str], Way]]:
    """How a command is given the key: its options and its environment."""
    file = folder / "key"
    config = {"XDG_CONFIG_HOME": str(folder / "config")}
    return {
        "option": lambda command: (["--authkey", KEY], {}),
        "variable": lambda command: ([], {"DQ_AUTHKEY": KEY}),
        "command's variable": lambda command: ([], {f"DQ_{command.upper()}_AUTHKEY": KEY}),
        "file": lambda command: (["--authkey-file", str(file)], {}),
        "file's variable": lambda command: ([], {"DQ_AUTHKEY_FILE": str(file)}),
        "user's file": lambda command: ([], dict(config)),
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "secrets_task.py").write_text(TASKS)
    for path in (tmp_path / "key", tmp_path / "config" / "dq" / "authkey"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(KEY + "\n")
        path.chmod(0o600)
    return tmp_path


@contextmanager
def looked_through(folder: Path) -> Iterator[Evidence]:
    """What is found meanwhile, and what is in the folder afterwards."""
    evidence = Evidence()
    yield evidence
    evidence.of_files(folder, besides=folder / "key")
    del evidence.pieces[str(folder / "config" / "dq" / "authkey")]
    evidence.check(KEY.encode())


@pytest.mark.slow
@pytest.mark.parametrize("way", ways(Path()))
def test_master_and_worker_leave_the_key_nowhere(way: str, folder: Path) -> None:
    given = ways(folder)[way]
    options, env = given("master")
    job = ("secrets_task:do", *INPUTS, "--journal", "journal", *LOCAL, *RULES)
    with (
        looked_through(folder) as evidence,
        serving(*job, *options, cwd=folder, env={**BARE, **env}) as (master, port),
    ):
        options, env = given("worker")
        argv = ("worker", "-s", f"127.0.0.1:{port}", "-p", "2", "--debug", *options)
        with Running(*DQ, *argv, cwd=folder, env={**BARE, **env}) as worker:
            wait_until((folder / "waiting").exists)
            evidence.of_processes(worker)
            (folder / "gate").touch()
            assert master.wait(60) == 1, master.printed  # some failed, as they should
            assert worker.wait() == 0, worker.printed
        assert len(master.stdout_text.splitlines()) == len(INPUTS), master.printed
        evidence.of_output(master, worker)


def test_the_key_that_a_run_makes_for_itself_is_nowhere(folder: Path) -> None:
    made = folder / "made"
    argv = ("run", "secrets_task:do", *INPUTS, "-w", "2", "--journal", "journal", *RULES)
    evidence = Evidence()
    # The very key: tasks of one run have it all, and one that steals it is among them.
    steal = (
        "def do(what, do=do):\n    return steal(what[6:]) if what[:6] == 'steal:' else do(what)\n"
    )
    with (folder / "secrets_task.py").open("a") as file:
        file.write(steal)
    argv = (*argv[:2], f"steal:{made}", *argv[2:])
    with Running(*DQ, *argv, cwd=folder, env=BARE) as command:
        wait_until((folder / "waiting").exists)
        evidence.of_processes(command)
        (folder / "gate").touch()
        assert command.wait(60) == 1, command.printed
        evidence.of_output(command)
    evidence.of_files(folder, besides=made)
    key = made.read_bytes()
    assert len(key) > 40
    evidence.check(key)


API = """\
import logging, sys
logging.basicConfig(level=logging.DEBUG)
import dq, secrets_task
key = sys.stdin.readline().rstrip("\\n")
if sys.argv[1] == "worker":
    dq.run_worker("127.0.0.1", int(sys.argv[2]), authkey=key, processes=2)
else:
    found = dq.run_master(
        secrets_task.do, sys.argv[2:], host="127.0.0.1", port=0, authkey=key, workers=2,
        timeout=1.5, max_deaths=1, journal="journal", return_exceptions=True,
    )
    print(found)
"""


def test_calls_of_a_script_leave_the_key_nowhere(folder: Path) -> None:
    script = folder / "script.py"
    script.write_text(API)
    with looked_through(folder) as evidence:
        argv = (sys.executable, script, "master", *INPUTS)
        with Running(*argv, cwd=folder, env=BARE, stdin=PIPE) as master:
            master.write(KEY + "\n")
            port = master.wait_for(r"serving on 127\.0\.0\.1:(\d+)")[1]
            argv = (sys.executable, script, "worker", port)
            with Running(*argv, cwd=folder, env=BARE, stdin=PIPE) as worker:
                worker.write(KEY + "\n")
                wait_until(lambda: descendants(worker.pid))
                wait_until((folder / "waiting").exists)
                evidence.of_processes(worker)
                evidence.of_processes(master)
                (folder / "gate").touch()
                assert master.wait(60) == 0, master.printed
                assert worker.wait() == 0, worker.printed
                evidence.of_output(master, worker)


@pytest.mark.parametrize("way", ["option", "variable"])
def test_what_fails_says_nothing_of_the_key(way: str, folder: Path) -> None:
    given = ways(folder)[way]
    options, env = given("worker")
    evidence = Evidence({"x": b"PATH"})

    def fails(*argv: str) -> None:
        done = dq(*argv, *options, "--debug", cwd=folder, env={**BARE, **env})
        assert done.returncode in (2, 3, 4), done
        assert "Traceback" in done.stderr
        evidence.pieces[str(argv)] = (done.stdout + done.stderr).encode()

    other = {"DQ_AUTHKEY": "another key, not of these"}
    with socket.socket() as silent, serving(*LOCAL, env=other) as (master, port):
        silent.bind(("127.0.0.1", 0))
        nobody = silent.getsockname()[1]
        at = f"127.0.0.1:{port}"
        fails("worker", "-s", at, "--reconnect", "0")
        fails("worker", "-s", at, "--reconnect", "0", "--tls", "require")
        fails("worker", "-s", f"127.0.0.1:{nobody}", "--reconnect", "0")
        fails("worker", "-s", "host.invalid", "--reconnect", "0")
        fails("master", "secrets_task:do", "1", *LOCAL, "--port", str(port))
        fails("master", "secrets_task:none", "1", *LOCAL, "--port", "0")
        fails("master", "secrets_task:do", "-i", "none.txt", *LOCAL, "--port", "0")
        evidence.of_output(master)
    evidence.check(KEY.encode())


def test_keygen_leaves_its_key_in_its_file_alone(tmp_path: Path) -> None:
    done = run(*DQ, "keygen", "new", "--debug", cwd=tmp_path)
    assert done.returncode == 0
    again = run(*DQ, "keygen", "new", "--debug", cwd=tmp_path)
    assert again.returncode == 2
    key = (tmp_path / "new").read_bytes().rstrip(b"\n")
    said = done.stdout + done.stderr + again.stdout + again.stderr
    Evidence({"output": b"PATH " + said.encode()}).check(key)
