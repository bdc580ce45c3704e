"""The options of TLS."""

from __future__ import annotations

import os

from dq._support.frozen import frozen
from dq.security.tls import Tls, check_mode, settings


@frozen
class TlsOptions:
    """How connections to a port should be encrypted; `settings` resolves this for this Python.

    Args:
        tls: one of `dq.security.tls.MODES`.
        tls_cert: a PEM file with this end's certificate.
        tls_key: a PEM file with its key.
        tls_ca: a PEM file with the CA that signed the other end's certificate.

    Raises:
        UsageError: there is no such mode.
    """

    tls: str = "auto"
    tls_cert: str | os.PathLike[str] | None = None
    tls_key: str | os.PathLike[str] | None = None
    tls_ca: str | os.PathLike[str] | None = None

    def __post_init__(self) -> None:
        check_mode(self.tls)

    def settings(self) -> Tls:
        """How to encrypt, on this Python and with these files.

        Raises:
            UsageError: the files cannot be used, or this Python cannot do it.
        """
        return settings(self.tls, self.tls_cert, self.tls_key, self.tls_ca)
