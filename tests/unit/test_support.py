"""The tests' own tools: a fault that is not injected proves nothing."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import (
    FaultProxy,
    Running,
    alive,
    can_make_hosts,
    can_unshare,
    descendants,
    environment,
    fds,
    in_namespace,
    other_pythons,
    python,
    recipe,
    rss,
    run,
    script,
    threads,
    two_hosts,
    wait_until,
)
from support.procfs import HAS_PROC

PY = sys.executable
needs_proc = pytest.mark.skipif(not HAS_PROC, reason="there is no /proc here")


# -- the proxy


class Echo:
    """Sends back what it gets; remembers each connection, what came on it and how it ended."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = self.listener.getsockname()
        self.connections: list[socket.socket] = []
        self.got: list[bytearray] = []
        self.ended: dict[int, str] = {}
        self.threads = [threading.Thread(target=self.accept)]
        self.threads[0].start()

    def accept(self) -> None:
        while True:
            try:
                conn, _ = self.listener.accept()
            except OSError:
                return
            self.got.append(bytearray())
            self.connections.append(conn)
            self.threads.append(threading.Thread(target=self.serve, args=(len(self.got) - 1,)))
            self.threads[-1].start()

    def serve(self, number: int) -> None:
        conn = self.connections[number]
        try:
            while data := conn.recv(1 << 16):
                self.got[number] += data
                conn.sendall(data)
            self.ended[number] = "end"
        except OSError as error:
            self.ended[number] = type(error).__name__
        conn.close()

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        for conn in self.connections:
            try:
                conn.shutdown(socket.SHUT_RDWR)
            except OSError:  # over already
                pass
        for thread in self.threads:
            thread.join(10)
        self.listener.close()


@pytest.fixture
def echo() -> Iterator[Echo]:
    server = Echo()
    yield server
    server.close()


@pytest.fixture
def proxy(echo: Echo) -> Iterator[FaultProxy]:
    with FaultProxy(echo.address) as proxy:
        yield proxy


@pytest.fixture
def client(proxy: FaultProxy) -> Iterator[socket.socket]:
    with socket.create_connection(proxy.address, timeout=20) as sock:
        yield sock


