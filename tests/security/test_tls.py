"""TLS: with certificates, and from the authkey alone; who gets in, and what each end says."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import stat
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.managers import BaseManager
from pathlib import Path

import pytest

import dq as package
from dq.manager.client import ServerConnection
from dq.security import certs
from dq.security.tls import PLAIN, Tls, can_psk, settings
from dq.transport import dialing, limits
from security.relay import Relay
from support import DQ, FaultProxy, Running, other_pythons, python, run, serving, wait_until
from support.proxy import Direction
from support.warm import dq

KEY = "0123456789abcdef0123456789abcdef"
ENV = {"DQ_AUTHKEY": KEY}

needs_psk = pytest.mark.skipif(
    not can_psk(), reason=f"TLS from the key needs Python 3.13; this is {sys.version.split()[0]}"
)
WAYS = [pytest.param("certs"), pytest.param("psk", marks=needs_psk)]


def files(folder: Path, role: str, ca: Path | None = None) -> list[str]:
    """The options with which a command shows the certificate of a role."""
    return [
        *("--tls-cert", f"{folder}/{role}.pem"),
        *("--tls-key", f"{folder}/{role}.key"),
        *("--tls-ca", f"{ca or folder}/ca.pem"),
    ]


@pytest.fixture(scope="session")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates as `dq keygen --tls` makes them."""
    folder = tmp_path_factory.mktemp("tls") / "ours"
    certs.make(os.fspath(folder))
    return folder


