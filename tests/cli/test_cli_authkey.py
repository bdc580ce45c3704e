"""Where the authkey comes from, in which order; `dq keygen`; options as variables."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from refusals import assert_refused

from dq import QueueManager
from support import DQ, run, serving
from support.terminal import Terminal
from support.warm import dq

KEYS = {
    "option": "key from the option",
    "DQ_AUTHKEY": "key from the variable",
    "file": "key from the file option",
    "DQ_AUTHKEY_FILE": "key from the file variable",
    "config": "key from the config folder",
}
LOCAL = ("--host", "127.0.0.1")


def key_file(path: Path, key: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(key + "\n")
    path.chmod(0o600)
    return path


def serves_with(port: int, key: str) -> bool:
    manager = QueueManager(("127.0.0.1", port), authkey=key.encode())
    try:
        manager.connect()
    except Exception:
        return False
    return True


@pytest.mark.parametrize("first", KEYS)
def test_the_first_source_that_has_a_key_is_used(project: Path, first: str) -> None:
    rest = list(KEYS)[list(KEYS).index(first) :]
    args: list[str] = []
    env: dict[str, str | None] = {}
    if "option" in rest:
        args += ["--authkey", KEYS["option"]]
    if "DQ_AUTHKEY" in rest:
        env["DQ_AUTHKEY"] = KEYS["DQ_AUTHKEY"]
    if "file" in rest:
        args += ["--authkey-file", str(key_file(project / "a.key", KEYS["file"]))]
    if "DQ_AUTHKEY_FILE" in rest:
        env["DQ_AUTHKEY_FILE"] = str(key_file(project / "b.key", KEYS["DQ_AUTHKEY_FILE"]))
    key_file(project / "config" / "dq" / "authkey", KEYS["config"])
    env["XDG_CONFIG_HOME"] = str(project / "config")
    with serving(*LOCAL, *args, cwd=project, env=env) as (_, port):
        assert [source for source in KEYS if serves_with(port, KEYS[source])] == [first]


@pytest.mark.parametrize(
    "command", [("master", "--port", "0"), ("worker",), ("run", "app:echo", "1", "--port", "0")]
)
def test_without_a_key_the_five_sources_are_named(project: Path, command: tuple[str, ...]) -> None:
    done = dq(*command, cwd=project)
    assert_refused(
        done, 2, "--authkey KEY", "DQ_AUTHKEY", "--authkey-file or DQ_AUTHKEY_FILE",
        "dq keygen", "terminal",
    )  # fmt: skip


def test_a_key_is_asked_for_on_a_terminal_and_not_shown(project: Path) -> None:
    argv = (*DQ, "master", "app:square", "3", "--port", "0", *LOCAL, "-w", "1")
    with Terminal(*argv, cwd=project) as terminal:
        terminal.wait_for("authkey: ")
        terminal.type("a secret of 16 bytes\n")
        code, out = terminal.wait()
    assert (code, out) == (0, "9\n")
    assert "secret" not in terminal.screen


@pytest.mark.parametrize("variable", ["DQ_AUTHKEY", "DQ_MASTER_AUTHKEY"])
def test_an_empty_key_variable_is_refused_and_not_passed_over(project: Path, variable: str) -> None:
    config = key_file(project / "dq" / "authkey", "k" * 16).parent.parent
    env = {variable: "", "XDG_CONFIG_HOME": str(config)}
    assert_refused(dq("master", "--port", "0", cwd=project, env=env), 2, f"{variable} is empty")


@pytest.mark.parametrize("variable", ["DQ_AUTHKEY_FILE", "DQ_WORKER_AUTHKEY_FILE"])
def test_an_empty_key_file_variable_is_refused_and_not_passed_over(
    project: Path, variable: str
) -> None:
    config = key_file(project / "dq" / "authkey", "k" * 16).parent.parent
    env = {variable: "", "XDG_CONFIG_HOME": str(config)}
    assert_refused(dq("worker", cwd=project, env=env), 2, f"{variable} is empty")


def test_an_empty_key_is_refused(project: Path) -> None:
    assert_refused(dq("master", "--port", "0", "--authkey", "", cwd=project), 2, "is empty")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o644, 0o666])
def test_a_key_file_that_others_can_use_is_refused(project: Path, mode: int) -> None:
    key_file(project / "k", "k" * 16).chmod(mode)
    done = dq("master", "--port", "0", "--authkey-file", "k", cwd=project)
    assert_refused(done, 2, "others can read or change the key file k", "chmod 600 k")


@pytest.mark.parametrize(("name", "message"), [("gone", "No such file"), (".", "Is a directory")])
def test_a_key_file_that_cannot_be_read_is_refused(project: Path, name: str, message: str) -> None:
    assert_refused(dq("worker", "--authkey-file", name, cwd=project), 2, name, message)


def test_a_short_key_on_an_open_port_is_warned_of_once(project: Path) -> None:
    with serving("--authkey", "abc", cwd=project) as (master, _):
        assert master.stderr_text.count("the authkey has 3 bytes, too few") == 1
    with serving("--authkey", "abc", *LOCAL, cwd=project) as (master, _):
        assert "too few" not in master.stderr_text


def test_run_needs_no_key_where_nobody_can_join(project: Path) -> None:
    done = dq("run", "app:square", "3", "-w", "1", cwd=project, env={"DQ_AUTHKEY": ""})
    assert (done.returncode, done.stdout) == (0, "9\n")


def test_no_process_shows_the_key(project: Path) -> None:
    """Neither in its arguments nor, for tasks to read, in its environment."""
    source = (
        "import os\n"
        "def f(x):\n"
        "    with open('/proc/self/cmdline') as file:\n"
        "        shown = file.read()\n"
        "    return 'a secret key' in shown + repr(dict(os.environ))\n"
    )
    (project / "spy.py").write_text(source)
    argv = ("master", "spy:f", "1", "--port", "0", *LOCAL, "-w", "1")
    done = dq(*argv, cwd=project, env={"DQ_AUTHKEY": "a secret key"})
    assert (done.returncode, done.stdout) == (0, "False\n")


# -- keygen


def test_keygen_writes_where_every_command_looks(project: Path) -> None:
    env = {"XDG_CONFIG_HOME": str(project / "config")}
    done = dq("keygen", env=env)
    path = project / "config" / "dq" / "authkey"
    assert (done.returncode, done.stdout) == (0, f"{path}\n")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with serving(*LOCAL, cwd=project, env=env) as (_, port):
        assert serves_with(port, path.read_text().strip())


def test_keygen_never_shows_the_key_nor_writes_the_same_twice(project: Path) -> None:
    shown = [dq("keygen", name, cwd=project) for name in ("a", "b")]
    keys = [(project / name).read_text() for name in ("a", "b")]
    assert keys[0] != keys[1]
    assert all(len(key) > 32 for key in keys)
    assert not any(key.strip() in done.stdout + done.stderr for key in keys for done in shown)


@pytest.mark.parametrize("umask", ["000", "077"])
def test_keygen_makes_the_file_private_whatever_the_umask(project: Path, umask: str) -> None:
    command = f"umask {umask}; {' '.join(DQ)} keygen k"
    assert run("sh", "-c", command, cwd=project).returncode == 0
    assert stat.S_IMODE((project / "k").stat().st_mode) == 0o600


def test_keygen_refuses_to_overwrite_unless_forced(project: Path) -> None:
    key_file(project / "k", "precious")
    assert_refused(dq("keygen", "k", cwd=project), 2, "k is there already", "--force")
    assert (project / "k").read_text() == "precious\n"
    assert dq("keygen", "k", "--force", cwd=project).returncode == 0
    assert (project / "k").read_text() != "precious\n"


def test_keygen_says_where_it_cannot_write(project: Path) -> None:
    done = dq("keygen", "app.py/k", cwd=project)
    assert_refused(done, 2, "cannot write the key file app.py/k")


# -- every option as a variable


def test_options_can_be_set_as_variables(project: Path) -> None:
    env = {"DQ_RUN_FORMAT": "jsonl", "DQ_RUN_RAW": "1", "DQ_RUN_WORKERS": "1"}
    done = dq("run", "app:echo", "1", cwd=project, env=env)
    assert json.loads(done.stdout)["result"] == "1"


def test_an_option_wins_over_its_variable(project: Path) -> None:
    env = {"DQ_RUN_FORMAT": "jsonl", "DQ_RUN_INPUT": "gone.txt"}
    (project / "in.txt").write_text("2\n")
    argv = ("run", "app:square", "-f", "text", "-i", "in.txt")
    assert dq(*argv, cwd=project, env=env).stdout == "4\n"


def test_a_variable_is_checked_as_its_option_is(project: Path) -> None:
    done = dq("run", "app:echo", "1", cwd=project, env={"DQ_RUN_WORKERS": "0"})
    assert_refused(done, 2, "at least 1")


KUBERNETES = {
    "{}_SERVICE_HOST": "10.96.0.5",
    "{}_SERVICE_PORT": "5000",
    "{}_PORT": "tcp://10.96.0.5:5000",
    "{}_PORT_5000_TCP": "tcp://10.96.0.5:5000",
    "{}_PORT_5000_TCP_PROTO": "tcp",
    "{}_PORT_5000_TCP_PORT": "5000",
    "{}_PORT_5000_TCP_ADDR": "10.96.0.5",
}


def beside_services(*services: str) -> dict[str, str]:
    """What Kubernetes sets in a pod beside services of these names; and Docker for its links."""
    return {
        name.format(service): value for service in services for name, value in KUBERNETES.items()
    }


def test_a_variable_that_a_kubernetes_service_sets_is_no_option(project: Path) -> None:
    env = {"DQ_AUTHKEY": "only for this test", **beside_services("DQ_MASTER", "DQ_RUN", "DQ")}
    done = dq("run", "app:square", "3", "-w", "1", cwd=project, env=env)
    assert (done.returncode, done.stdout, done.stderr) == (0, "9\n", "")
    where = ("--host", "127.0.0.1")  # the port is the default's, or in use by another test
    done = dq("master", "app:square", "3", "-w", "1", *where, cwd=project, env=env)
    assert "tcp:" not in done.stderr
    assert (done.returncode, done.stdout) == (0, "9\n") or "port 5000 is in use" in done.stderr


@pytest.mark.parametrize("value", ["udp://[fd00::5]:5000", "sctp://10.96.0.5:5000"])
def test_no_protocol_of_a_service_is_a_port(value: str, project: Path) -> None:
    done = dq("run", "app:square", "3", "-w", "1", cwd=project, env={"DQ_RUN_PORT": value})
    assert (done.returncode, done.stdout, done.stderr) == (0, "9\n", "")


def test_a_port_in_a_variable_that_is_none_is_refused(project: Path) -> None:
    done = dq("run", "app:square", "3", cwd=project, env={"DQ_RUN_PORT": "http"})
    assert_refused(done, 2, "'http' is not a whole number")


@pytest.mark.parametrize("command", ["run", "master", "worker", "keygen"])
def test_every_option_has_its_variable(command: str) -> None:
    import click

    from dq.cli import cli

    with click.Context(cli, auto_envvar_prefix="DQ", info_name="dq") as outer:
        found = cli.get_command(outer, command)
        assert found is not None
        for option in found.params:
            if isinstance(option, click.Option) and option.name != "help":
                name = f"DQ_{command.upper()}_{str(option.name).upper()}"
                long = [opt for opt in option.opts if opt.startswith("--")]
                # The variable is named as the option is, whatever dq calls it inside.
                assert f"--{str(option.name).replace('_', '-')}" in long, (name, long)


def test_settings_of_tests_themselves_are_left_out(project: Path) -> None:
    """So that a developer's own key and options decide nothing here."""
    assert not any(name.startswith("DQ_") for name in _environment_of(project))


def _environment_of(project: Path) -> dict[str, str]:
    shown = run("env", "-0", cwd=project).stdout
    return dict(line.split("=", 1) for line in shown.split("\0") if "=" in line)
