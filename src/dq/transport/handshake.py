"""The handshake in which both ends prove to have the key, as the standard library has it."""

from __future__ import annotations

import hmac
import multiprocessing.connection as mpc
import os
import sys
from multiprocessing import AuthenticationError

from dq._support.naming import setting
from dq.errors import TlsError
from dq.security.tls import ONLY, can_psk, certificates, needs_newer
from dq.transport.channel import Channel

TLS_HELLO_BYTE = 0x16  # the first byte of a TLS client


def answer_challenge(channel: Channel, authkey: bytes) -> None:
    """The standard library's half of the handshake in which one proves to have the key.

    Raises:
        TlsError: the master says that it takes TLS connections only.
    """
    try:
        mpc.answer_challenge(channel, authkey)  # type: ignore[arg-type]  # it uses two methods
    except (AssertionError, AuthenticationError) as error:
        for mode, words in ONLY.items():
            if words.decode() in str(error):
                raise TlsError(_only(mode)) from None
        raise


def _only(mode: str) -> str:
    if mode == "certs":
        return f"takes TLS connections with certificates only; give {certificates()}"
    if can_psk():
        return f"takes encrypted connections only: leave out {setting('tls', 'off')}"
    return f"takes encrypted connections only, and {needs_newer()}"


def deliver_challenge(channel: Channel, authkey: bytes) -> None:
    """The half in which the peer proves it; in constant time, which CPython's is from 3.12 on."""
    if sys.version_info >= (3, 12):
        mpc.deliver_challenge(channel, authkey)  # type: ignore[arg-type]  # it uses two methods
        return
    message = os.urandom(20)
    channel.send_bytes(b"#CHALLENGE#" + message)
    response = channel.recv_bytes(256)
    if not hmac.compare_digest(response, hmac.new(authkey, message, "md5").digest()):
        channel.send_bytes(b"#FAILURE#")
        raise AuthenticationError("digest received was wrong")
    channel.send_bytes(b"#WELCOME#")
