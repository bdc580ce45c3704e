"""Listening: on every family of addresses, and what people are told where that fails."""

from __future__ import annotations

import errno
import os
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from dq.transport import dialing
from dq.transport.addresses import Address
from dq.transport.listener import Listener, explain_bind


def addresses(folder: Path) -> list[Address]:
    found: list[Address] = [("127.0.0.1", 0), ("", 0), ("localhost", 0)]
    if socket.has_ipv6 and _has_loopback6():
        found += [("::1", 0), ("::", 0)]
    return [*found, str(folder / "socket")]


def _has_loopback6() -> bool:
    with socket.socket(socket.AF_INET6) as sock:
        return sock.connect_ex(("::1", 1)) not in (errno.EADDRNOTAVAIL, errno.ENETUNREACH)


def reach(address: Address) -> Address:
    """An address to connect to, for one to listen on."""
    if isinstance(address, str):
        return address
    host, port = address
    return ({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port)


@pytest.mark.parametrize("which", range(6))
def test_a_listener_serves_every_family(tmp_path: Path, which: int) -> None:
    found = addresses(tmp_path)
    if which >= len(found):
        pytest.skip("no IPv6 here")
    listener = Listener(found[which])
    try:
        with dialing.dial(reach(listener.address)) as ours, listener.accept() as theirs:
            ours.send("hello")
            assert theirs.recv() == "hello"
    finally:
        listener.close()


def test_a_listener_on_all_ipv6_addresses_serves_ipv4_too() -> None:
    if not (socket.has_ipv6 and _has_loopback6()):
        pytest.skip("no IPv6 here")
    listener = Listener(("::", 0))
    try:
        port = listener.address[1]
        assert isinstance(port, int)
        dialing.dial(("127.0.0.1", port)).close()
    finally:
        listener.close()


def can_connect(host: str, port: object) -> bool:
    try:
        dialing.dial((host, int(str(port)))).close()
    except OSError:
        return False
    return True


def test_a_listener_on_no_host_in_particular_serves_both_families() -> None:
    if not (socket.has_ipv6 and _has_loopback6()):
        pytest.skip("no IPv6 here")
    listener = Listener(("", 0))
    try:
        host, port = listener.address
        assert host == "0.0.0.0"  # which a plain BaseManager can connect to
        assert str(listener) == f"0.0.0.0:{port} and [::]:{port}"
        assert can_connect("127.0.0.1", port)
        assert can_connect("::1", port)
    finally:
        listener.close()


def test_a_listener_on_all_ipv4_addresses_serves_no_others() -> None:
    listener = Listener(("0.0.0.0", 0))
    try:
        port = listener.address[1]
        assert str(listener) == f"0.0.0.0:{port}"
        assert can_connect("127.0.0.1", port)
        assert not can_connect("::1", port)
    finally:
        listener.close()


@pytest.mark.parametrize("fault", ["socket", "bind", "setsockopt"])
def test_a_listener_does_without_ipv6_where_there_is_none(
    monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    without(socket.AF_INET6, fault, monkeypatch)
    listener = Listener(("", 0))
    try:
        host, port = listener.address
        assert str(listener) == f"{host}:{port}" == f"0.0.0.0:{port}"
        assert can_connect("127.0.0.1", port)
    finally:
        listener.close()


def test_a_listener_does_without_ipv4_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    if not (socket.has_ipv6 and _has_loopback6()):
        pytest.skip("no IPv6 here")
    without(socket.AF_INET, "socket", monkeypatch)
    listener = Listener(("", 0))
    try:
        host, port = listener.address
        assert str(listener) == f"[{host}]:{port}" == f"[::]:{port}"
        assert can_connect("::1", port)
    finally:
        listener.close()


@pytest.fixture
def both(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a name that stands for an address of each family, as localhost does on many systems."""
    known = socket.getaddrinfo

    def resolve(host: str, *args: Any, **kw: Any) -> list[Any]:
        if host != "both":
            return known(host, *args, **kw)
        return known("::1", *args, **kw) + known("127.0.0.1", *args, **kw)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)


@pytest.mark.usefixtures("both")
@pytest.mark.parametrize(("fault", "host"), [("", "127.0.0.1"), ("socket", "::1"), ("bind", "::1")])
def test_a_listener_on_a_name_takes_its_ipv4_address_where_there_is_one(
    fault: str, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not (socket.has_ipv6 and _has_loopback6()):
        pytest.skip("no IPv6 here")
    without(socket.AF_INET, fault, monkeypatch)
    listener = Listener(("both", 0))
    try:
        assert listener.address[0] == host
        assert can_connect("both", listener.address[1])
    finally:
        listener.close()


@pytest.mark.usefixtures("both")
def test_a_port_in_use_on_a_names_ipv4_address_is_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError) as caught:
        Listener(("both", taken.getsockname()[1]))
    assert caught.value.errno == errno.EADDRINUSE


def without(family: int, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a kernel that lacks a family of addresses, or what is asked of it."""

    class Socket(socket.socket):
        def __init__(self, family_: int = socket.AF_INET, *args: Any, **kw: Any) -> None:
            if fault == "socket" and family_ == family:
                raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
            super().__init__(family_, *args, **kw)

        def bind(self, address: Any) -> None:
            if fault == "bind" and self.family == family:
                raise OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")
            super().bind(address)

        def setsockopt(self, *args: Any) -> None:
            if fault == "setsockopt" and args[:2] == V6ONLY:
                raise OSError(errno.EINVAL, "Invalid argument")
            super().setsockopt(*args)

    monkeypatch.setattr(socket, "socket", Socket)


V6ONLY = (socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)


def test_a_port_that_one_family_has_in_use_is_in_use() -> None:
    with socket.create_server(("0.0.0.0", 0)) as taken, pytest.raises(OSError) as caught:
        Listener(("", taken.getsockname()[1]))
    assert caught.value.errno == errno.EADDRINUSE


def test_an_ipv4_peer_is_called_by_its_ipv4_address() -> None:
    listener = Listener(("", 0))
    try:
        with dialing.dial(("", int(listener.address[1]))), listener.accept() as theirs:
            assert theirs.peer() == "127.0.0.1"
    finally:
        listener.close()


def test_a_listener_that_is_woken_accepts_no_more() -> None:
    listener = Listener(("127.0.0.1", 0))
    threading.Timer(0.05, listener.wake).start()
    for _ in range(2):
        with pytest.raises(OSError, match="listener is closed"):
            listener.accept()
    listener.close()


def test_a_closed_listener_leaves_no_socket_file(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    Listener(str(path)).close()
    assert not path.exists()


def bind_error(address: Address) -> OSError:
    with pytest.raises(OSError) as caught:
        Listener(address).close()
    return caught.value


def test_a_port_in_use_is_said_with_a_way_out() -> None:
    listener = Listener(("127.0.0.1", 0))
    text = explain_bind(listener.address, bind_error(listener.address))
    listener.close()
    assert text.startswith(f"port {listener.address[1]} is in use, ")
    assert text.endswith("; port=0 takes a free one")


def test_a_foreign_address_is_said_to_be_none_of_this_machine() -> None:
    address = ("192.0.2.1", 0)
    text = explain_bind(address, bind_error(address))
    assert text == "cannot listen on 192.0.2.1:0: this machine has no such address"


def test_a_folder_that_is_missing_is_said_with_the_path(tmp_path: Path) -> None:
    address = str(tmp_path / "no" / "socket")
    text = explain_bind(address, bind_error(address))
    assert text == f"cannot listen on {address}: {os.strerror(errno.ENOENT)}"


def test_a_privileged_port_is_said_to_be_one() -> None:
    error = PermissionError(errno.EACCES, "Permission denied")
    text = explain_bind(("127.0.0.1", 80), error)
    assert text == "port 80 is privileged; take one from 1024 on"


def test_a_host_that_has_no_address_is_said_to_have_none() -> None:
    error = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    text = explain_bind(("nowhere.invalid", 5000), error)
    assert text == "cannot resolve the host in nowhere.invalid:5000: Name or service not known"
