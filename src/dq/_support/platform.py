"""Features of particular operating systems, each with a fallback for the others."""

from __future__ import annotations

import mmap
import os
import sys
import time

TYPE_CHECKING = False  # `typing` takes 5 ms to import, and checkers go by the name

if TYPE_CHECKING:
    import socket
    from typing import IO

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
_LAST_ACK_RECV = slice(56, 60)  # milliseconds; of struct tcp_info in <linux/tcp.h>
# A container may have a hard limit of a thousand million, and an old program started by a task
# would close that many descriptors one by one.
_ENOUGH_DESCRIPTORS = 1 << 20
# Lower descriptors are left to tasks: if a task mistakes a number for a file's name, `open(5)` must
# not open dq's own connection.
_RESERVED = 100
_MACOS_OPEN_MAX = 10240  # the most that macOS takes where its hard limit says "infinite"


class Cells:
    """Counters of 8 bytes each in memory that several processes share.

    A cell is aligned, so a reader sees the value before or after a write, never half of it.

    Attributes:
        fd: the file descriptor to give a child, with ``pass_fds``; not inherited otherwise.
        view: the cells, as a memoryview of unsigned integers.

    >>> cells = shared_cells(4)
    >>> cells.view[2] = 7
    >>> other = Cells.open(os.dup(cells.fd), 4)
    >>> other.view[2]
    7
    >>> other.close(), cells.close()
    (None, None)
    """

    def __init__(self, fd: int, count: int) -> None:
        self.fd = fd
        self._map = mmap.mmap(fd, count * 8)
        self.view = memoryview(self._map).cast("Q")

    @classmethod
    def open(cls, fd: int, count: int) -> Cells:
        """Return the cells that the parent made; the descriptor belongs to them from now on.

        Args:
            fd: the descriptor that the parent passed.
            count: how many cells, as the parent made them.

        Raises OSError or ValueError when the descriptor is not that of so many cells.
        """
        # pass_fds made it inheritable, but programs that a task starts must not keep it open.
        os.set_inheritable(fd, False)
        return cls(fd, count)

    def close(self) -> None:
        """Give the memory and the descriptor back; a second call does nothing."""
        if self.fd < 0:
            return
        self.view.release()
        self._map.close()
        os.close(self.fd)
        self.fd = -1


def shared_cells(count: int) -> Cells:
    """Return new cells, all zero.

    Args:
        count: how many cells, at least 1.

    Raises OSError when there is no room for them, ValueError when ``count`` is below 1.

    >>> cells = shared_cells(3)
    >>> cells.view.tolist()
    [0, 0, 0]
    >>> cells.close()
    """
    if count < 1:
        raise ValueError(f"{count} cells cannot be shared: at least 1")
    fd = _memory_file(count * 8)
    try:
        return Cells(fd, count)
    except BaseException:
        os.close(fd)
        raise


def _memory_file(length: int) -> int:
    if not hasattr(os, "memfd_create"):
        return _unlinked_file(length)
    try:
        fd: int = os.memfd_create("dq-cells")  # close-on-exec by default
    except OSError:  # an older kernel, a sandbox, vm.memfd_noexec=2
        return _unlinked_file(length)
    try:
        os.ftruncate(fd, length)
    except BaseException:  # it may be larger than files may be here (ulimit -f)
        os.close(fd)
        raise
    return fd


def _unlinked_file(length: int) -> int:
    with _temporary_file() as file:
        # Write the bytes rather than truncate: on a full disk, touching a hole raises SIGBUS.
        file.write(bytes(length))
        file.flush()
        return os.dup(file.fileno())


def _temporary_file() -> IO[bytes]:
    import tempfile  # here to keep start-up fast: few systems need it

    try:
        return tempfile.TemporaryFile()
    except OSError:  # a read-only file system, but /dev/shm is in memory
        return tempfile.TemporaryFile(dir="/dev/shm")


class HighDescriptors:
    """While entered, new files get descriptors from 100 on, or lower ones if there are too few.

    >>> with HighDescriptors():
    ...     pipe = os.pipe()
    >>> min(pipe) >= 100 or min(pipe)
    True
    >>> [os.close(end) for end in pipe]
    [None, None]
    """

    def __init__(self) -> None:
        self._taken: list[int] = []

    def __enter__(self) -> None:
        try:
            while not self._taken or self._taken[-1] < _RESERVED:
                self._taken.append(os.dup(self._taken[0]) if self._taken else _null())
        except OSError:  # there are no free descriptors
            self.__exit__()

    def __exit__(self, *exc: object) -> None:
        while self._taken:
            os.close(self._taken.pop())


def _null() -> int:
    return os.open(os.devnull, os.O_RDWR)