def read(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size and (more := sock.recv(size - len(data))):
        data += more
    return data


def read_all(sock: socket.socket) -> bytes:
    return read(sock, 1 << 30)


def answers(sock: socket.socket, text: bytes = b"hello") -> bool:
    sock.sendall(text)
    return read(sock, len(text)) == text


def silent(sock: socket.socket, seconds: float = 0.1) -> bool:
    return not select.select([sock], [], [], seconds)[0]


def test_bytes_pass_unchanged_and_are_counted(proxy: FaultProxy, client: socket.socket) -> None:
    data = os.urandom(3_000_000)
    sender = threading.Thread(target=client.sendall, args=(data,))
    sender.start()
    assert read(client, len(data)) == data
    sender.join()
    assert proxy.passed == {"up": len(data), "down": len(data)}
    assert (proxy.connections, proxy.open_connections) == (1, 1)


def test_the_end_of_one_side_reaches_the_other(
    proxy: FaultProxy, client: socket.socket, echo: Echo
) -> None:
    client.sendall(b"last words")
    client.shutdown(socket.SHUT_WR)
    assert read_all(client) == b"last words"
    assert echo.ended == {0: "end"}
    wait_until(lambda: proxy.open_connections == 0)


@pytest.mark.parametrize("direction", ["up", "down", None])
def test_delay_holds_each_byte_back(proxy: FaultProxy, client: socket.socket, direction) -> None:
    proxy.delay(0.2, direction)
    start = time.monotonic()
    assert answers(client)
    assert time.monotonic() - start >= (0.4 if direction is None else 0.2)


def test_delay_keeps_the_bandwidth(proxy: FaultProxy, client: socket.socket) -> None:
    proxy.delay(0.3)
    chunk, times = bytes(10_000), 200  # one after the other these would take two minutes
    start = time.monotonic()
    for _ in range(times):
        client.sendall(chunk)
    assert len(read(client, len(chunk) * times)) == len(chunk) * times
    assert 0.6 <= time.monotonic() - start < 10


def test_limit_bounds_the_rate_and_is_lifted(proxy: FaultProxy, client: socket.socket) -> None:
    proxy.limit(100_000, "up")
    start = time.monotonic()
    assert answers(client, bytes(30_000))
    assert time.monotonic() - start >= 0.25
    proxy.limit(None)
    start = time.monotonic()
    assert answers(client, bytes(1_000_000))
    assert time.monotonic() - start < 8


def test_limit_is_shared_in_turns(proxy: FaultProxy, client: socket.socket, echo: Echo) -> None:
    proxy.limit(200_000, "up")
    with socket.create_connection(proxy.address, timeout=20) as other:
        for sock in (client, other):
            sock.sendall(bytes(40_000))
        wait_until(lambda: sum(map(len, echo.got)) >= 40_000)
        assert min(map(len, echo.got)) > 5_000
        assert len(read(client, 40_000)) == len(read(other, 40_000)) == 40_000


def test_limit_does_not_buffer_what_it_holds_up(proxy: FaultProxy, client: socket.socket) -> None:
    proxy.limit(1000, "up")
    client.settimeout(0.5)
    with pytest.raises(TimeoutError):
        client.sendall(bytes(50_000_000))


@pytest.mark.parametrize("size", [1, 7, 70_000])
def test_cut_after_lets_exactly_so_many_bytes_up(
    proxy: FaultProxy, client: socket.socket, echo: Echo, size: int
) -> None:
    proxy.cut_after(size, "up")
    proxy.drop("down")  # the echo would be in the way
    client.sendall(bytes(100_000))
    assert client.recv(1) == b""
    wait_until(lambda: echo.ended)
    assert (len(echo.got[0]), proxy.passed["up"]) == (size, size)


@pytest.mark.parametrize("size", [0, 1, 7, 70_000])
def test_cut_after_lets_exactly_so_many_bytes_down(
    proxy: FaultProxy, client: socket.socket, echo: Echo, size: int
) -> None:
    proxy.cut_after(size, "down")
    client.sendall(bytes(100_000))
    assert len(read_all(client)) == size
    wait_until(lambda: echo.ended)


def test_a_cut_with_zero_waits_for_the_answer(
    proxy: FaultProxy, client: socket.socket, echo: Echo
) -> None:
    proxy.cut_after(0, "down")
    assert silent(client)
    client.sendall(b"request")
    assert read_all(client) == b""
    assert echo.got == [b"request"]


def test_a_cut_is_made_once(proxy: FaultProxy, client: socket.socket) -> None:
    proxy.cut_after(3, "down")
    client.sendall(b"hello")
    assert read_all(client) == b"hel"
    with socket.create_connection(proxy.address, timeout=20) as again:
        assert answers(again)


def test_drop_up_swallows_what_the_client_sends_and_its_end(
    proxy: FaultProxy, client: socket.socket, echo: Echo
) -> None:
    proxy.drop("up")
    client.sendall(b"lost")
    client.shutdown(socket.SHUT_WR)
    wait_until(lambda: proxy.dropped["up"] == 4)
    assert silent(client)
    assert (echo.got, echo.ended) == ([b""], {})
    proxy.drop("up", on=False)
    assert read_all(client) == b""  # the end is not lost for ever, as with a retransmission
    assert echo.ended == {0: "end"}


def test_drop_down_swallows_the_answers(
    proxy: FaultProxy, client: socket.socket, echo: Echo
) -> None:
    proxy.drop("down")
    client.sendall(b"lost")
    wait_until(lambda: proxy.dropped == {"up": 0, "down": 4})
    assert echo.got == [b"lost"]
    proxy.drop("down", on=False)
    assert answers(client)


def test_drop_hides_a_reset(proxy: FaultProxy, client: socket.socket, echo: Echo) -> None:
    assert answers(client)
    proxy.drop()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    client.close()
    assert silent(echo.connections[0])
    assert echo.ended == {}


def test_freeze_stops_all_and_thaw_goes_on(
    proxy: FaultProxy, client: socket.socket, echo: Echo
) -> None:
    assert answers(client)
    proxy.freeze()
    client.sendall(b"later")
    with socket.create_connection(proxy.address, timeout=20) as waiting:
        waiting.sendall(b"me too")
        assert silent(client)
        assert (proxy.connections, echo.got) == (1, [b"hello"])
        proxy.thaw()
        assert read(client, 5) == b"later"
        assert read(waiting, 6) == b"me too"


def test_a_frozen_proxy_costs_no_time(proxy: FaultProxy, client: socket.socket) -> None:
    proxy.freeze()
    client.sendall(b"later")
    before = time.process_time()
    assert silent(client, 0.5)
    assert time.process_time() - before < 0.3


def test_a_frozen_proxy_makes_the_sender_wait(proxy: FaultProxy, client: socket.socket) -> None:
    proxy.freeze()
    client.settimeout(0.5)
    with pytest.raises(TimeoutError):
        client.sendall(bytes(50_000_000))


def test_reset_is_felt_on_both_sides(proxy: FaultProxy, client: socket.socket, echo: Echo) -> None:
    assert answers(client)
    proxy.reset()
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    wait_until(lambda: echo.ended == {0: "ConnectionResetError"})
    assert proxy.open_connections == 0


def test_refuse_and_accept(proxy: FaultProxy, client: socket.socket) -> None:
    proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(proxy.address, timeout=20)
    assert answers(client)  # those who are in stay in
    proxy.accept()
    with socket.create_connection(proxy.address, timeout=20) as again:
        assert answers(again)


def test_duplicate_connects_puts_a_silent_one_ahead(proxy: FaultProxy, echo: Echo) -> None:
    proxy.duplicate_connects()
    with socket.create_connection(proxy.address, timeout=20) as client:
        assert answers(client)
        wait_until(lambda: len(echo.got) == 2)
        assert sorted(echo.got) == [b"", b"hello"]
        assert echo.ended == {}
    wait_until(lambda: echo.ended == {0: "end", 1: "end"})


def test_a_target_that_refuses_resets_the_client(proxy: FaultProxy) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        proxy.target = nobody.getsockname()
        with (
            pytest.raises(ConnectionResetError),
            socket.create_connection(proxy.address, timeout=20) as client,
        ):
            client.recv(1)


def test_heal_takes_back_every_fault(proxy: FaultProxy, client: socket.socket) -> None:
    proxy.delay(60)
    proxy.limit(1)
    proxy.drop()
    proxy.cut_after(1, "down")
    proxy.refuse()
    proxy.freeze()
    proxy.heal()
    assert answers(client)
    with socket.create_connection(proxy.address, timeout=20) as other:
        assert answers(other)


def test_a_slow_client_holds_up_nobody(proxy: FaultProxy, client: socket.socket) -> None:
    client.setblocking(False)
    while select.select([], [client], [], 0.3)[1]:
        client.send(bytes(1 << 20))  # and it reads none of the answers
    with socket.create_connection(proxy.address, timeout=20) as other:
        assert answers(other)


def test_an_unknown_direction_or_limit_is_refused(proxy: FaultProxy) -> None:
    with pytest.raises(ValueError, match="'sideways'"):
        proxy.drop("sideways")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="positive"):
        proxy.limit(0)


