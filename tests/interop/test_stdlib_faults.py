"""What the standard library's managers do, and dq does not: the table in `docs/how-it-works.md`.

Each test fails where the cure beside the fault is taken out.
"""

from __future__ import annotations

import contextlib
import multiprocessing.connection as mpc
import multiprocessing.managers as mpm
import os
import signal
import socket
import stat
import statistics
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import dq
from dq.master import runtime
from dq.transport import dialing, limits
from interop.plain import (
    ENV,
    EVERY_PYTHON,
    KEY,
    QUEUES,
    Wire,
    master_here,
    plain,
    plain_running,
    pythons,
    unconnected,
)
from support import (
    DQ,
    ROOT,
    Running,
    descendants,
    python,
    run,
    serving,
    threads,
    wait_until,
)
from support.process import dq_with

METHODS = {
    "put",
    "put_nowait",
    "get",
    "get_nowait",
    "qsize",
    "empty",
    "full",
    "task_done",
    "join",
}

# "a client killed while blocked in get() swallows the next item"

ASK_AND_WAIT = """
    from multiprocessing.connection import Client
    conn = Client(("127.0.0.1", int(sys.argv[1])), authkey=sys.argv[2].encode())
    conn.send((None, "accept_connection", ("blocked",), {{}}))
    conn.recv()
    conn.send(({ask}, {{}}))
    say("asked")
    try:
        say("answer", conn.recv())
    except (EOFError, OSError):
        say("answer: none")
"""


@pytest.mark.sampled(2)
@pytest.mark.parametrize("queue", ["tasks", "results"])
@pytest.mark.parametrize("option", ["--redeliver", "--no-redeliver"])
def test_client_killed_while_blocked_in_get_swallows_nothing(queue: str, option: str) -> None:
    with serving(option, env=ENV) as (_, port):
        with plain_running(port, ASK_AND_WAIT.format(ask=f"{queue}._id, 'get', ()")) as blocked:
            blocked.wait_for("asked", stream="stdout")
            blocked.kill_group()
            blocked.wait()
        plain(port, f"{queue}.put('next')")
        assert plain(port, f"print({queue}.get(timeout=30))") == "next"


def test_item_for_a_killed_client_goes_to_the_next_in_line() -> None:
    with (
        serving("--no-redeliver", env=ENV) as (_, port),
        plain_running(port, ASK_AND_WAIT.format(ask="tasks._id, 'get', ()")) as blocked,
    ):
        blocked.wait_for("asked", stream="stdout")
        with plain_running(port, "say('here'); say(tasks.get())") as living:
            living.wait_for("here", stream="stdout")
            blocked.kill_group()
            blocked.wait()
            plain(port, "tasks.put('next')")
            living.wait_for("^next$", stream="stdout")


# "an interrupted proxy call leaves its reply in the pipe; the next call reads it"


def test_interrupted_call_of_dqs_client_cannot_leave_its_reply_to_the_next() -> None:
    code = f"""if True:
        import signal, sys
        from dq.manager.client import ServerConnection
        from dq.errors import ConnectError

        def interrupt(*_): raise KeyboardInterrupt
        signal.signal(signal.SIGALRM, interrupt)
        connection = ServerConnection(("127.0.0.1", int(sys.argv[1])), {KEY.encode()!r})
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        try:
            connection.call("tasks", "get", True, 60)
        except KeyboardInterrupt:
            print("interrupted")
        try:
            print(connection.call("tasks", "qsize"))
        except ConnectError:
            print("closed")
    """
    with master_here() as port:
        done = run(sys.executable, "-c", code, str(port))
    assert done.stdout.split() == ["interrupted", "closed"], done.stderr


# "proxies keep stale connections after a master restart"


def test_dq_worker_goes_on_after_a_restart_of_the_master(project: Path) -> None:
    with serving("app:square", cwd=project, env=ENV) as (first, port):
        server = ("-s", f"127.0.0.1:{port}", "-p", "1", "--reconnect", "30")
        with Running(*DQ, "worker", *server, cwd=project, env=ENV):
            assert plain(port, "tasks.put(2); print(results.get(timeout=30))") == "4"
            first.kill_group()
            first.wait()
            again = ("app:square", "--port", str(port))
            with serving(*again, cwd=project, env=ENV) as (_, same):
                assert same == port
                assert plain(port, "tasks.put(3); print(results.get(timeout=30))") == "9"


# "messages over 16,384 bytes take two writes: Nagle and delayed ACK cost 44 ms each"


