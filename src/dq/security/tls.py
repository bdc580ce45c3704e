"""TLS: with certificates, or from the authkey alone on Python 3.13 and newer.

    mode     what a master takes                         what a worker does
    off      plain connections                           connects plainly
    auto     TLS from the key, and plain connections     TLS from the key; plainly where the master
                                                         answers in plain
    psk      TLS from the key, nothing else              the same, or fails
    certs    TLS with certificates both ways             the same, or fails

`settings` turns a user's options into one of these. `ssl` is imported where it is used, since a run
on one machine uses a Unix socket and does not need it.
"""

from __future__ import annotations

import os
import sys

from dq._support.frozen import TYPE_CHECKING, frozen
from dq._support.naming import setting
from dq.errors import AuthenticationFailed, ConnectError, TlsError, UsageError

if TYPE_CHECKING:
    import ssl

MODES = ("auto", "psk", "certs", "require", "off")

# The identity that a client sends before anything is encrypted. It says whether the client would
# connect again without TLS. A master without TLS reports only strict clients that it refuses.
STRICT, LENIENT = "dq", "dq or plain"

# What a master that requires TLS sends to a client that waits for a challenge. The standard
# library's clients show it in their error message.
ONLY = {"psk": b"#TLS from the key only", "certs": b"#TLS with certificates only"}


class SpeaksPlain(ConnectError):
    """Raised when a server answers a TLS handshake in plain."""


@frozen
class Tls:
    """How connections over a network are encrypted; `settings` makes one.

    Args:
        mode: "off", "auto", "psk" or "certs".
        cert: path of one's own certificate.
        key: path of its private key.
        ca: path of the certificates that sign the other end's.
        check_name: whether the master's certificate must be for the host connected to.
    """

    mode: str = "off"
    cert: str = ""
    key: str = ""
    ca: str = ""
    check_name: bool = True

    @property
    def required(self) -> bool:
        """Whether plain connections are not allowed."""
        return self.mode in ("psk", "certs")

    def client_context(self, authkey: bytes) -> ssl.SSLContext:
        """The context for a client's sockets."""
        import ssl

        context = _context(ssl.PROTOCOL_TLS_CLIENT)
        if self.mode == "certs":
            context.check_hostname = self.check_name
            self._load(context)
            return context
        # Certificates are not checked: `check_peer` refuses a server that does not have the key.
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        identity = STRICT if self.required else LENIENT
        secret = derive(authkey)
        context.set_psk_client_callback(lambda hint: (identity, secret))  # type: ignore[attr-defined, unused-ignore]  # new in 3.13
        return context

    def server_context(self, authkey: bytes) -> ssl.SSLContext:
        """The context for a server's sockets."""
        import ssl

        context = _context(ssl.PROTOCOL_TLS_SERVER)
        # A client would find an unread ticket in its socket, and take it for an answer.
        context.num_tickets = 0
        if self.mode == "certs":
            context.verify_mode = ssl.CERT_REQUIRED
            self._load(context)
            return context
        secret = derive(authkey)
        # Without a certificate, this is the only handshake that the server can do.
        context.set_psk_server_callback(  # type: ignore[attr-defined, unused-ignore]  # new in 3.13
            lambda identity: secret if identity in (STRICT, LENIENT) else b""
        )
        return context

    def _load(self, context: ssl.SSLContext) -> None:
        _check_private(self.key)
        try:
            context.load_cert_chain(self.cert, self.key, password=_no_passphrase)
        except (OSError, ValueError) as error:
            names = [setting("tls_cert", self.cert), setting("tls_key", self.key)]
            raise UsageError(f"{' and '.join(names)} cannot be used: {_reason(error)}") from None
        try:
            context.load_verify_locations(self.ca)
        except (OSError, ValueError) as error:
            name = setting("tls_ca", self.ca)
            raise UsageError(f"{name} cannot be used: {_reason(error)}") from None

    def check_peer(self, sock: ssl.SSLSocket) -> None:
        """Refuse a peer that has not proved to have the key. OpenSSL has checked certificates, but
        not this: a server that ignores the key and shows any certificate can complete the
        handshake.

        Raises:
            TlsError: the peer has not proved it.
        """
        if self.mode == "certs":
            return
        if not sock.session_reused or sock.getpeercert(True) is not None:
            raise TlsError(f"shows a certificate, not that it has the key; give {certificates()}")


PLAIN = Tls()


def certificates() -> str:
    """The options for certificates."""
    return f"{setting('tls_cert')}, {setting('tls_key')} and {setting('tls_ca')}"


