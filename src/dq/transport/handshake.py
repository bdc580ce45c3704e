"""The standard library's handshake, in which both ends prove to have the key."""

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
    """Prove to have the key: the client's half of the standard library's handshake.

    Raises:
        TlsError: the master accepts TLS connections only.
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
    """Make the peer prove it. The comparison takes constant time, as CPython's does from 3.12."""
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