@pytest.fixture(scope="session")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same of another CA."""
    folder = tmp_path_factory.mktemp("tls") / "theirs"
    certs.make(os.fspath(folder))
    return folder


@pytest.fixture(scope="session")
def expired(tmp_path_factory: pytest.TempPathFactory, ours: Path) -> Path:
    """Certificates by our CA that were good until yesterday."""
    folder = tmp_path_factory.mktemp("tls") / "expired"
    folder.mkdir()
    for name in ("ca.key", "ca.pem", "master.key", "worker.key"):
        shutil.copy(ours / name, folder)
    (folder / "leaf.cnf").write_text(f"[leaf]\nsubjectAltName = {', '.join(ADDRESSES)}\n")
    for role in ("master", "worker"):
        for line in EXPIRED.format(role=role).splitlines():
            subprocess.run(line.split(), cwd=folder, check=True, capture_output=True)
    return folder


ADDRESSES = ("DNS:localhost", "IP:127.0.0.1")
EXPIRED = """\
openssl req -new -key {role}.key -subj /CN=test -out {role}.csr
openssl x509 -req -in {role}.csr -days -1 -CA ca.pem -CAkey ca.key -set_serial 7 \
-extfile leaf.cnf -extensions leaf -out {role}.pem
"""


def ways(how: str, ours: Path) -> tuple[list[str], list[str]]:
    """The options of master and worker for a way of encrypting."""
    if how == "certs":
        return files(ours, "master"), files(ours, "worker")
    return ["--tls", how], ["--tls", how]


@contextmanager
def serving_here(**options: object) -> Iterator[tuple[str, int]]:
    """A master in this process; its address."""
    with package.Master(host="127.0.0.1", port=0, authkey=KEY, **options) as master:  # type: ignore[arg-type]
        address = master.address
        assert not isinstance(address, str)
        yield address


def master_files(folder: Path) -> dict[str, str]:
    """The same as `files`, in Python."""
    names = ("cert", "master.pem"), ("key", "master.key"), ("ca", "ca.pem")
    return {f"tls_{name}": f"{folder}/{file}" for name, file in names}


def worker_tls(how: str, folder: Path) -> Tls:
    if how == "psk":
        return settings("psk")
    return settings("auto", folder / "worker.pem", folder / "worker.key", folder / "ca.pem")


def master_options(how: str, folder: Path) -> dict[str, str]:
    return {"tls": "psk"} if how == "psk" else master_files(folder)


# --- what works


@pytest.mark.parametrize("how", WAYS)
def test_a_run_over_tls_gives_every_result(project: Path, ours: Path, how: str) -> None:
    for_master, for_worker = ways(how, ours)
    inputs = [str(n) for n in range(200)]
    with serving("app:square", *inputs, *for_master, cwd=project, env=ENV) as (master, port):
        where = f"127.0.0.1:{port}"
        worker = dq("worker", "--server", where, "-p", "2", *for_worker, cwd=project, env=ENV)
        assert worker.returncode == 0, worker.stderr
        assert master.wait() == 0
        assert master.stdout_text.split() == [str(n * n) for n in range(200)]


@pytest.mark.parametrize("how", WAYS)
def test_a_masters_own_workers_use_it_too(project: Path, ours: Path, how: str) -> None:
    for_master, _ = ways(how, ours)
    inputs = ("1", "2", "3")
    done = dq(
        "run", "app:square", *inputs, "-w", "2", "--port", "0", *for_master, cwd=project, env=ENV
    )
    assert (done.returncode, done.stdout) == (0, "1\n4\n9\n"), done.stderr


@pytest.mark.parametrize("how", WAYS)
def test_nothing_on_the_wire_can_be_read(ours: Path, how: str) -> None:
    with serving_here(**master_options(how, ours)) as address, recorded(address) as (via, heard):
        connection = ServerConnection(via, KEY.encode(), tls=worker_tls(how, ours))
        connection.call("tasks", "put", "a secret of ours")
        connection.close()
        assert b"#CHALLENGE#" not in heard
        assert b"secret" not in heard


def test_a_plain_wire_can_be_read() -> None:
    with serving_here(tls="off") as address, recorded(address) as (via, heard):
        connection = ServerConnection(via, KEY.encode())
        connection.call("tasks", "put", "a secret of ours")
        connection.close()
        assert b"secret" in heard


@contextmanager
def recorded(target: tuple[str, int]) -> Iterator[tuple[tuple[str, int], bytearray]]:
    """An address that leads to `target`, and what a client has sent there."""
    heard = bytearray()
    listener = socket.create_server(("127.0.0.1", 0))

    def copy(source: socket.socket, sink: socket.socket, note: bool) -> None:
        with sink:
            while data := source.recv(1 << 16):
                if note:
                    heard.extend(data)
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    def serve() -> None:
        client, _ = listener.accept()
        server = socket.create_connection(target)
        back = threading.Thread(target=quietly, args=(copy, server, client, True), daemon=True)
        back.start()
        quietly(copy, client, server, True)
        back.join(10)

    def quietly(call: Callable[..., None], *args: object) -> None:
        try:
            call(*args)
        except OSError:
            pass

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield listener.getsockname(), heard
    listener.close()
    thread.join(10)


@pytest.mark.parametrize("how", WAYS)
def test_large_results_pass_whole(project: Path, ours: Path, how: str) -> None:
    for_master, for_worker = ways(how, ours)
    text = "x" * 3_000_000
    (project / "large").write_text(f"{text}\n")
    given = ("app:echo", "--input", "large", *for_master)
    with serving(*given, cwd=project, env=ENV) as (master, port):
        worker = dq("worker", "--server", f"127.0.0.1:{port}", *for_worker, cwd=project, env=ENV)
        assert worker.returncode == 0, worker.stderr
        assert master.wait() == 0
        assert master.stdout_text == f"{text}\n"


@pytest.mark.parametrize("how", WAYS)
def test_a_worker_killed_over_tls_loses_nothing(project: Path, ours: Path, how: str) -> None:
    for_master, for_worker = ways(how, ours)
    inputs = ["1", "poison", "2"]
    with serving("app:kill_self", *inputs, *for_master, cwd=project, env=ENV) as (master, port):
        dq("worker", "--server", f"127.0.0.1:{port}", *for_worker, cwd=project, env=ENV)
        assert master.wait() == 1
        assert master.stdout_text.split() == ["1", "2"]
        assert "WorkerDied" in master.stderr_text


@pytest.mark.sampled(6)
@pytest.mark.parametrize("direction", ["up", "down"])
@pytest.mark.parametrize("nbytes", [0, 100, 300, 500, 800])
@pytest.mark.parametrize("how", WAYS)
def test_a_worker_whose_handshake_is_cut_off_tries_again(
    project: Path, ours: Path, how: str, nbytes: int, direction: Direction
) -> None:
    for_master, for_worker = ways(how, ours)
    with (
        serving("app:square", "3", *for_master, cwd=project, env=ENV) as (master, port),
        FaultProxy(("127.0.0.1", port)) as proxy,
    ):
        proxy.cut_after(nbytes, direction)
        where = f"127.0.0.1:{proxy.port}"
        worker = dq("worker", "--server", where, *for_worker, cwd=project, env=ENV)
        assert (worker.returncode, master.wait()) == (0, 0), worker.stderr
        assert master.stdout_text == "9\n"


# --- who is refused: each end says why, in one line


def refusal(
    project: Path, for_master: list[str], for_worker: list[str], host: str = "127.0.0.1"
) -> tuple[str, str]:
    """What worker and master say when the worker is refused."""
    with serving("app:square", "1", *for_master, cwd=project, env=ENV) as (master, port):
        where = f"{host}:{port}"
        worker = dq("worker", "--server", where, *for_worker, cwd=project, env={**ENV})
        assert worker.returncode == 3, worker.stderr
        said = master.wait_for(r"^dq: refused a connection from .*$").group()
    [line] = worker.stderr.splitlines()
    assert line.startswith("dq: ")
    return line, said


def test_a_worker_without_trust_in_the_masters_ca(project: Path, ours: Path, theirs: Path) -> None:
    worker, master = refusal(project, files(ours, "master"), files(ours, "worker", ca=theirs))
    assert f"is not signed by --tls-ca {theirs}/ca.pem" in worker
    assert "refuses this master's certificate" in master


def test_a_worker_with_a_certificate_of_another_ca(project: Path, ours: Path, theirs: Path) -> None:
    worker, master = refusal(project, files(ours, "master"), files(theirs, "worker", ca=ours))
    assert "refuses this end's certificate: it is not signed by the CA" in worker
    assert f"its certificate is not signed by --tls-ca {ours}/ca.pem" in master


def test_a_master_whose_certificate_has_expired(project: Path, ours: Path, expired: Path) -> None:
    worker, master = refusal(project, files(expired, "master"), files(ours, "worker"))
    assert "the certificate of the master at" in worker
    assert "has expired" in worker
    assert "refuses this master's certificate: it has expired" in master


def test_a_worker_whose_certificate_has_expired(project: Path, ours: Path, expired: Path) -> None:
    worker, master = refusal(project, files(ours, "master"), files(expired, "worker"))
    assert "refuses this end's certificate: it has expired" in worker
    assert "its certificate has expired" in master


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux answers on all of 127.0.0.0/8")
def test_a_master_under_a_name_that_is_not_in_its_certificate(project: Path, ours: Path) -> None:
    worker, master = refusal(project, files(ours, "master"), files(ours, "worker"), "127.0.0.2")
    assert "is for another name" in worker
    assert "refuses this master's certificate: it is for another name" in master


def test_a_workers_certificate_makes_no_master(project: Path, ours: Path) -> None:
    worker, master = refusal(project, files(ours, "worker"), files(ours, "worker"))
    assert "is not made for this end of a connection" in worker
    assert "refuses this master's certificate" in master


def test_a_plain_worker_where_certificates_are_wanted(project: Path, ours: Path) -> None:
    worker, master = refusal(project, files(ours, "master"), ["--tls", "off"])
    assert "takes TLS connections with certificates only; give --tls-cert" in worker
    assert "it does not use TLS, and this master accepts nothing else" in master


def test_a_worker_with_certificates_where_there_is_no_tls(project: Path, ours: Path) -> None:
    worker, master = refusal(project, ["--tls", "off"], files(ours, "worker"))
    assert "does not use TLS: it is a master without it, or no master" in worker
    assert "it wants TLS, which this master does not speak" in master


@needs_psk
def test_a_plain_worker_where_tls_from_the_key_is_required(project: Path) -> None:
    worker, master = refusal(project, ["--tls", "require"], ["--tls", "off"])
    assert "takes encrypted connections only: leave out --tls off" in worker
    assert "it does not use TLS, and this master accepts nothing else" in master


@needs_psk
def test_require_never_falls_back(project: Path) -> None:
    worker, master = refusal(project, ["--tls", "off"], ["--tls", "require"])
    assert "does not use TLS" in worker
    assert "it wants TLS, which this master does not speak" in master


@needs_psk
def test_another_key(project: Path) -> None:
    worker, master = refusal(project, [], ["--authkey", "another key of some length"])
    assert "has another authkey" in worker
    assert "it has another authkey" in master


@needs_psk
def test_a_worker_without_certificates_where_they_are_wanted(project: Path, ours: Path) -> None:
    worker, master = refusal(project, files(ours, "master"), [])
    assert "shows a certificate, not that it has the key; give --tls-cert" in worker
    assert "it shows no certificate" in master


@needs_psk
def test_a_worker_with_certificates_where_the_key_is_wanted(project: Path, ours: Path) -> None:
    worker, master = refusal(project, ["--tls", "psk"], files(ours, "worker"))
    assert "it may want TLS from the key" in worker
    assert "it wants TLS with certificates" in master


@needs_psk
def test_an_impostor_that_ignores_the_key_is_refused(ours: Path) -> None:
    # OpenSSL lets a client without a CA shake hands with it: the trap.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(ours / "master.pem", ours / "master.key")
    context.num_tickets = 0  # what a client leaves unread would reset the connection
    heard: list[bytes] = []

    def serve(listener: socket.socket) -> None:
        client, _ = listener.accept()
        with context.wrap_socket(client, server_side=True) as sock:
            heard.append(sock.recv(100))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        with pytest.raises(package.TlsError, match="not that it has the key"):
            dialing.connect(listener.getsockname(), KEY.encode(), tls=settings("auto"))
        thread.join(10)
    assert heard == [b""]  # the handshake was done, and the client said nothing


# --- plain and encrypted on one port

RECIPE = f"""
from multiprocessing.managers import BaseManager
class Queues(BaseManager): pass
Queues.register("get_task_queue")
Queues.register("get_result_queue")
import sys
queues = Queues(("127.0.0.1", int(sys.argv[1])), authkey={KEY.encode()!r})
queues.connect()
queues.get_task_queue().put(12)
print(queues.get_result_queue().get(timeout=30))
"""


@needs_psk
@pytest.mark.parametrize("executable", [sys.executable, *other_pythons()])
def test_plain_clients_share_the_port_with_encrypted_workers(
    project: Path, executable: str
) -> None:
    with serving("app:square", cwd=project, env=ENV) as (_, port):
        server = ("--server", f"127.0.0.1:{port}")
        with Running(*DQ, "worker", *server, "--tls", "require", cwd=project, env=ENV) as worker:
            worker.wait_for("connected to")
            done = run(executable, "-c", RECIPE, str(port))
        assert done.stdout == "144\n", done.stderr


@needs_psk
def test_encryption_is_the_default_where_both_ends_can() -> None:
    with serving_here() as address, recorded(address) as (via, heard):
        ServerConnection(via, KEY.encode(), tls=settings()).close()
        assert heard
        assert b"#CHALLENGE#" not in heard


@needs_psk
def test_a_worker_that_could_encrypt_works_for_a_plain_master(project: Path) -> None:
    with serving("app:square", "5", "--tls", "off", cwd=project, env=ENV) as (master, port):
        worker = dq("worker", "--server", f"127.0.0.1:{port}", cwd=project, env=ENV)
        assert worker.returncode == 0, worker.stderr
        assert master.wait() == 0
        assert "refused" not in master.stderr_text


@needs_psk
def test_a_worker_that_says_hello_late_is_still_encrypted() -> None:
    # A master that has waited for long enough answers in plain; the worker begins again.
    with serving_here() as address, FaultProxy(address) as proxy:
        proxy.delay(10, "up")
        healer = threading.Thread(
            target=lambda: (wait_until(lambda: proxy.passed["down"]), proxy.heal())
        )
        healer.start()
        with dialing.connect(proxy.address, KEY.encode(), tls=settings()) as channel:
            assert isinstance(channel.wire.sock, ssl.SSLSocket)
        healer.join(10)


def test_a_plain_client_is_told_what_a_tls_port_wants(ours: Path) -> None:
    class Queues(BaseManager):
        pass

    with serving_here(**master_files(ours)) as address:
        queues = Queues(address, authkey=KEY.encode())
        with pytest.raises(Exception, match="#TLS with certificates only"):
            queues.connect()


def test_a_run_on_one_machine_does_without(project: Path) -> None:
    code = "import sys, app, dq; print(dq.run(app.square, [3], workers=1), 'ssl' in sys.modules)"
    assert python(code, cwd=project).stdout == "[9] False\n"


# --- somebody in between


def test_on_a_plain_wire_a_relay_runs_its_code_in_the_master(tmp_path: Path) -> None:
    with serving_here(tls="off", pickle="any") as address, Relay(address, tmp_path / "x") as relay:
        with suppress(package.ConnectError):  # it may notice nothing
            ServerConnection(relay.address, KEY.encode()).close()
        wait_until((tmp_path / "x").exists)


@pytest.mark.parametrize("step", range(1, 6))
@pytest.mark.parametrize("how", WAYS)
def test_with_tls_a_relay_only_ends_the_connection(
    tmp_path: Path, ours: Path, how: str, step: int
) -> None:
    options = {**master_options(how, ours), "pickle": "any"}
    with serving_here(**options) as address, Relay(address, tmp_path / "x", step) as relay:
        with pytest.raises(package.DqError):
            keep_calling(relay.address, worker_tls(how, ours))
        assert relay.injected
        ServerConnection(address, KEY.encode(), tls=worker_tls(how, ours)).close()  # it serves on
        assert not (tmp_path / "x").exists()


def keep_calling(address: tuple[str, int], tls: Tls) -> None:
    connection = ServerConnection(address, KEY.encode(), tls=tls)
    for _ in range(20):
        connection.call("tasks", "qsize")


@needs_psk
def test_require_stops_who_makes_both_ends_speak_plain() -> None:
    # With auto somebody in between can answer in plain, and the client comes back in plain.
    with serving_here() as address, plain_answers(address) as via:
        dialing.connect(via, KEY.encode(), tls=settings("auto")).close()
        with pytest.raises(package.TlsError, match="does not use TLS"):
            dialing.connect(via, KEY.encode(), tls=settings("require"))


@contextmanager
def plain_answers(target: tuple[str, int]) -> Iterator[tuple[str, int]]:
    """An address that leads to `target` for who waits, and answers who begins in plain."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=talk, args=(client,), daemon=True).start()

    def talk(client: socket.socket) -> None:
        client.settimeout(0.5)
        with client, socket.create_connection(target) as server:
            try:
                if client.recv(1, socket.MSG_PEEK):
                    client.sendall(b"\0\0\0\x01x")
                    return
            except TimeoutError:
                pass
            while True:  # the handshake's messages take turns
                for source, sink in ((server, client), (client, server)):
                    source.settimeout(0.3)
                    try:
                        if not (data := source.recv(1 << 16)):
                            return
                        sink.sendall(data)
                    except TimeoutError:
                        continue

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield listener.getsockname()
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(10)