def settings(
    mode: str = "auto",
    cert: str | os.PathLike[str] | None = None,
    key: str | os.PathLike[str] | None = None,
    ca: str | os.PathLike[str] | None = None,
) -> Tls:
    """How to encrypt on this Python with a user's options.

    Args:
        mode: "auto" uses certificates where they are given, else the key where this Python can;
            "require" does the same or fails; "psk" and "certs" insist on one of the two.
        cert, key, ca: paths; all three or none.

    Raises:
        UsageError: the files cannot be used, or this Python cannot do it.

    >>> settings("off")
    Tls(mode='off', cert='', key='', ca='', check_name=True)
    """
    check_mode(mode)
    files = {setting("tls_cert"): cert, setting("tls_key"): key, setting("tls_ca"): ca}
    missing = [name for name, path in files.items() if not path]
    if len(missing) == len(files):
        return Tls(mode=_without_files(mode))
    if missing:
        raise UsageError(f"{certificates()} go together; give {' and '.join(missing)} too")
    if mode in ("psk", "off"):
        raise UsageError(f"{setting('tls', mode)} uses no certificates: leave out {certificates()}")
    assert cert is not None
    assert key is not None
    assert ca is not None
    # A worker's processes open them too, possibly in another working directory.
    where = [os.path.abspath(os.fspath(path)) for path in (cert, key, ca)]
    found = Tls(mode="certs", cert=where[0], key=where[1], ca=where[2])
    found.client_context(b"")  # raises an error now if a file cannot be used
    return found


def check_mode(mode: str) -> None:
    """Refuse an unknown mode.

    Raises:
        UsageError: it is not one of `MODES`.
    """
    if mode not in MODES:
        raise UsageError(f"{setting('tls')} is one of {', '.join(MODES)}, not {mode!r}")


def _without_files(mode: str) -> str:
    if mode == "off" or (mode == "auto" and not can_psk()):
        return "off"
    if mode == "auto":
        return "auto"
    if mode == "certs":
        name = setting("tls", mode)
        raise UsageError(f"{name} needs {certificates()}; `dq keygen --tls DIR` makes them")
    if not can_psk():
        raise UsageError(f"{setting('tls', mode)} {needs_newer()}")
    return "psk"


def needs_newer() -> str:
    """A message that this Python cannot encrypt from the key, and what to do instead."""
    version = ".".join(map(str, sys.version_info[:2]))
    lacks = f"this is {version}" if sys.version_info < (3, 13) else "this one's ssl cannot do that"
    return (
        "encrypts from the key, which needs Python 3.13 or newer on master and workers, and"
        f" {lacks}; certificates work with any Python: `dq keygen --tls DIR` makes them, for"
        f" {certificates()}"
    )


def can_psk() -> bool:
    """Whether this Python can use TLS from the key alone."""
    if sys.version_info < (3, 13):  # older ones need not import ssl
        return False
    try:
        import ssl
    except ImportError:
        return False
    return getattr(ssl, "HAS_PSK", False) and hasattr(ssl.SSLContext, "set_psk_client_callback")


def derive(authkey: bytes) -> bytes:
    """The 32 bytes that TLS gets in place of the key (HKDF, RFC 5869, of one block). So what an
    attacker learns from a challenge is of no use against TLS, and vice versa.

    >>> len(derive(b"only an example"))
    32
    """
    import hmac  # here to keep start-up fast

    extracted = hmac.digest(b"dq-toolkit", authkey, "sha256")
    return hmac.digest(extracted, b"dq tls 1.3 external psk, version 1\x01", "sha256")


def _context(protocol: int) -> ssl.SSLContext:
    import ssl

    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


def _check_private(path: str) -> None:
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        raise UsageError(f"cannot read {setting('tls_key', path)}: {error.strerror}") from None
    if sys.platform != "win32" and mode & 0o066:
        name = setting("tls_key", path)
        raise UsageError(f"others can read or change {name}: chmod 600 it")


def _no_passphrase() -> bytes:
    # OpenSSL would ask for the passphrase on the terminal, in every task process.
    raise ValueError("the key is encrypted, and there is nobody to ask for its passphrase")


def _reason(error: OSError | ValueError) -> str:
    reason = getattr(error, "reason", None)  # an SSLError's
    if reason == "KEY_VALUES_MISMATCH":
        return "the key is not the certificate's"
    if reason is None and isinstance(error, OSError) and error.strerror and error.errno != 9:
        return "it is no PEM file of the kind" if "[SSL" in str(error) else error.strerror
    return "that is no PEM file of the kind" if reason else str(error)