def moved_up(sock: socket.socket) -> socket.socket:
    """Replace a socket by one with a descriptor from 100 on; return the same one if that fails.

    >>> import socket
    >>> with moved_up(socket.socket()) as sock:
    ...     sock.fileno() >= 100 or sock.fileno()
    True
    """
    import socket  # here to keep start-up fast: who has a socket has paid for it

    try:
        import fcntl  # missing on Windows

        high = fcntl.fcntl(sock.fileno(), fcntl.F_DUPFD_CLOEXEC, _RESERVED)
    except (ImportError, OSError):  # OSError: there are too few descriptors
        return sock
    moved = socket.socket(sock.family, sock.type, sock.proto, fileno=high)
    moved.settimeout(sock.gettimeout())
    sock.close()
    return moved


def is_open(descriptor: int) -> bool:
    """Whether a descriptor is in use.

    >>> is_open(1 << 20)
    False
    """
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def fill_standard_descriptors() -> None:
    """Open the null device on those of the descriptors 0 to 2 that are closed.

    Otherwise the next file or socket to be opened would get such a descriptor. A child would then
    read it as standard input, or write errors to it.

    >>> fill_standard_descriptors()
    """
    for number in range(3):
        if not is_open(number):
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest that is free


def die_with_parent(parent_pid: int) -> bool:
    """Have the kernel kill this process when its parent dies; False where it cannot.

    The kernel regards the thread that started this process as the parent, so that thread has to
    live as long as the parent process. If the parent has already died, this exits with code 1.

    Args:
        parent_pid: the process id of the parent, as the parent itself knows it.

    >>> die_with_parent(os.getppid())  # doctest: +SKIP
    True
    """
    if sys.platform != "linux" or not _set_parent_death_signal():
        return False
    # If the parent died before the call above, the kernel never reports it.
    if os.getppid() != parent_pid:
        os._exit(1)
    return True


def _set_parent_death_signal() -> bool:
    import signal

    try:
        import ctypes  # here to keep start-up fast: only a child process needs it

        prctl = ctypes.CDLL(None).prctl
    except (ImportError, OSError, AttributeError):  # built without ctypes, or linked statically
        return False
    prctl.argtypes = (ctypes.c_int, *[ctypes.c_ulong] * 4)
    prctl.restype = ctypes.c_int
    return bool(prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) == 0)


def name_process(name: str) -> None:
    """Name this process for `top`, `pgrep` and the like, where the system allows it.

    Args:
        name: at most 15 characters.

    >>> name_process("doctest")
    """
    try:
        with open("/proc/self/comm", "w") as file:
            file.write(name)
    except OSError:  # a system without it
        pass


def can_fork() -> bool:
    """Whether a process without threads may fork and go on in both. macOS's own libraries forbid
    that, and only Linux ends the forks with their parent.

    >>> can_fork() in (True, False)
    True
    """
    return sys.platform == "linux" and hasattr(os, "fork")