# --- strangers


@pytest.mark.slow
@pytest.mark.parametrize("how", WAYS)
def test_a_stranger_who_stops_half_way_is_ended(ours: Path, how: str) -> None:
    master = serving_here(**master_options(how, ours))
    with master as address, socket.create_connection(address) as stranger:
        stranger.settimeout(limits.HANDSHAKE_TIMEOUT_S + 10)
        stranger.sendall(b"\x16\x03\x01\x02\x00\x01\x00")  # a hello, but not the whole
        assert stranger.recv(100) == b""


@pytest.mark.parametrize("how", WAYS)
def test_who_stops_within_a_message_is_ended(
    ours: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "STALL_TIMEOUT_S", 0.2)
    with (
        serving_here(**master_options(how, ours)) as address,
        dialing.connect(address, KEY.encode(), tls=worker_tls(how, ours)) as channel,
    ):
        channel.send((None, "accept_connection", ("x",), {}))
        channel.recv()
        channel.wire.sock.sendall(struct.pack("!i", 2**26) + b"x" * 500)
        assert channel.poll(10)
        with pytest.raises((EOFError, OSError)):
            channel.recv()


@pytest.mark.parametrize("how", WAYS)
def test_silent_strangers_keep_nobody_out(ours: Path, how: str) -> None:
    with serving_here(**master_options(how, ours)) as address:
        strangers = [socket.create_connection(address) for _ in range(150)]
        for stranger in strangers[::2]:
            stranger.sendall(b"\x16\x03\x01")
        ServerConnection(address, KEY.encode(), tls=worker_tls(how, ours)).close()
        for stranger in strangers:
            stranger.close()


