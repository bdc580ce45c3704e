"""A small CA with a certificate each for master and workers: `dq keygen --tls`.

Made by `openssl`, which nearly every machine has, or by the `cryptography` package.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
import shutil
import socket
import subprocess
import tempfile
from typing import Any

from dq._support.frozen import frozen
from dq.errors import UsageError

YEAR = 365  # days that a certificate lasts
DECADE = 3650  # days that the CA does
LOCAL = ("localhost", "127.0.0.1", "::1")


@frozen
class Leaf:
    """One of the two certificates.

    Args:
        file: its name, without what follows the dot.
        usage: what it may be used for, as RFC 5280 names that.
        hosts: names and addresses that it is for.
    """

    file: str
    usage: tuple[str, ...]
    hosts: tuple[str, ...]


FILES = ("ca.key", "ca.pem", "master.key", "master.pem", "worker.key", "worker.pem")


def make(folder: str, hosts: tuple[str, ...] = (), *, force: bool = False) -> tuple[str, ...]:
    """Write a new CA and its two certificates, readable by their owner alone.

    Args:
        folder: where to; made where it is missing.
        hosts: names and addresses by which workers know the master; None for this machine's name.
        force: replace what is there.

    Returns:
        The names and addresses that the master's certificate is for.

    Raises:
        UsageError: something is there already, or cannot be written or made.
    """
    for host in hosts:
        if not _address(host) and not re.fullmatch(
            r"(\*\.)?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*", host
        ):
            raise UsageError(f"--host {host!r} is neither a host's name nor an address")
    names = tuple(dict.fromkeys((*(hosts or (socket.gethostname(),)), *LOCAL)))
    leaves = (
        # As a client too: a master's own workers show it.
        Leaf("master", ("serverAuth", "clientAuth"), names),
        Leaf("worker", ("clientAuth",), ("dq-worker",)),  # no stolen one makes a master
    )
    there = [name for name in FILES if os.path.lexists(os.path.join(folder, name))]
    if there and not force:
        raise UsageError(f"{os.path.join(folder, there[0])} is there already: --force replaces all")
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        os.chmod(folder, 0o700)
        with tempfile.TemporaryDirectory(prefix=".dq-", dir=folder) as draft:
            _maker()(draft, leaves)
            for name in FILES:
                path = os.path.join(draft, name)
                os.chmod(path, 0o600)
                os.replace(path, os.path.join(folder, name))
    except OSError as error:
        raise UsageError(f"cannot write to {folder}: {error.strerror}") from None
    return names


def _maker() -> Any:
    if shutil.which("openssl"):
        return _with_openssl
    with contextlib.suppress(ImportError):
        import cryptography  # type: ignore[import-not-found, unused-ignore]  # noqa: F401  # the tls extra

        return _with_cryptography
    raise UsageError(
        "certificates need the program openssl, or pip install 'dq-toolkit[tls]'; there is neither"
    )


# With openssl

# Everything in a file: older ones, and LibreSSL, have no options for it.
_CONFIG = """\
[req]
prompt = no
distinguished_name = name
[name]
CN = {name}
[ca]
basicConstraints = critical, CA:TRUE, pathlen:0
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[leaf]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = {usage}
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = {hosts}
"""


def _with_openssl(folder: str, leaves: tuple[Leaf, ...]) -> None:
    _configure(folder, "dq CA", Leaf("ca", ("serverAuth",), ("localhost",)))
    _openssl(folder, "ecparam -name prime256v1 -genkey -noout -out ca.key")
    _openssl(
        folder,
        f"req -new -x509 -key ca.key -sha256 -days {DECADE} -config ca.cnf -extensions ca"
        " -out ca.pem",
    )
    for leaf in leaves:
        name = leaf.file
        _configure(folder, f"dq {name}", leaf)
        _openssl(folder, f"ecparam -name prime256v1 -genkey -noout -out {name}.key")
        _openssl(folder, f"req -new -key {name}.key -sha256 -config {name}.cnf -out {name}.csr")
        serial = int.from_bytes(os.urandom(16), "big")
        _openssl(
            folder,
            f"x509 -req -in {name}.csr -sha256 -days {YEAR} -CA ca.pem -CAkey ca.key"
            f" -set_serial {serial} -extfile {name}.cnf -extensions leaf -out {name}.pem",
        )


def _configure(folder: str, name: str, leaf: Leaf) -> None:
    text = _CONFIG.format(
        name=name,
        usage=", ".join(leaf.usage),
        hosts=", ".join(f"{'IP' if _address(host) else 'DNS'}:{host}" for host in leaf.hosts),
    )
    with open(os.path.join(folder, f"{leaf.file}.cnf"), "w", encoding="utf-8") as file:
        file.write(text)


def _openssl(folder: str, arguments: str) -> None:
    done = subprocess.run(
        ["openssl", *arguments.split()],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        umask=0o077 if os.name == "posix" else -1,
    )
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["no word why"]
        raise UsageError(f"openssl {arguments.split()[0]} failed: {said[-1]}")


def _address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


# With cryptography


def _with_cryptography(folder: str, leaves: tuple[Leaf, ...]) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec  # type: ignore[import-not-found, unused-ignore]

    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca_name = _named("dq CA")
    usage = dict.fromkeys(_USAGES, False)
    ca = (
        _builder(ca_key.public_key(), ca_name, ca_name, DECADE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(
            x509.KeyUsage(**{**usage, "key_cert_sign": True, "crl_sign": True}), critical=True
        )
    )
    _write(folder, "ca", ca_key, _signed(ca, ca_key))
    for leaf in leaves:
        key = ec.generate_private_key(ec.SECP256R1())
        purposes = [_PURPOSES[purpose] for purpose in leaf.usage]
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
        builder = (
            _builder(key.public_key(), _named(f"dq {leaf.file}"), ca_name, YEAR)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.KeyUsage(**{**usage, "digital_signature": True}), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage([x509.ObjectIdentifier(oid) for oid in purposes]),
                critical=False,
            )
            .add_extension(issuer, critical=False)
            .add_extension(
                x509.SubjectAlternativeName([_general(host) for host in leaf.hosts]),
                critical=False,
            )
        )
        _write(folder, leaf.file, key, _signed(builder, ca_key))


_PURPOSES = {"serverAuth": "1.3.6.1.5.5.7.3.1", "clientAuth": "1.3.6.1.5.5.7.3.2"}
_USAGES = (
    *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment"),
    *("key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
)


def _named(name: str) -> Any:
    from cryptography import x509

    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])


def _general(host: str) -> Any:
    from cryptography import x509

    if _address(host):
        return x509.IPAddress(ipaddress.ip_address(host))
    return x509.DNSName(host)


def _builder(public_key: Any, subject: Any, issuer: Any, days: int) -> Any:
    import datetime

    from cryptography import x509

    now = datetime.datetime.now(datetime.timezone.utc)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))  # for clocks that are a bit behind
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _signed(builder: Any, ca_key: Any) -> bytes:
    from cryptography.hazmat.primitives import hashes, serialization  # type: ignore[import-not-found, unused-ignore]

    certificate = builder.sign(ca_key, hashes.SHA256())
    pem: bytes = certificate.public_bytes(serialization.Encoding.PEM)
    return pem


def _write(folder: str, name: str, key: Any, certificate: bytes) -> None:
    from cryptography.hazmat.primitives import serialization

    secret: bytes = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    for suffix, data in (("key", secret), ("pem", certificate)):
        descriptor = os.open(
            os.path.join(folder, f"{name}.{suffix}"), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600
        )
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
