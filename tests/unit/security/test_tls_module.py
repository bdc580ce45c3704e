"""How connections are encrypted: what is asked for, what becomes of it, and a channel with it."""

from __future__ import annotations

import hashlib
import hmac
import os
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dq.errors import ConnectError, TlsError, UsageError
from dq.security import certs, tls
from dq.security.tls import PLAIN, Tls, settings
from dq.transport.channel import Channel
from dq.transport.limits import RECV_CHUNK

KEY = b"0123456789abcdef0123456789abcdef"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("certs")
    certs.make(os.fspath(path))
    return path


def of(folder: Path, role: str) -> Tls:
    return settings("auto", folder / f"{role}.pem", folder / f"{role}.key", folder / "ca.pem")


# --- what is asked for


@pytest.mark.parametrize(
    ("mode", "able", "expected"),
    [("auto", True, "auto"), ("auto", False, "off"), ("off", True, "off"), ("off", False, "off")]
    + [("psk", True, "psk"), ("require", True, "psk")],
)
def test_without_certificates_the_mode_is(
    monkeypatch: pytest.MonkeyPatch, mode: str, able: bool, expected: str
) -> None:
    monkeypatch.setattr(tls, "can_psk", lambda: able)
    assert settings(mode).mode == expected


@pytest.mark.parametrize("mode", ["psk", "require", "certs", "nonsense"])
def test_a_mode_that_cannot_be_had_is_refused(monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    monkeypatch.setattr(tls, "can_psk", lambda: False)
    with pytest.raises(UsageError):
        settings(mode)


@pytest.mark.parametrize("mode", ["auto", "certs", "require"])
def test_with_certificates_nothing_else_is_taken(folder: Path, mode: str) -> None:
    files = (folder / "worker.pem", folder / "worker.key", folder / "ca.pem")
    found = settings(mode, *files)
    assert (found.mode, found.required) == ("certs", True)


def test_relative_paths_become_absolute(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert settings("auto", "worker.pem", "worker.key", "ca.pem").cert == f"{folder}/worker.pem"


def test_an_encrypted_private_key_is_refused_rather_than_asked_about(
    folder: Path, tmp_path: Path
) -> None:
    key = tmp_path / "encrypted.key"
    key.write_bytes(ENCRYPTED)
    key.chmod(0o600)
    with pytest.raises(UsageError, match="encrypted"):
        settings("auto", folder / "worker.pem", key, folder / "ca.pem")


# openssl ec -aes128 -passout pass:test
ENCRYPTED = b"""\
-----BEGIN EC PRIVATE KEY-----
Proc-Type: 4,ENCRYPTED
DEK-Info: AES-128-CBC,00112233445566778899AABBCCDDEEFF

AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA
AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA
-----END EC PRIVATE KEY-----
"""


def test_nothing_is_imported_before_it_is_needed() -> None:
    from support import python

    assert python("import dq.cli.runs, dq.cli.work, sys; print('ssl' in sys.modules)").stdout == (
        "False\n"
    )


# --- the derived key


def test_the_key_for_tls_is_hkdf_of_the_authkey() -> None:
    extracted = hmac.new(b"dq-toolkit", KEY, hashlib.sha256).digest()
    info = b"dq tls 1.3 external psk, version 1"
    expanded = hmac.new(extracted, info + b"\x01", hashlib.sha256).digest()
    assert tls.derive(KEY) == expanded


def test_it_is_neither_the_authkey_nor_what_the_challenge_shows() -> None:
    assert tls.derive(KEY) not in (KEY, hmac.new(KEY, b"", "sha256").digest())


# --- who is on the other end


class Peer:
    def __init__(self, reused: bool, certificate: bytes | None) -> None:
        self.session_reused = reused
        self._certificate = certificate

    def getpeercert(self, binary: bool) -> bytes | None:
        return self._certificate


@pytest.mark.parametrize("peer", [Peer(False, b"x"), Peer(True, b"x"), Peer(False, None)])
def test_a_peer_that_has_not_shown_the_key_is_refused(peer: Any) -> None:
    with pytest.raises(TlsError, match="not that it has the key"):
        Tls("psk").check_peer(peer)


def test_a_peer_that_has_shown_the_key_is_not() -> None:
    peer: Any = Peer(True, None)
    Tls("psk").check_peer(peer)


# --- a channel

Ends = tuple[Channel, Channel]


def shake(client: Tls, server: Tls) -> Ends:
    ours, theirs = socket.socketpair()
    here, there = Channel(ours), Channel(theirs)
    accept = threading.Thread(target=lambda: there.accept_tls(server.server_context(KEY)))
    accept.start()
    here.set_deadline(10)
    here.begin_tls(client.client_context(KEY), "localhost")
    here.set_deadline(None)
    accept.join()
    return here, there


@pytest.fixture(
    params=[
        "certs",
        pytest.param(
            "psk",
            marks=pytest.mark.skipif(
                not tls.can_psk(),
                reason=f"TLS from the key needs Python 3.13; this is {sys.version.split()[0]}",
            ),
        ),
    ]
)
def ends(request: pytest.FixtureRequest, folder: Path) -> Iterator[Ends]:
    how: str = request.param
    pair = (
        (Tls("psk"), Tls("psk")) if how == "psk" else (of(folder, "worker"), of(folder, "master"))
    )
    here, there = shake(*pair)
    with here, there:
        yield here, there


def meanwhile(call: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=call)
    thread.start()
    return thread


@pytest.mark.parametrize("size", [0, 1, 16_384, 16_385, 65_536, 65_537, 3_000_000])
def test_messages_pass_whole_in_both_directions(ends: Ends, size: int) -> None:
    for source, sink in (ends, ends[::-1]):
        sender = meanwhile(lambda source=source: source.send_bytes(b"x" * size))
        assert sink.recv_bytes() == b"x" * size
        sender.join()


def test_what_tls_has_taken_off_the_socket_counts_as_there(ends: Ends) -> None:
    here, there = ends
    sizes = [RECV_CHUNK - 4, 100, 200]  # in one record; the first is taken as a page
    there.wire.sock.sendall(b"".join(struct.pack("!i", size) + bytes(size) for size in sizes))
    for size in sizes:
        assert here.poll(10)
        assert not here.peer_closed()
        assert here.recv_bytes() == bytes(size)
    assert not here.poll(0)


def test_nothing_lies_unread_after_the_handshake(ends: Ends) -> None:
    # A ticket would look like an answer to who waits for one.
    assert [end.poll(0.05) for end in ends] == [False, False]


def test_a_peer_that_closes_is_gone(ends: Ends) -> None:
    here, there = ends
    assert not here.peer_closed()
    there.close()
    assert here.poll(10)
    assert here.peer_closed()
    with pytest.raises(EOFError):
        here.recv_bytes()


def test_a_peer_that_has_sent_is_not_gone(ends: Ends) -> None:
    here, there = ends
    there.send_bytes(b"x")
    assert here.poll(10)
    assert not here.peer_closed()


def test_who_is_blocked_is_woken_and_reads_nothing_in_plain(ends: Ends) -> None:
    here, _ = ends
    raised: list[BaseException] = []

    def read() -> None:
        try:
            here.recv_bytes()
        except (OSError, EOFError) as error:
            raised.append(error)

    reader = meanwhile(read)
    here.shutdown()
    reader.join(10)
    assert len(raised) == 1


def test_a_deadline_holds_for_reads(ends: Ends) -> None:
    here, _ = ends
    here.set_deadline(0.05)
    with pytest.raises(TimeoutError):
        here.recv_bytes()


def test_a_deadline_holds_for_the_handshake(folder: Path) -> None:
    ours, theirs = socket.socketpair()
    with Channel(ours) as channel, theirs:
        channel.set_deadline(0.05)
        with pytest.raises(TimeoutError):
            channel.begin_tls(of(folder, "worker").client_context(KEY), "localhost")


def test_a_plain_answer_is_told_from_a_broken_handshake(folder: Path) -> None:
    ours, theirs = socket.socketpair()
    with Channel(ours) as channel, theirs:
        theirs.sendall(b"\0\0\0\x22#CHALLENGE#{sha256}and so on, so far")
        with pytest.raises(tls.SpeaksPlain):
            channel.begin_tls(of(folder, "worker").client_context(KEY), "localhost")


def test_a_connection_ended_while_it_is_wrapped_does_not_go_on(folder: Path) -> None:
    ours, theirs = socket.socketpair()
    with Channel(ours) as channel, theirs:
        channel.shutdown()
        with pytest.raises(OSError):  # which one depends on the system
            channel.begin_tls(of(folder, "worker").client_context(KEY), "localhost")


# --- words


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("TLSV1_ALERT_UNKNOWN_CA", "not signed by the CA that the other end has"),
        ("TLSV13_ALERT_CERTIFICATE_REQUIRED", "refuses this end's certificate: there is none"),
        ("SSLV3_ALERT_HANDSHAKE_FAILURE", "may want TLS from the key"),
        ("SOMETHING_NEW", "no TLS with here:1: something new"),
    ],
)
def test_openssls_reasons_become_words(reason: str, words: str) -> None:
    text = f"[SSL: {reason}] {reason.lower().replace('_', ' ')} (_ssl.c:1000)"
    error = OSError(1, text)
    error.reason = reason  # type: ignore[attr-defined]
    said = tls.explain(error, Tls("certs"), "here:1")
    assert isinstance(said, ConnectError)
    assert words in str(said)


def test_what_any_stranger_may_send_is_not_worth_a_word() -> None:
    error = OSError(1, "[SSL: RECORD_LAYER_FAILURE] record layer failure (_ssl.c:1000)")
    error.reason = "RECORD_LAYER_FAILURE"  # type: ignore[attr-defined]
    assert tls.explain_client(error, PLAIN) is None
