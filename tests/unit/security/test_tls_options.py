"""What can be asked of TLS."""

from __future__ import annotations

import pytest

from dq.errors import UsageError
from dq.security.tls import PLAIN
from dq.security.tls_options import TlsOptions


def test_a_mode_that_there_is_not_is_refused_at_once() -> None:
    with pytest.raises(UsageError, match="tls is one of auto, psk, certs, require, off, not 'on'"):
        TlsOptions(tls="on")


def test_files_are_looked_at_only_where_they_are_to_be_used() -> None:
    options = TlsOptions(tls_cert="no.pem", tls_key="no.key", tls_ca="no.pem")
    with pytest.raises(UsageError, match=r"cannot read tls_key='.*no.key'"):
        options.settings()


def test_off_is_plain() -> None:
    assert TlsOptions(tls="off").settings() == PLAIN
