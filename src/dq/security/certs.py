"""Makes a small CA, with one certificate for the master and one for workers: `dq keygen --tls`.

It calls `openssl`, which nearly every machine has, and takes 0.1 s. The package `cryptography`
would take as long, need half as much code again, and have to be installed first, with 18 MB.
"""

from __future__ import annotations

import ipaddress
import os
import re
import shutil
import socket
import subprocess
import tempfile

from dq._support.frozen import frozen
from dq.errors import UsageError

YEAR = 365  # days that a certificate is valid
DECADE = 3650  # days that the CA is valid
LOCAL = ("localhost", "127.0.0.1", "::1")


@frozen
class Leaf:
    """One of the two certificates.

    Args:
        file: its name without the suffix.
        usage: its extended key usage, as RFC 5280 names it.
        hosts: the names and addresses for which it is valid.
    """

    file: str
    usage: tuple[str, ...]
    hosts: tuple[str, ...]


FILES = ("ca.key", "ca.pem", "master.key", "master.pem", "worker.key", "worker.pem")


def make(folder: str, hosts: tuple[str, ...] = (), *, force: bool = False) -> tuple[str, ...]:
    """Write a new CA and its two certificates, which only their owner can read.

    Args:
        folder: where to write them; created if it is missing.
        hosts: names and addresses by which workers know the master; without any, this machine's
            name.
        force: replace existing files.

    Returns:
        The names and addresses that the master's certificate is for.

    Raises:
        UsageError: a file exists already, or cannot be made or written.
    """
    _check_hosts(hosts)
    there = [name for name in FILES if os.path.lexists(os.path.join(folder, name))]
    if there and not force:
        raise UsageError(f"{os.path.join(folder, there[0])} is there already: --force replaces all")
    if shutil.which("openssl") is None:
        raise UsageError(
            "certificates need the program openssl; make them where it is, and copy them from there"
        )
    names = tuple(dict.fromkeys((*(hosts or (socket.gethostname(),)), *LOCAL)))
    leaves = (
        # For clients too, since a master's own workers use it.
        Leaf(file="master", usage=("serverAuth", "clientAuth"), hosts=names),
        # Not for servers, so that nobody can pass for a master with a stolen one.
        Leaf(file="worker", usage=("clientAuth",), hosts=("dq-worker",)),
    )
    try:
        _write(folder, leaves)
    except OSError as error:
        raise UsageError(f"cannot write to {folder}: {error.strerror}") from None
    return names


def _check_hosts(hosts: tuple[str, ...]) -> None:
    """Refuse hosts that openssl's configuration would not take for a name or an address."""
    for host in hosts:
        if not _is_address(host) and not re.fullmatch(
            r"(\*\.)?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*", host
        ):
            raise UsageError(f"--host {host!r} is neither a host's name nor an address")


def _write(folder: str, leaves: tuple[Leaf, ...]) -> None:
    """Make all files, and move them into the folder when they are complete."""
    os.makedirs(folder, mode=0o700, exist_ok=True)
    os.chmod(folder, 0o700)
    with tempfile.TemporaryDirectory(prefix=".dq-", dir=folder) as draft:
        _make_certificates(draft, leaves)
        for name in FILES:
            path = os.path.join(draft, name)
            os.chmod(path, 0o600)
            os.replace(path, os.path.join(folder, name))


# All options for openssl are in a file, since older versions and LibreSSL have no arguments for
# some of them.
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


def _make_certificates(folder: str, leaves: tuple[Leaf, ...]) -> None:
    _configure(folder, "dq CA", Leaf(file="ca", usage=("serverAuth",), hosts=("localhost",)))
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
        hosts=", ".join(f"{'IP' if _is_address(host) else 'DNS'}:{host}" for host in leaf.hosts),
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


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