# What went wrong, for users. OpenSSL says "…ALERT…" if the peer reported the fault. It has found
# all others itself.

_FAULTS = {
    "certificate has expired": "has expired",
    "certificate is not yet valid": "is not valid yet; are the clocks right?",
    "ismatch": "is for another name",
    "unsuitable certificate purpose": "is not made for this end of a connection",
}
_ALERTS = {
    "ALERT_UNKNOWN_CA": "it is not signed by the CA that the other end has",
    "ALERT_CERTIFICATE_EXPIRED": "it has expired, by the other end's clock",
    "ALERT_CERTIFICATE_REQUIRED": "there is none",
    "ALERT_BAD_CERTIFICATE": "it is for another name, or damaged",
    "ALERT_UNSUPPORTED_CERTIFICATE": "it is not made for this end of a connection",
    "ALERT_CERTIFICATE_REVOKED": "it has been revoked",
    "ALERT_CERTIFICATE_UNKNOWN": "it does not say why",
}


def is_tls(error: BaseException) -> bool:
    """Whether an error is from OpenSSL."""
    module = sys.modules.get("ssl")
    return module is not None and isinstance(error, module.SSLError)


def was_cut(error: OSError) -> bool:
    """Whether it is OpenSSL's error for a connection that was cut off, so that trying again may
    help. Before 3.11.4, Python with OpenSSL 3 takes every such end for the peer's orderly one
    (CPython issue 95494)."""
    module = sys.modules.get("ssl")
    return module is not None and isinstance(error, (module.SSLEOFError, module.SSLZeroReturnError))


def answered_in_plain(error: OSError) -> bool:
    """Whether a server's answer was not TLS. A challenge, for example, has a length in the place of
    TLS's version."""
    return _name(error) in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "HTTPS_PROXY_REQUEST")


def explain(error: OSError, tls: Tls, where: str) -> ConnectError:
    """The error that a client raises for an error of OpenSSL."""
    reason = _name(error)
    found = _certificate_fault(error)
    if found is not None:
        fault = found or f"is not signed by {setting('tls_ca', tls.ca)}"
        return TlsError(f"the certificate of the master at {where} {fault}")
    alert = _alert(reason)
    if alert is not None:
        return TlsError(f"the master at {where} refuses this end's certificate: {alert}")
    if tls.mode != "certs" and ("ILLEGAL_PARAMETER" in reason or "DECRYPT_ERROR" in reason):
        return AuthenticationFailed(
            f"the master at {where} has another authkey; give both ends the same one"
        )
    if "HANDSHAKE_FAILURE" in reason:
        key = f"from the key ({setting('tls', 'psk')})"
        instead = key if tls.mode == "certs" else f"with {certificates()}"
        return TlsError(f"the master at {where} takes no such TLS; it may want TLS {instead}")
    return TlsError(f"no TLS with {where}: {_words(error)}")


def explain_client(error: OSError, tls: Tls) -> str | None:
    """What a master logs about a client with which TLS has failed. None if the peer may not be a dq
    client at all."""
    reason = _name(error)
    found = _certificate_fault(error)
    if found is not None:
        return f"its certificate {found or 'is not signed by ' + setting('tls_ca', tls.ca)}"
    if "DID_NOT_RETURN_A_CERTIFICATE" in reason:
        return f"it shows no certificate; give it {certificates()}"
    alert = _alert(reason)
    if alert is not None:
        return f"it refuses this master's certificate: {alert}"
    if "BINDER_DOES_NOT_VERIFY" in reason:
        return "it has another authkey"
    if "NO_SHARED_CIPHER" in reason or "NO_SUITABLE" in reason or "CERTIFICATE_SET" in reason:
        return "it wants TLS with certificates, and this master has none"
    return None


def _certificate_fault(error: OSError) -> str | None:
    """What is wrong with the peer's certificate. It is "" if no trusted CA has signed it, and None
    if the error is another one."""
    words = getattr(error, "verify_message", None)
    if words is None:
        # A server's errors do not say more than this, up to and including 3.13.
        return "" if "CERTIFICATE_VERIFY_FAILED" in _name(error) else None
    return next((text for part, text in _FAULTS.items() if part in words), "")


def _alert(reason: str) -> str | None:
    return next((text for part, text in _ALERTS.items() if part in reason), None)


def _name(error: OSError) -> str:
    return str(getattr(error, "reason", None) or "")


def _words(error: OSError) -> str:
    """
    >>> _words(OSError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1000)"))
    'wrong version number'
    """
    text = str(error.strerror or error)
    return text.partition("] ")[2].partition(" (_ssl")[0] or text.partition(" (_ssl")[0]
