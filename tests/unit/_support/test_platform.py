"""What is particular to an operating system, with and without each of its features."""

from __future__ import annotations

import ast
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from dq._support import platform, quantities
from dq.security import keys

posix = pytest.mark.skipif(sys.platform == "win32", reason="pass_fds and rlimits are POSIX's")
linux = pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")


def python(code: str, *arguments: str, **options: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **options)  # type: ignore[call-overload,no-any-return]


def refuse(*_: object) -> int:
    raise OSError(1, "Operation not permitted")


# --- cells ---


@pytest.fixture(params=["as it is", "no memfd_create", "memfd_create forbidden"])
def cells(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[platform.Cells]:
    if request.param == "no memfd_create":
        monkeypatch.delattr(os, "memfd_create", raising=False)
    elif request.param == "memfd_create forbidden":
        monkeypatch.setattr(os, "memfd_create", refuse, raising=False)
    made = platform.shared_cells(5)
    yield made
    made.close()


def test_new_cells_are_zero(cells: platform.Cells) -> None:
    assert cells.view.tolist() == [0, 0, 0, 0, 0]


def test_a_cell_holds_64_bits(cells: platform.Cells) -> None:
    cells.view[4] = 2**64 - 1
    assert cells.view.tolist() == [0, 0, 0, 0, 2**64 - 1]


def test_the_memory_of_cells_is_all_there(cells: platform.Cells) -> None:
    assert os.fstat(cells.fd).st_size == 40


def test_the_file_of_cells_has_no_name(cells: platform.Cells) -> None:
    assert os.fstat(cells.fd).st_nlink == 0


def test_cells_are_not_inherited(cells: platform.Cells) -> None:
    assert not os.get_inheritable(cells.fd)


@posix
def test_a_child_writes_into_its_parents_cells(cells: platform.Cells) -> None:
    code = """if True:
        import sys
        from dq._support.platform import Cells
        cells = Cells.open(int(sys.argv[1]), 5)
        cells.view[3] = cells.view[0] + 1
    """
    cells.view[0] = 41
    with python(code, str(cells.fd), pass_fds=(cells.fd,)) as child:
        child.wait(30)
    assert cells.view[3] == 42


@posix
def test_a_child_does_not_pass_its_cells_on(cells: platform.Cells) -> None:
    inherited = os.dup(cells.fd)
    os.set_inheritable(inherited, True)
    opened = platform.Cells.open(inherited, 5)
    assert not os.get_inheritable(opened.fd)
    opened.close()


def test_closed_cells_give_their_descriptor_back() -> None:
    cells = platform.shared_cells(1)
    fd = cells.fd
    cells.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_closing_cells_twice_closes_no_one_elses_file(tmp_path: Path) -> None:
    cells = platform.shared_cells(1)
    cells.close()
    with open(tmp_path / "file", "w") as file:  # has the same descriptor as the cells had
        cells.close()
        file.write("still open")


@pytest.mark.parametrize("count", [0, -1])
def test_there_is_at_least_one_cell(count: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        platform.shared_cells(count)


def test_more_cells_than_the_parent_made_are_refused(cells: platform.Cells) -> None:
    with pytest.raises(ValueError, match="length"):
        platform.Cells.open(cells.fd, 6)


def test_cells_that_cannot_be_mapped_leave_no_descriptor_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    closed: list[int] = []
    monkeypatch.setattr(platform, "_memory_file", lambda length: 123456)
    monkeypatch.setattr(os, "close", closed.append)
    with pytest.raises(OSError, match="Bad file descriptor"):
        platform.shared_cells(1)
    assert closed == [123456]


# --- die_with_parent ---


@linux
def test_a_child_dies_with_its_parent() -> None:
    child = """if True:
        import os, sys, time
        from dq._support.platform import die_with_parent
        print(die_with_parent(int(sys.argv[1])), flush=True)
        time.sleep(60)
    """
    parent = f"""if True:
        import os, subprocess, sys
        subprocess.run([sys.executable, "-c", {child!r}, str(os.getpid())])
    """
    with python(parent) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "True\n"
        process.kill()
        # The child holds the other end of the pipe: its end is the child's.
        rest, _ = process.communicate(timeout=30)
    assert rest == ""


@linux
def test_a_child_whose_parent_has_gone_already_exits() -> None:
    code = (
        "from dq._support.platform import die_with_parent; die_with_parent(1 << 30); print('alive')"
    )
    with python(code) as child:
        printed, _ = child.communicate(timeout=30)
    assert (child.returncode, printed) == (1, "")


def test_only_linux_kills_with_the_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert platform.die_with_parent(os.getppid()) is False


@linux
def test_without_ctypes_nothing_dies_with_the_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ctypes", None)
    assert platform.die_with_parent(os.getppid()) is False


@linux
def test_a_platform_without_prctl_does_not_look_for_the_parent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(platform, "_set_parent_death_signal", lambda: False)
    assert platform.die_with_parent(1 << 30) is False


@linux
@pytest.mark.parametrize("prctl", [{}, {"prctl": lambda *_: -1}])
def test_a_prctl_missing_or_forbidden_kills_nothing(
    monkeypatch: pytest.MonkeyPatch, prctl: dict[str, object]
) -> None:
    import ctypes

    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace(**prctl))
    assert platform.die_with_parent(os.getppid()) is False


# --- keepalive ---


@pytest.fixture
def tcp() -> Iterator[socket.socket]:
    with socket.socket() as sock:
        yield sock


@pytest.mark.parametrize(
    ("level", "name"),
    [(socket.SOL_SOCKET, "SO_KEEPALIVE"), (socket.IPPROTO_TCP, "TCP_NODELAY")],
)
def test_a_tcp_socket_is_kept_alive_and_sends_at_once(
    tcp: socket.socket, level: int, name: str
) -> None:
    platform.keepalive(tcp)
    assert tcp.getsockopt(level, getattr(socket, name)) != 0


@linux
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TCP_KEEPIDLE", 7),
        ("TCP_KEEPINTVL", 3),
        ("TCP_KEEPCNT", 2),
        ("TCP_USER_TIMEOUT", 13000),
    ],
)
def test_silence_and_probes_are_timed(tcp: socket.socket, name: str, value: int) -> None:
    platform.keepalive(tcp, idle=7, interval=3, probes=2)
    assert tcp.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) == value