# --- what people give


@pytest.mark.parametrize("command", ["master", "worker"])
def test_certificates_go_together(command: str, ours: Path) -> None:
    done = dq(command, "--tls-cert", ours / "master.pem", env=ENV)
    assert done.returncode == 2
    assert "go together; give --tls-key and --tls-ca too" in done.stderr


@pytest.mark.parametrize("mode", ["psk", "off"])
def test_certificates_contradict_a_mode_without(mode: str, ours: Path) -> None:
    done = dq("worker", "--tls", mode, *files(ours, "worker"), env=ENV)
    assert done.returncode == 2
    assert f"--tls {mode} uses no certificates" in done.stderr


def test_a_private_key_that_others_can_read_is_refused(tmp_path: Path, ours: Path) -> None:
    key = tmp_path / "open.key"
    key.write_bytes((ours / "worker.key").read_bytes())
    key.chmod(0o644)
    options = [*files(ours, "worker"), "--tls-key", os.fspath(key)]
    done = dq("worker", *options, env=ENV)
    assert done.returncode == 2
    assert f"others can read or change --tls-key {key}" in done.stderr


@pytest.mark.parametrize("option", ["--tls-cert", "--tls-key", "--tls-ca"])
@pytest.mark.parametrize("content", [None, b"nonsense"])
def test_a_file_that_cannot_be_used_is_named(
    tmp_path: Path, ours: Path, option: str, content: bytes | None
) -> None:
    bad = tmp_path / "bad.pem"
    if content is not None:
        bad.write_bytes(content)
        bad.chmod(0o600)
    done = dq("worker", *files(ours, "worker"), option, bad, env=ENV)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert f"{option} {bad}" in done.stderr