def test_closing_the_proxy_ends_its_connections_and_thread(echo: Echo) -> None:
    with FaultProxy(echo.address) as proxy:
        client = socket.create_connection(proxy.address, timeout=20)
        assert answers(client)
    with client:
        assert client.recv(1) == b""
    assert "fault proxy" not in [thread.name for thread in threading.enumerate()]
    proxy.close()  # once more is no error


# -- waiting and running


def test_wait_until_returns_what_came() -> None:
    values = iter([0, "", None, "there"])
    assert wait_until(lambda: next(values)) == "there"


def test_wait_until_says_what_did_not_come() -> None:
    with pytest.raises(AssertionError, match=r"not within 0.05 s: the thing, seen 1"):
        wait_until(lambda: False, 0.05, message=lambda: f"the thing, seen {1}")


def test_run_gives_code_and_output() -> None:
    done = python("import sys; print(input().upper()); sys.exit('no')", input="é\n")
    assert (done.returncode, done.stdout, done.stderr) == (1, "É\n", "no\n")


def test_run_has_an_empty_standard_input() -> None:
    assert python("import sys; print(repr(sys.stdin.read()))").stdout == "''\n"


def test_run_ends_what_takes_too_long() -> None:
    forks = "import os, time; os.write(1, b'up'); os.fork(); time.sleep(99)"
    with pytest.raises(AssertionError, match=r"still running after 2 s(.|\n)*stdout\nup"):
        python(forks, timeout=2)


def test_script_runs_a_file(tmp_path: Path) -> None:
    (tmp_path / "hello.py").write_text("import sys; print('hello', *sys.argv[1:])")
    assert script("hello.py", "you", cwd=tmp_path).stdout == "hello you\n"


def test_the_developers_own_settings_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DQ_AUTHKEY", "mine")
    monkeypatch.setenv("PYTHONPATH", "relative")
    env = environment({"DQ_WORKER_PROCESSES": "3", "HOME": None})
    assert "DQ_AUTHKEY" not in env
    assert "HOME" not in env
    assert env["DQ_WORKER_PROCESSES"] == "3"
    assert os.listdir(env["XDG_CONFIG_HOME"]) == []
    assert os.path.isabs(env["PYTHONPATH"])