@linux
def test_silence_counts_from_when_the_peer_connected() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()),
    ):
        began = time.monotonic()
        select.select([], [], [], 0.05)  # in the listen queue
        with listener.accept()[0] as taken:
            told, passed = platform.unheard(taken), time.monotonic() - began
    assert 0.04 <= told <= passed + 0.01


def test_silence_is_not_told_of_a_unix_socket_and_on_other_systems(
    monkeypatch: pytest.MonkeyPatch, tcp: socket.socket
) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert platform.unheard(ours) == 0
    monkeypatch.setattr(sys, "platform", "freebsd14")
    assert platform.unheard(tcp) == 0


@pytest.mark.parametrize(
    "name",
    [
        "SO_KEEPALIVE",
        "TCP_NODELAY",
        "TCP_KEEPIDLE",
        "TCP_KEEPINTVL",
        "TCP_KEEPCNT",
        "TCP_USER_TIMEOUT",
    ],
)
def test_an_option_that_the_system_lacks_is_left_out(
    monkeypatch: pytest.MonkeyPatch, tcp: socket.socket, name: str
) -> None:
    monkeypatch.delattr(socket, name, raising=False)
    platform.keepalive(tcp)
    other = "TCP_NODELAY" if name != "TCP_NODELAY" else "TCP_KEEPCNT"
    assert tcp.getsockopt(socket.IPPROTO_TCP, getattr(socket, other)) != 0


@linux
def test_macos_has_idle_time_under_another_name(
    monkeypatch: pytest.MonkeyPatch, tcp: socket.socket
) -> None:
    option = socket.TCP_KEEPIDLE
    monkeypatch.delattr(socket, "TCP_KEEPIDLE")
    monkeypatch.setattr(socket, "TCP_KEEPALIVE", option, raising=False)
    platform.keepalive(tcp, idle=9)
    assert tcp.getsockopt(socket.IPPROTO_TCP, option) == 9


