"""Networks of a test's own, on Linux: one with only a loopback, or two hosts on a cable."""

from __future__ import annotations

import functools
import itertools
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from support.process import Running, StrPath, environment, run, wait_until

CABLE = "dq0"  # the name of both ends: each is alone in its namespace
#: Nobody's hardware address. What is sent there is gone, and the sender gets no error.
NOWHERE = "02:00:00:00:00:00"

_numbers = itertools.count(1)


def _unshare() -> list[str]:
    as_root = [] if os.geteuid() == 0 else ["--map-root-user"]
    return ["unshare", *as_root, "--net", "--", "sh", "-c"]


def _missing(*programs: str) -> str | None:
    gone = [program for program in programs if shutil.which(program) is None]
    return f"no program {' or '.join(gone)} here" if gone else None


@functools.cache
def can_unshare() -> str | None:
    """Why `in_namespace` can't be used here; None where it can."""
    if reason := _missing("unshare", "ip"):
        return reason
    tried = run(*_unshare(), "ip link set lo up", timeout=20)
    return None if tried.returncode == 0 else _refusal("a network namespace", tried)


@functools.cache
def can_make_hosts() -> str | None:
    """Why `two_hosts` can't be used here; None where it can."""
    if reason := _missing("ip"):
        return reason
    if os.geteuid() != 0:
        return "only root may name network namespaces"
    name = _name("probe")
    tried = run("ip", "netns", "add", name, timeout=20)
    if tried.returncode == 0:
        tried = run("ip", "-n", name, "link", "add", CABLE, "type", "veth", timeout=20)
        run("ip", "netns", "del", name, timeout=20)
    return None if tried.returncode == 0 else _refusal("network namespaces with veth", tried)


def _refusal(what: str, tried: subprocess.CompletedProcess[str]) -> str:
    return f"no {what} here: {tried.stderr.strip() or f'exit code {tried.returncode}'}"


def _name(suffix: str) -> str:
    return f"dq-{os.getpid()}-{next(_numbers)}-{suffix}"


def isolated(commands: str) -> list[str]:
    """The argument list, for `run` or `Running`, of a shell command in a namespace of its own."""
    return [*_unshare(), 'ip link set lo up && exec sh -c "$0"', commands]


def in_namespace(commands: str, **kw: Any) -> subprocess.CompletedProcess[str]:
    """Run a shell command to its end where every port is free and only loopback is there.

    Keywords as for `run`. Ask `can_unshare` first.
    """
    return run(*isolated(commands), **kw)


@dataclass(frozen=True)
class Host:
    """A network namespace with one address."""

    name: str
    address: str

    @property
    def prefix(self) -> list[str]:
        """What to put before a command so that it runs on this host."""
        return ["ip", "netns", "exec", self.name]

    def popen(self, args: list[str], **kw: Any) -> subprocess.Popen[Any]:
        kw.setdefault("env", environment())
        return subprocess.Popen([*self.prefix, *args], **kw)

    def run(self, *argv: StrPath, **kw: Any) -> subprocess.CompletedProcess[str]:
        return run(*self.prefix, *argv, **kw)

    def running(self, *argv: StrPath, **kw: Any) -> Running:
        return Running(*self.prefix, *argv, **kw)

    def ip(self, *args: str) -> str:
        """Configure it: `ip -n NAME ARGS`."""
        return _ip("-n", self.name, *args)


@dataclass(frozen=True)
class Hosts:
    """Two hosts on one cable."""

    a: Host
    b: Host

    def partition(self, direction: Literal["both", "a to b", "b to a"] = "both") -> None:
        """Let what is sent vanish without a word, as when a machine or a route is gone.

        (A blackhole route would do for one direction, but gives the sender's connect an error.)
        """
        if direction in ("both", "a to b"):
            self._send_nowhere(self.a, self.b)
        if direction in ("both", "b to a"):
            self._send_nowhere(self.b, self.a)

    def _send_nowhere(self, sender: Host, other: Host) -> None:
        entry = ("lladdr", NOWHERE, "dev", CABLE, "nud", "permanent")
        sender.ip("neigh", "replace", other.address, *entry)

    def heal(self) -> None:
        """Join them again after `partition` or `unplug`."""
        for host, other in ((self.a, self.b), (self.b, self.a)):
            host.ip("link", "set", CABLE, "up")
            if NOWHERE in host.ip("neigh", "show", other.address):
                host.ip("neigh", "del", other.address, "dev", CABLE)
        self.wait_until_joined()

    def unplug(self) -> None:
        """Take the link down on both sides: the kernel of each knows, and routes are withdrawn."""
        for host in (self.a, self.b):
            host.ip("link", "set", CABLE, "down")

    def wait_until_joined(self) -> None:
        def up() -> bool:
            return all(" UP " in host.ip("-br", "link", "show", CABLE) for host in (self.a, self.b))

        wait_until(up, 10, message="the cable did not come up")


def _ip(*args: str) -> str:
    done = run("ip", *args, timeout=20)
    assert done.returncode == 0, f"ip {' '.join(args)}: {done.stderr}"
    return done.stdout


@contextmanager
def two_hosts() -> Iterator[Hosts]:
    """Two namespaces, 10.55.0.1 and 10.55.0.2, joined by a cable, and gone afterwards.

    What still runs in them then is killed. Ask `can_make_hosts` first.
    """
    hosts = Hosts(Host(_name("a"), "10.55.0.1"), Host(_name("b"), "10.55.0.2"))
    with ExitStack() as undo:
        for host in (hosts.a, hosts.b):
            _ip("netns", "add", host.name)
            undo.callback(_remove, host)
        peer = ("peer", "name", CABLE, "netns", hosts.b.name)
        hosts.a.ip("link", "add", CABLE, "type", "veth", *peer)
        for host in (hosts.a, hosts.b):
            host.ip("addr", "add", f"{host.address}/24", "dev", CABLE)
            host.ip("link", "set", "lo", "up")
            host.ip("link", "set", CABLE, "up")
        hosts.wait_until_joined()
        yield hosts


def _remove(host: Host) -> None:
    def empty() -> bool:
        pids = [int(pid) for pid in _ip("netns", "pids", host.name).split()]
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        return not pids

    try:
        wait_until(empty, 10, message=f"killed, and still in {host.name}")
    finally:
        _ip("netns", "del", host.name)