def test_running_waits_for_what_is_printed() -> None:
    code = "import sys; print('port', 8 * 10, file=sys.stderr); print('out'); sys.exit(3)"
    with Running(PY, "-c", code) as it:
        assert it.wait_for(r"^port (\d+)$")[1] == "80"
        assert it.wait() == 3
        assert (it.stdout_text, it.stderr_text) == ("out\n", "port 80\n")


def test_running_waits_until_a_line_is_whole() -> None:
    code = "print('answer', end=' ', flush=True); print(input(), end='')"
    with Running(PY, "-uc", code, stdin=subprocess.PIPE) as it:
        wait_until(lambda: it.stdout_text)
        with pytest.raises(AssertionError, match=r"0\.1 s went by without 'answer\.\*'"):
            it.wait_for("answer.*", timeout=0.1, stream="stdout")
        it.write("42\n")
        assert it.wait_for("answer.*", stream="stdout")[0] == "answer 42"  # its end ends a line too
        assert it.wait() == 0


def test_running_says_what_was_printed_instead() -> None:
    with (
        Running(PY, "-c", "print('something else')") as it,
        pytest.raises(AssertionError, match=r"ended without 'port'(.|\n)*something else"),
    ):
        it.wait_for("port", stream="stdout")


def test_running_gives_up_waiting() -> None:
    with Running(PY, "-c", "import time; print('up', flush=True); time.sleep(99)") as it:
        it.wait_for("up", stream="stdout")
        with pytest.raises(AssertionError, match=r"0.1 s went by without 'never'"):
            it.wait_for("never", timeout=0.1)
        with pytest.raises(AssertionError, match=r"still running after 0.1 s"):
            it.wait(timeout=0.1)


def test_running_passes_signals_on() -> None:
    with Running(PY, "-c", "import time; print('up', flush=True); time.sleep(99)") as it:
        it.wait_for("up", stream="stdout")
        it.send_signal(signal.SIGTERM)
        assert it.wait() == -signal.SIGTERM


FAMILY = """
import subprocess, sys, time
nap = [sys.executable, "-c", "import time; time.sleep(99)"]
quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
pids = [subprocess.Popen(nap, start_new_session=new, **quiet).pid for new in (False, True)]
print("up", *pids, flush=True)
time.sleep(99)
"""


@needs_proc
def test_running_leaves_nothing_behind() -> None:
    with Running(PY, "-c", FAMILY) as it:
        _, *pids = it.wait_for("up .*\n", stream="stdout").group().split()
        assert {*map(int, pids)} == {*descendants(it.pid)}
    assert not any(alive(int(pid)) for pid in [*pids, it.pid])


@needs_proc
def test_kill_group_spares_other_sessions() -> None:
    with Running(PY, "-c", FAMILY) as it:
        _, same, other = it.wait_for("up .*\n", stream="stdout").group().split()
        it.kill_group()
        assert it.wait() == -signal.SIGKILL
        wait_until(lambda: not alive(int(same)))
        assert alive(int(other))
        os.kill(int(other), signal.SIGKILL)


# -- looking at processes


@needs_proc
def test_what_proc_says() -> None:
    me = os.getpid()
    fds_before, threads_before = fds(me), threads(me)
    hold = threading.Event()
    thread = threading.Thread(target=hold.wait)
    thread.start()
    with open(os.devnull):
        assert fds(me) == fds_before + 1
        assert threads(me) == threads_before + 1
    hold.set()
    thread.join()
    assert 5 << 20 < rss(me) < 5 << 30


@needs_proc
def test_a_process_that_nobody_waited_for_is_not_alive() -> None:
    with subprocess.Popen([PY, "-c", ""]) as process:
        wait_until(lambda: not alive(process.pid))
        assert process.pid not in descendants(os.getpid())
        os.kill(process.pid, 0)  # its id is still taken


@needs_proc
def test_a_test_that_leaves_a_process_behind_fails(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        "import conftest, subprocess, sys\n"
        "conftest.GRACE = 0.2\n"
        "def test_orphan():\n"
        f"    subprocess.run([sys.executable, '-c', {ORPHAN!r}], check=True)\n"
        "def test_innocent():\n"
        "    pass\n"
    )
    said = said_by_pytest(tmp_path)
    assert "2 passed, 1 error" in said
    assert "ERROR test_it.py::test_orphan - Failed: left running 0.2 s" in said