def test_a_key_of_another_certificate_is_refused(ours: Path) -> None:
    done = dq("worker", *files(ours, "worker"), "--tls-key", ours / "master.key", env=ENV)
    assert done.returncode == 2
    assert "the key is not the certificate's" in done.stderr


@pytest.mark.skipif(can_psk(), reason="this Python can")
def test_a_python_that_cannot_make_tls_from_the_key_says_so() -> None:
    done = dq("worker", "--tls", "require", env=ENV)
    assert done.returncode == 2
    assert "needs Python 3.13 or newer on master and workers" in done.stderr
    assert f"this is {sys.version_info[0]}.{sys.version_info[1]}" in done.stderr
    assert "certificates work with any Python: `dq keygen --tls DIR` makes them" in done.stderr
    assert "for --tls-cert, --tls-key and --tls-ca" in done.stderr


# --- dq keygen --tls


def test_keygen_shows_the_two_commands_that_work(project: Path) -> None:
    made = dq("keygen", "--tls", "my certs", "--host", "localhost", cwd=project)
    master, worker = made.stdout.splitlines()
    assert master.startswith("dq master --tls-cert 'my certs'/master.pem")
    assert worker.startswith("dq worker --server localhost --tls-cert 'my certs'/worker.pem")
    shell = f"{sys.executable} -m {{}}"
    run_master = shell.format(master + " app:square 3 --port 0")
    with Running("sh", "-c", f"exec {run_master}", cwd=project, env=ENV) as running:
        port = running.wait_for(r"^dq: serving on \S+:(\d+)")[1]
        command = worker.replace("--server localhost", f"--server localhost:{port}")
        done = run("sh", "-c", shell.format(command), cwd=project, env=ENV)
        assert (done.returncode, running.wait()) == (0, 0), done.stderr
        assert running.stdout_text == "9\n"