def test_an_option_that_the_kernel_refuses_is_left_out() -> None:
    sock = SimpleNamespace(family=socket.AF_INET, type=socket.SOCK_STREAM, setsockopt=refuse)
    platform.keepalive(sock)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("family", "kind"),
    [("AF_UNIX", socket.SOCK_STREAM), ("AF_INET", socket.SOCK_DGRAM)],
)
def test_a_socket_that_is_not_tcp_is_left_alone(family: str, kind: int) -> None:
    if not hasattr(socket, family):
        pytest.skip(f"no {family}")
    with socket.socket(getattr(socket, family), kind) as sock:
        platform.keepalive(sock)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 0


# --- raise_descriptor_limit ---


class Resource:
    """A fake of the standard library's module that knows one limit, and takes some values."""

    RLIMIT_NOFILE = 7
    RLIM_INFINITY = -1

    def __init__(self, soft: int, hard: int, most: int = 1 << 62) -> None:
        self.limits = (soft, hard)
        self.most = most

    def getrlimit(self, which: int) -> tuple[int, int]:
        return self.limits

    def setrlimit(self, which: int, limits: tuple[int, int]) -> None:
        if limits[0] > self.most or limits[1] != self.limits[1]:
            raise ValueError("current limit exceeds maximum limit")
        self.limits = limits


@pytest.mark.parametrize(
    ("fake", "limits", "returned"),
    [
        pytest.param(Resource(256, 4096), (4096, 4096), 4096, id="raised to the hard limit"),
        pytest.param(Resource(4096, 4096), (4096, 4096), 4096, id="there already"),
        pytest.param(Resource(256, 10**9), (1 << 20, 10**9), 1 << 20, id="raised to enough"),
        pytest.param(Resource(10**8, 10**9), (10**8, 10**9), 10**8, id="never lowered"),
        pytest.param(Resource(256, -1), (1 << 20, -1), 1 << 20, id="infinite"),
        pytest.param(Resource(256, -1, 10240), (10240, -1), 10240, id="infinite on macOS"),
        pytest.param(Resource(-1, -1), (-1, -1), sys.maxsize, id="infinite already"),
        pytest.param(Resource(256, 4096, 0), (256, 4096), 256, id="forbidden"),
    ],
)
def test_the_descriptor_limit(
    monkeypatch: pytest.MonkeyPatch, fake: Resource, limits: tuple[int, int], returned: int
) -> None:
    monkeypatch.setitem(sys.modules, "resource", fake)
    assert (platform.raise_descriptor_limit(), fake.limits) == (returned, limits)


def test_without_limits_there_is_none_to_raise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "resource", None)
    assert platform.raise_descriptor_limit() == 0


@posix
def test_the_real_descriptor_limit_is_raised() -> None:
    code = """if True:
        import resource
        from dq._support.platform import raise_descriptor_limit
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 128))
        print(raise_descriptor_limit(), *resource.getrlimit(resource.RLIMIT_NOFILE))
    """
    with python(code) as child:
        printed, _ = child.communicate(timeout=30)
    assert printed == "128 128 128\n"


# --- unix_sockets ---


@posix
def test_posix_has_unix_sockets() -> None:
    assert platform.unix_sockets()


def test_a_system_without_the_family_has_no_unix_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "AF_UNIX", raising=False)
    assert not platform.unix_sockets()


def test_where_the_family_is_forbidden_there_are_no_unix_sockets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(socket, "socket", refuse)
    assert not platform.unix_sockets()


# --- start-up ---


@pytest.mark.parametrize("module", [keys, quantities, platform])
def test_importing_a_module_is_cheap(module: ModuleType) -> None:
    # From the source, since what `import dq` brings along would hide it from sys.modules.
    body = ast.parse(Path(str(module.__file__)).read_text()).body
    direct = {alias.name for node in body if isinstance(node, ast.Import) for alias in node.names}
    named = {node.module for node in body if isinstance(node, ast.ImportFrom)}
    assert direct <= {"mmap", "os", "re", "sys", "time"}
    assert named <= {"__future__", "typing", "dq.errors", "dq._support.naming"}