def said_by_pytest(folder: Path, *options: str) -> str:
    """What pytest says with our `conftest.py` of a folder's `test_it.py`."""
    ours = str(Path(__file__).parents[1])
    path = os.pathsep.join([ours, *filter(None, [os.environ.get("PYTHONPATH")])])
    command = "-m pytest -p conftest -p no:cacheprovider -p no:randomly -c /dev/null --rootdir ."
    argv = (*command.split(), *options, "test_it.py")
    return run(PY, *argv, cwd=folder, env={"PYTHONPATH": path}).stdout


ORPHAN = """
import subprocess, sys
nap = [sys.executable, "-c", "import time; time.sleep(99)"]
quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
subprocess.Popen(nap, start_new_session=True, **quiet)
"""


def test_a_teardown_that_waits_for_ever_after_a_failure_is_ended(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        "import pytest, threading\n"
        "@pytest.fixture\n"
        "def endless():\n"
        "    yield\n"
        "    threading.Event().wait()\n"
        "def test_failing(endless):\n"
        "    raise LookupError\n"
    )
    said = said_by_pytest(tmp_path, "--timeout", "1", "--timeout-method", "signal")
    assert "1 failed, 1 error" in said


# -- where we are


def test_other_pythons_are_other_versions() -> None:
    ask = "import sys; print(*sys.version_info[:2])"
    versions = [run(path, "-c", ask).stdout for path in (PY, *other_pythons())]
    assert len({*versions}) == len(versions)


def test_the_recipe_is_where_it_is_said_to_be(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DQ_RECIPE", str(tmp_path))
    assert recipe() is None
    for name in ("task_master.py", "task_worker.py"):
        (tmp_path / name).touch()
    assert recipe() == tmp_path


def test_a_namespace_has_every_port_free_and_a_loopback() -> None:
    if reason := can_unshare():
        pytest.skip(reason)
    serve = "import socket; s = socket.create_server(('', 5000))"
    connect = f"{serve}; socket.create_connection(('127.0.0.1', 5000)); print('ok')"
    done = in_namespace(f'{PY} -c "{connect}"')
    assert (done.returncode, done.stdout) == (0, "ok\n"), done.stderr


def test_two_hosts_can_be_parted_and_joined_again() -> None:
    if reason := can_make_hosts():
        pytest.skip(reason)
    with two_hosts() as hosts, hosts.b.running(PY, "-c", UDP_ECHO) as server:
        server.wait_for("up", stream="stdout")

        def ask(patience: float = 10) -> str:
            return hosts.a.run(PY, "-c", UDP_ASK, hosts.b.address, str(patience)).stdout.strip()

        assert ask() == "answered"
        hosts.partition()
        assert ask(0.3) == "silence"
        hosts.heal()
        hosts.partition("a to b")
        assert ask(0.3) == "silence"
        hosts.heal()
        assert ask() == "answered"
        wait_until(lambda: server.stdout_text.count("heard") == 2)
        hosts.partition("b to a")
        assert ask(0.3) == "silence"
        wait_until(lambda: server.stdout_text.count("heard") == 3)
        hosts.heal()
        hosts.unplug()
        hosts.heal()
        assert ask() == "answered"
    names = run("ip", "netns", "list").stdout
    assert hosts.a.name not in names
    assert hosts.b.name not in names


UDP_ECHO = """
import socket
sock = socket.socket(type=socket.SOCK_DGRAM)
sock.bind(("", 9999))
print("up", flush=True)
while True:
    data, peer = sock.recvfrom(99)
    print("heard", flush=True)
    sock.sendto(data, peer)
"""

UDP_ASK = """
import socket, sys
sock = socket.socket(type=socket.SOCK_DGRAM)
sock.settimeout(float(sys.argv[2]))
sock.sendto(b"?", (sys.argv[1], 9999))
try:
    sock.recv(99)
    print("answered")
except TimeoutError:
    print("silence")
"""


# -- the project fixture


def test_project_has_an_app(project: Path) -> None:
    code = "import app, asyncio; print(app.square(4), asyncio.run(app.async_double(4)))"
    assert python(code, cwd=project).stdout == "16 8\n"


def test_the_apps_log_names_who_ran_what(project: Path) -> None:
    code = "import app, os; print(app.log('x'), os.getpid())"
    done = python(code, cwd=project, env={"DQ_TEST_LOG": "ran.txt"})
    assert (project / "ran.txt").read_text() == done.stdout