def test_keygen_keeps_what_is_private_to_its_owner(tmp_path: Path) -> None:
    folder = tmp_path / "tls"
    assert dq("keygen", "--tls", folder).returncode == 0
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    assert sorted(path.name for path in folder.iterdir()) == sorted(certs.FILES)


def test_keygen_replaces_certificates_only_when_told_to(tmp_path: Path) -> None:
    folder = tmp_path / "tls"
    dq("keygen", "--tls", folder)
    before = (folder / "ca.pem").read_bytes()
    refused = dq("keygen", "--tls", folder)
    assert refused.returncode == 2
    assert "is there already: --force replaces all" in refused.stderr
    assert (folder / "ca.pem").read_bytes() == before
    assert dq("keygen", "--tls", folder, "--force").returncode == 0
    assert (folder / "ca.pem").read_bytes() != before


def test_keygen_refuses_a_host_that_is_none(tmp_path: Path) -> None:
    done = dq("keygen", "--tls", tmp_path / "tls", "--host", "a,b")
    assert done.returncode == 2
    assert "neither a host's name nor an address" in done.stderr


def test_keygen_without_openssl_says_what_it_needs(tmp_path: Path) -> None:
    code = (
        "import sys; from dq.cli import main;"
        f"sys.argv[1:] = ['keygen', '--tls', {os.fspath(tmp_path / 'tls')!r}]; main()"
    )
    done = python(code, env={"PATH": os.fspath(tmp_path)})
    assert done.returncode == 2
    assert "certificates need the program openssl" in done.stderr
    assert not (tmp_path / "tls").exists()


def test_a_unix_socket_needs_none() -> None:
    assert settings("off") == PLAIN