def own_sockets(port: int) -> list[socket.socket]:
    """Copies of this process's connected sockets to and from a port."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            if stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                sock = socket.socket(fileno=os.dup(int(name)))
                found.append(sock)
        except OSError:  # the folder's own descriptor, or closed meanwhile
            continue
    for sock in found[:]:
        with contextlib.suppress(OSError, IndexError):
            if port in (sock.getsockname()[1], sock.getpeername()[1]):
                continue
        found.remove(sock)
        sock.close()
    return found


def nodelay(port: int) -> list[bool]:
    """Whether each of them sends at once."""
    sockets = own_sockets(port)
    try:
        return [bool(s.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)) for s in sockets]
    finally:
        for sock in sockets:
            sock.close()


linux_only = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc/self/fd")


@linux_only
def test_both_ends_of_a_connection_send_at_once() -> None:
    with master_here() as port:
        channel = dialing.connect(("127.0.0.1", port), KEY.encode())
        assert nodelay(port) == [True, True]
        channel.close()


@linux_only
def test_masters_end_sends_at_once_to_a_plain_client_too() -> None:
    with master_here() as port, Wire(port):
        wait_until(lambda: sorted(nodelay(port)) == [False, True], 10)


@linux_only
def test_client_sends_at_once_before_it_has_authenticated() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        port = mute.getsockname()[1]
        with ThreadPoolExecutor(1) as pool:
            dialled = pool.submit(dialing.dial, ("127.0.0.1", port), b"key", 1.0)
            wait_until(lambda: nodelay(port) == [True] or dialled.done(), 10)
            assert not dialled.done()
        assert isinstance(dialled.exception(), TimeoutError)


PLAIN_SERVER = """if True:
    import queue
    from multiprocessing.managers import BaseManager
    class Manager(BaseManager): pass
    Manager.register("get_task_queue", callable=queue.Queue)
    Manager.register("get_result_queue", callable=queue.Queue)
    server = Manager(("127.0.0.1", 0), authkey=b"abc").get_server()
    print("port", server.address[1], flush=True)
    server.serve_forever()
"""


def test_a_plain_masters_answers_of_16_to_64_kib_are_not_late_either() -> None:
    with Running(sys.executable, "-c", PLAIN_SERVER) as server:
        port = int(server.wait_for(r"^port (\d+)", stream="stdout")[1])
        client = dq.QueueManager(("127.0.0.1", port), authkey=b"abc")
        client.connect()
        tasks = client.get_task_queue()

        def seconds_of_a_get() -> float:
            tasks.put(b"x" * 30000)
            started = time.perf_counter()
            tasks.get()
            return time.perf_counter() - started

        # Where it waits: 0.04, each time. A machine that is busy is slow now and then.
        wait_until(lambda: statistics.median(seconds_of_a_get() for _ in range(9)) < 0.03)


# "no deadline anywhere in accept and auth: 300 silent peers, 300 threads"

#: A master that ends nobody for being slow to authenticate: it ends them for their number.
NO_DEADLINE = dq_with("dq.transport.limits.HANDSHAKE_TIMEOUT_S", 3600)


def silent_peers(port: int, count: int) -> list[socket.socket]:
    return [socket.create_connection(("127.0.0.1", port)) for _ in range(count)]


def ended(sock: socket.socket) -> bool:
    """Whether the other end has closed; reads the challenge away."""
    sock.setblocking(False)
    try:
        while sock.recv(4096):
            pass
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


def test_300_silent_peers_keep_nobody_out_and_cost_few_threads() -> None:
    with serving(env=ENV, dq=NO_DEADLINE) as (master, port):
        before = threads(master.pid)
        peers = silent_peers(port, 300)
        assert plain(port, "tasks.put(1); print(tasks.get())") == "1"
        wait_until(lambda: threads(master.pid) <= before + 64 + 2)
        for peer in peers:
            peer.close()


def test_the_oldest_strangers_make_room_for_the_newest() -> None:
    with serving(env=ENV, dq=NO_DEADLINE) as (_, port):
        peers = silent_peers(port, 100)
        wait_until(lambda: all(ended(peer) for peer in peers[:36]))
        assert plain(port, "print(tasks.qsize())") == "0"
        for peer in peers:
            peer.close()


@pytest.mark.slow
def test_a_silent_peer_is_let_go() -> None:
    with serving(env=ENV) as (master, port):
        before = threads(master.pid)
        [peer] = silent_peers(port, 1)
        wait_until(lambda: ended(peer), 20)
        wait_until(lambda: threads(master.pid) <= before, 10)
        peer.close()


@pytest.mark.slow
def test_a_peer_that_authenticates_and_says_no_more_is_let_go() -> None:
    with serving(env=ENV) as (_, port), mpc.Client(("127.0.0.1", port), authkey=KEY.encode()) as c:
        assert c.poll(20)
        with pytest.raises((EOFError, ConnectionError)):
            c.recv_bytes()


@pytest.mark.slow
def test_a_client_that_works_has_no_deadline() -> None:
    with master_here() as port:
        code = (
            f"say('here'); say(tasks.get(timeout=60)); time.sleep({limits.HANDSHAKE_TIMEOUT_S} + 1)"
        )
        with plain_running(port, code + "; say(tasks.qsize())") as client:
            client.wait_for("here", stream="stdout")
            plain(port, "tasks.put('late')")
            assert client.wait(30) == 0, client.printed
        assert client.stdout_text.split() == ["here", "late", "0"]


# "the accepter thread dies on 'can't start new thread', spins on EMFILE or a closed listener"

SERVE = f"""if True:
    import contextlib, logging, resource, sys, threading, time
    from dq import QueueManager
    logging.basicConfig(format="%(message)s")
    server = QueueManager(("127.0.0.1", 0), authkey={KEY.encode()!r}).get_server()