def is_stopped(pid: int) -> bool:
    """Whether SIGSTOP or a debugger has stopped a process; False if that cannot be determined.

    >>> is_stopped(os.getpid())
    False
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] in (b"T", b"t")
    except (OSError, IndexError):
        return False


def await_thread(native_id: int, *states: str, timeout: float = 0.1) -> None:
    """Wait until the kernel has a thread of this process in one of these states, if it can tell.

    A thread that has released CPython's lock for the last time may still read the interpreter's
    memory. If that has been freed by then, the process crashes (up to Python 3.12).

    Args:
        native_id: the thread's, of `threading.get_native_id`.
        states: letters of /proc/PID/stat, "S" for asleep; "" for a thread that has ended.
        timeout: seconds to wait at most.

    >>> await_thread(0, "")
    """
    until = time.monotonic() + timeout
    while _thread_state(native_id) not in states and time.monotonic() < until:
        time.sleep(0.0002)


def _thread_state(native_id: int) -> str:
    try:
        with open(f"/proc/self/task/{native_id}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0].decode()
    except (OSError, IndexError):
        return ""


def outward_address(ipv6: bool) -> str | None:
    """The address from which this machine reaches others; None if it has no route to them.

    >>> outward_address(ipv6=False) != ""
    True
    """
    import socket  # here to keep start-up fast: who has a socket has paid for it

    # These addresses are reserved for documentation. Nothing is sent to them: connecting a datagram
    # socket only looks up the route.
    family, there = (socket.AF_INET6, "2001:db8::1") if ipv6 else (socket.AF_INET, "192.0.2.1")
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.connect((there, 9))
            address: str = sock.getsockname()[0]
    except OSError:
        return None
    return address


def keepalive(sock: socket.socket, idle: int = 10, interval: int = 5, probes: int = 3) -> None:
    """Make a TCP connection detect that its other end is gone, and send data without delay.

    Other kinds of sockets, and options that the system does not have, are ignored.

    Args:
        sock: the socket.
        idle: seconds of silence before the first probe.
        interval: seconds between two probes.
        probes: how many without an answer mean that the other end is gone.

    >>> import socket
    >>> with socket.socket() as sock:
    ...     keepalive(sock)
    ...     sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) != 0
    True
    """
    import socket  # here to keep start-up fast: who has a socket has paid for it

    if sock.family not in (socket.AF_INET, socket.AF_INET6) or sock.type != socket.SOCK_STREAM:
        return
    _set(sock, socket.SOL_SOCKET, "SO_KEEPALIVE", 1)
    _set(sock, socket.IPPROTO_TCP, "TCP_NODELAY", 1)
    # macOS has the same under another name.
    idle_name = "TCP_KEEPIDLE" if hasattr(socket, "TCP_KEEPIDLE") else "TCP_KEEPALIVE"
    _set(sock, socket.IPPROTO_TCP, idle_name, idle)
    _set(sock, socket.IPPROTO_TCP, "TCP_KEEPINTVL", interval)
    _set(sock, socket.IPPROTO_TCP, "TCP_KEEPCNT", probes)
    # Probes are not sent while data waits for an acknowledgement; this covers that case.
    _set(sock, socket.IPPROTO_TCP, "TCP_USER_TIMEOUT", (idle + interval * probes) * 1000)


def acknowledge(sock: socket.socket) -> None:
    """Acknowledge now what a TCP connection has received so far, if the system supports that.

    >>> import socket
    >>> with socket.socket() as sock:
    ...     acknowledge(sock)
    """
    import socket

    _set(sock, socket.IPPROTO_TCP, "TCP_QUICKACK", 1)


def unheard(sock: socket.socket) -> float:
    """Return the seconds since the other machine last acknowledged something.

    If it has not sent anything, return the seconds since it connected. They include the time in the
    listen queue, which cannot be found out in another way. Return zero on systems other than Linux,
    and for a Unix socket.
    """
    import socket  # here to keep start-up fast: who has a socket has paid for it

    if sys.platform != "linux":  # FreeBSD has a different struct
        return 0.0
    try:
        told = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _LAST_ACK_RECV.stop)
    except OSError:
        return 0.0
    return int.from_bytes(told[_LAST_ACK_RECV], sys.byteorder) / 1000


def _set(sock: socket.socket, level: int, name: str, value: int) -> None:
    import socket

    option: int | None = getattr(socket, name, None)
    if option is None:
        return
    try:
        sock.setsockopt(level, option, value)
    except OSError:  # Python knows the option, but the kernel does not (gVisor, old Windows)
        pass


def raise_descriptor_limit() -> int:
    """Let this process open as many files as it may; return how many, 0 where nothing limits them.

    >>> raise_descriptor_limit() >= 0
    True
    """
    try:
        import resource  # missing on Windows
    except ImportError:
        return 0
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for wanted in (_ENOUGH_DESCRIPTORS, _MACOS_OPEN_MAX):
        limit = min(wanted, _finite(hard))
        if _finite(soft) < limit and _allow_descriptors(limit, hard):
            return limit
    return _finite(soft)


def _allow_descriptors(soft: int, hard: int) -> bool:
    import resource

    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    except (OSError, ValueError):
        return False
    return True


def _finite(limit: int) -> int:
    import resource

    return sys.maxsize if limit == resource.RLIM_INFINITY else limit


def unix_sockets() -> bool:
    """Return whether sockets in the file system can be used.

    >>> unix_sockets() in (True, False)
    True
    """
    import socket  # here to keep start-up fast

    if not hasattr(socket, "AF_UNIX"):
        return False
    try:
        socket.socket(socket.AF_UNIX).close()
    except OSError:  # a sandbox may forbid the family
        return False
    return True


def who_listens(port: int) -> str | None:
    """The process that listens on a TCP port, as ``name (pid N)``; None if it cannot be found.

    >>> who_listens(0) is None
    True
    """
    inodes = _listening_inodes(port)
    if not inodes:
        return None
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            links = {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")}
            if links & inodes:
                with open(f"/proc/{pid}/comm") as file:
                    return f"{file.read().strip()} (pid {pid})"
        except OSError:
            continue  # it has ended, or belongs to another user
    return None


def _listening_inodes(port: int) -> set[str]:
    """Links under /proc/PID/fd of the sockets that listen on a port."""
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            with open(table) as file:
                rows = [line.split() for line in file]
        except OSError:
            continue
        for row in rows[1:]:
            if row[3] == "0A" and int(row[1].rpartition(":")[2], 16) == port:
                found.add(f"socket:[{row[9]}]")
    return found