"""


def served_by(code: str) -> tuple[Running, int]:
    running = Running(sys.executable, "-c", SERVE + code)
    try:
        return running, int(running.wait_for(r"^port (\d+)", stream="stdout")[1])
    except BaseException:
        running.close()
        raise


def test_accepter_survives_a_want_of_descriptors_without_spinning() -> None:
    code = """
    resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
    print("port", server.address[1], flush=True)
    server.serve_forever()
    """
    running, port = served_by(code)
    with running, Wire(port) as connected:
        peers = silent_peers(port, 60)
        running.wait_for("cannot take a connection: .*Too many open files")
        assert connected.tasks("qsize") == 0
        said = running.stderr_text.count("cannot take")
        threading.Event().wait(0.5)  # not for something to happen: for how often it does
        assert running.stderr_text.count("cannot take") - said <= 11
        for peer in peers:
            peer.close()
        assert plain(port, "tasks.put(1); print(tasks.get())") == "1"


def test_accepter_survives_a_want_of_threads() -> None:
    code = """
    start, refused = threading.Thread.start, []
    def scarce(thread):
        if "handle_request" in repr(thread._target) and not refused:
            refused.append(thread)
            raise RuntimeError("can't start new thread")
        start(thread)
    threading.Thread.start = scarce
    print("port", server.address[1], flush=True)
    server.serve_forever()
    """
    running, port = served_by(code)
    with running:
        assert unconnected(port, "print(raised(connect))") in ("EOFError", "ConnectionResetError")
        running.wait_for("cannot serve a connection: can't start new thread")
        assert plain(port, "tasks.put(1); print(tasks.get())") == "1"


def test_accepter_ends_with_its_server() -> None:
    code = """
    server.start()
    print("port", server.address[1], flush=True)
    accepter = [t for t in threading.enumerate() if t.name == "dq-accepter"]
    server.close()
    for thread in accepter: thread.join(10)
    print(len(accepter), [t.is_alive() for t in accepter], flush=True)
    """
    running, _ = served_by(code)
    with running:
        running.wait_for(r"^1 \[False\]$", stream="stdout")
        assert running.wait() == 0, running.printed
        assert running.stderr_text == ""


# "a client's last request, while the listener is closed, waits for ever"


def test_who_is_still_connected_when_the_work_is_over_may_connect_once_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(runtime, "PLAIN_SHUTDOWN_TIMEOUT_S", 60.0)
    master = dq.Master(host="127.0.0.1", port=0, authkey=KEY)
    with master, Wire(int(master.address[1])) as wire:
        wire.tasks("put", 1)
        assert wire.tasks("get") == 1
        closing = threading.Thread(target=master.close)
        closing.start()
        wait_until(lambda: master.closed)
        closing.join(0.3)
        wire.ask("decref", "tasks")
        assert closing.is_alive()
        wire.conn.close()
        closing.join(30)
        assert not closing.is_alive()


# "stop_event makes pending calls return None unstored"


@pytest.mark.parametrize(
    ("before", "ask"),
    [
        ("", "tasks._id, 'get', ()"),
        ("", "results._id, 'get', ()"),
        ("tasks.put(1)", "tasks._id, 'put', (2,)"),
        ("tasks.put(1)", "tasks._id, 'join', ()"),
    ],
)
def test_stop_does_not_let_a_pending_call_return(before: str, ask: str) -> None:
    code = f"    {before}\n" + ASK_AND_WAIT.format(ask=ask)
    with serving("--maxsize", "1", env=ENV) as (master, port), plain_running(port, code) as client:
        client.wait_for("asked", stream="stdout")
        master.send_signal(signal.SIGTERM)
        assert master.wait() == 0, master.printed
        answer = client.wait_for("answer.*", stream="stdout")[0]
        assert answer in ("answer: none", "answer ('#ERROR', EOFError())")


def test_stop_does_not_answer_a_request_that_it_did_not_carry_out() -> None:
    with serving(env=ENV) as (master, port), Wire(port) as wire:
        wire.conn.send((wire.ids["get_task_queue"], "get", (), {}))
        wire.conn.send((wire.ids["get_result_queue"], "put", ("lost",), {}))
        master.send_signal(signal.SIGTERM)
        answers = []
        with contextlib.suppress(EOFError, OSError):
            while wire.conn.poll(30):
                answers.append(wire.conn.recv())
        assert ("#RETURN", None) not in answers
        assert master.wait() == 0, master.printed


# "an auth failure sends a traceback with server paths"


def test_failure_to_authenticate_says_nothing_more() -> None:
    with serving(env=ENV) as (master, port), mpc.Client(("127.0.0.1", port)) as conn:
        assert conn.recv_bytes().startswith(b"#CHALLENGE#")
        conn.send_bytes(b"no such digest")
        assert conn.recv_bytes() == b"#FAILURE#"
        with pytest.raises((EOFError, ConnectionError)):
            conn.recv_bytes()
        assert plain(port, "print(tasks.qsize())") == "0"
        assert "Traceback" not in master.stderr_text


def test_garbage_for_a_handshake_is_answered_with_nothing() -> None:
    with serving(env=ENV) as (master, port):
        with socket.create_connection(("127.0.0.1", port)) as sock:
            sock.sendall(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
            sock.settimeout(20)
            said = b""
            with contextlib.suppress(ConnectionError):
                while data := sock.recv(4096):
                    said += data
        assert len(said) < 100
        assert b"Traceback" not in said
        assert plain(port, "print(tasks.qsize())") == "0"
        assert "Traceback" not in master.stderr_text


# "any authenticated client can call shutdown, create, debug_info"


@pytest.mark.parametrize(
    ("method", "args"),
    [
        ("shutdown", ()),
        ("debug_info", ()),
        ("number_of_objects", ()),
        ("serve_forever", ()),
        ("close", ()),
        ("serve", (1,)),
        ("__init__", ()),
        ("create", ("no such type",)),
        ("create", ("dict",)),
        ("create", ("get_task_queue", 1)),
        ("create", ()),
    ],
)
def test_requests_to_the_server_that_are_not_served(method: str, args: tuple[object, ...]) -> None:
    with master_here() as port, Wire(port) as wire:
        wire.tasks("put", "kept")
        if args != ("get_task_queue", 1):
            with pytest.raises(Exception, match=r"(?s)(Attribute|Key|Type)Error"):
                wire.ask(method, *args)
        assert wire.tasks("get") == "kept"
        assert plain(port, "tasks.put(1); print(tasks.get())") == "1"


@pytest.mark.parametrize("ident", ["tasks", "results", "dq"])
def test_requests_to_the_queues_that_are_not_served(ident: str) -> None:
    methods = ["#GETVALUE", "__str__", "__repr__", "__class__", "__init__", "_q", "EXPOSED"]
    with master_here() as port, Wire(port) as wire:
        wire.tasks("put", "kept")
        for method in methods:
            wire.conn.send((ident, method, (), {}))
            kind, said = wire.conn.recv()
            assert kind == "#TRACEBACK", (method, said)
        assert wire.tasks("get") == "kept"


def test_request_that_is_none_harms_nobody() -> None:
    requests: list[object] = [None, 12, (), ("a",), (1, 2, 3, 4), ([], [], [], []), "text"]
    with serving(env=ENV) as (master, port):
        for request in requests:
            with Wire(port) as wire:
                wire.tasks("put", "kept")
                for conn in (wire.conn, wire.dial()):
                    conn.send(request)
                    assert conn.poll(10), request  # an answer or the end
                    conn.close()
            assert plain(port, "print(tasks.get(timeout=10))") == "kept", request
        assert "Traceback" not in master.stderr_text


def test_message_over_the_limit_is_refused_and_its_sender_told() -> None:
    with serving("--max-message", "200K", env=ENV) as (master, port), Wire(port) as wire:
        for size in (500_000, 5_000_000, 50_000_000):
            with pytest.raises(
                mpm.RemoteError, match=r"a message of 50+\d+ bytes; .* 204800 \(--max"
            ):
                wire.tasks("put", b"x" * size)
        wire.tasks("put", b"x" * 200_000)
        assert len(wire.tasks("get", True, 10)) == 200_000
        master.wait_for(
            r"^dq: refused a message of 5000.* from 127\.0\.0\.1; the limit .*--max-message"
        )
        # Once in a while: who has the key could fill the log otherwise, and memory with the notes.
        assert master.stderr_text.count("refused a message") == 1
        assert "Traceback" not in master.stderr_text


# "get_server() hard-codes Server (start() honours _Server)"


def test_get_server_serves_as_dq_does() -> None:
    manager = dq.QueueManager(("127.0.0.1", 0), authkey=KEY.encode())
    server = manager.get_server()
    server.start()
    try:
        with Wire(server.address[1]) as wire:
            with pytest.raises(Exception, match="'shutdown' is not served"):
                wire.ask("shutdown")
            wire.tasks("put", 1)
            assert wire.tasks("get") == 1
    finally:
        server.close()


# "lambdas registered as callables fail under spawn/forkserver"

START = """\
import multiprocessing, sys
from dq import QueueManager

if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    manager = QueueManager(("127.0.0.1", 0), authkey=b"abc", maxsize=1)
    manager.start()
    manager.get_task_queue().put(6)
    other = QueueManager(manager.address, authkey=b"abc")
    other.connect()
    print(other.get_task_queue().full(), other.get_task_queue().get(timeout=10))
    other.get_result_queue().put(36)
    print(manager.get_result_queue().get(timeout=10))
    manager.shutdown()
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_start_works_under_every_start_method(method: str, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(START)
    done = run(sys.executable, "-W", "error", program, method)
    assert (done.returncode, done.stdout) == (0, "True 6\n36\n"), done.stderr
    assert done.stderr == ""


@pytest.mark.parametrize("version", EVERY_PYTHON)
def test_start_works_under_every_python(version: str, tmp_path: Path) -> None:
    if version not in pythons():
        pytest.skip(f"there is no CPython {version} on this machine")
    program = tmp_path / "program.py"
    program.write_text(START)
    done = run(pythons()[version], program, "spawn", env={"PYTHONPATH": str(ROOT / "src")})
    assert (done.returncode, done.stdout) == (0, "True 6\n36\n"), done.stderr


# "create/decref race can drop a singleton's last reference"


def test_clients_that_lie_about_their_references_cannot_drop_the_queues() -> None:
    with master_here() as port, Wire(port) as wire:
        wire.tasks("put", "kept")
        for ident in ("tasks", "results", "dq"):
            for _ in range(5):
                wire.ask("decref", ident)
        assert wire.tasks("get") == "kept"
        assert plain(port, "tasks.put(1); print(tasks.get(), results.qsize())") == "1 0"


def test_clients_that_come_and_go_at_once_always_find_the_same_queues() -> None:
    come_and_go = """
        for _ in range(10):
            theirs, mine = connect()
            theirs.put(1)
            del theirs, mine
    """
    with master_here() as port:
        with plain_running(port, come_and_go) as first, plain_running(port, come_and_go) as second:
            assert (first.wait(), second.wait()) == (0, 0), first.printed + second.printed
        assert plain(port, "print(tasks.qsize())") == "20"


# "forked children inherit the listener and hold the port"

LISTENING = """
import os, socket, stat
def listening(_):
    found = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            if stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                with socket.socket(fileno=os.dup(int(name))) as sock:
                    found += sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        except OSError:
            pass
    return found
"""


@linux_only
def test_task_processes_do_not_inherit_the_listener(tmp_path: Path) -> None:
    (tmp_path / "jobs.py").write_text(LISTENING)
    with serving("jobs:listening", "1", "-w", "1", cwd=tmp_path, env=ENV) as (master, _):
        assert master.wait() == 0, master.printed
        assert master.stdout_text == "0\n"


@linux_only
def test_port_is_free_once_the_master_is_killed(project: Path) -> None:
    job = ("app:sleepy", "600", "-w", "1")
    with serving(*job, cwd=project, env=ENV) as (master, port):
        wait_until(lambda: descendants(master.pid), 30)
        os.kill(master.pid, signal.SIGKILL)
        master.wait()
        with socket.create_server(("", port)):
            pass


# "3.13's Queue exposes more methods than 3.8's"


@pytest.mark.parametrize("version", EVERY_PYTHON)
def test_the_same_methods_are_exposed_under_every_python(version: str) -> None:
    if version not in pythons():
        pytest.skip(f"there is no CPython {version} on this machine")
    env = {"PYTHONPATH": str(ROOT / "src")}
    code = SERVE + '    print("port", server.address[1], flush=True)\n    server.serve_forever()\n'
    with Running(pythons()[version], "-c", code, env=env) as server:
        port = int(server.wait_for(r"^port (\d+)", stream="stdout")[1])
        with Wire(port) as wire:
            exposed = [set(wire.ask("create", queue)[1]) for queue in QUEUES]
    assert exposed == [METHODS, METHODS]


# "IPv6 addresses fail on both sides"

ipv6_only = pytest.mark.skipif(
    not os.path.exists("/proc/net/if_inet6"), reason="there is no IPv6 on this machine"
)


@ipv6_only
def test_ipv6_serves_both_sides_of_queue_manager() -> None:
    code = """if True:
        from dq import QueueManager
        manager = QueueManager(("::1", 0), authkey=b"abc")
        manager.start()
        other = QueueManager(manager.address, authkey=b"abc")
        other.connect()
        other.get_task_queue().put(6)
        print(manager.address[0], manager.get_task_queue().get(timeout=10))
        manager.shutdown()
    """
    done = python(code)
    assert (done.returncode, done.stdout) == (0, "::1 6\n"), done.stderr


@ipv6_only
@pytest.mark.parametrize(("host", "server"), [("::1", "[::1]"), ("::", "[::1]"), ("::", "127.1")])
def test_ipv6_serves_master_and_worker(host: str, server: str, project: Path) -> None:
    job = ("app:square", "3", "--host", host)
    with serving(*job, cwd=project, env=ENV) as (master, port):
        where = ("-s", f"{server}:{port}", "-p", "1")
        with Running(*DQ, "worker", *where, cwd=project, env=ENV) as worker:
            assert master.wait() == 0, master.printed
            assert worker.wait() == 0, worker.printed
        assert master.stdout_text == "9\n"


@ipv6_only
@pytest.mark.parametrize("server", ["[::1]", "127.0.0.1"])
def test_without_a_host_both_families_are_served(server: str, project: Path) -> None:
    with Running(*DQ, "master", "app:square", "3", "--port", "0", cwd=project, env=ENV) as master:
        port = master.wait_for(r"^dq: serving on 0\.0\.0\.0:(\d+) and \[::\]:\1$")[1]
        where = ("-s", f"{server}:{port}", "-p", "1")
        with Running(*DQ, "worker", *where, cwd=project, env=ENV) as worker:
            assert master.wait() == 0, master.printed
            assert worker.wait() == 0, worker.printed
        assert master.stdout_text == "9\n"


@pytest.mark.parametrize("host", ["", "0.0.0.0"])
def test_a_plain_manager_connects_to_the_address_of_one_that_listens_everywhere(host: str) -> None:
    code = f"""if True:
        from multiprocessing.managers import BaseManager
        from dq import QueueManager
        class Plain(BaseManager): pass
        Plain.register("get_task_queue")
        with QueueManager(({host!r}, 0), authkey=b"abc") as manager:
            for address in (manager.address, ("127.0.0.1", manager.address[1])):
                plain = Plain(address, authkey=b"abc")
                plain.connect()
                plain.get_task_queue().put(6)
                print(manager.get_task_queue().get(timeout=10))
    """
    done = python(code)
    assert (done.returncode, done.stdout) == (0, "6\n6\n"), done.stderr


# "an empty authkey authenticates"


def test_master_refuses_an_empty_key() -> None:
    done = run(*DQ, "master", "--port", "0", "--authkey", "")
    assert (done.returncode, done.stdout) == (2, "")
    assert "empty" in done.stderr
    assert "Traceback" not in done.stderr


def test_queue_manager_refuses_an_empty_key() -> None:
    with pytest.raises(dq.BadKey, match="empty"):
        dq.QueueManager(("127.0.0.1", 0), authkey=b"")


def test_master_of_a_script_refuses_an_empty_key() -> None:
    with pytest.raises(dq.BadKey, match="empty"):
        dq.Master(port=0, authkey=b"")
