"""Where an authkey comes from, and how a key file is kept."""

from __future__ import annotations

import os
import sys

from dq._support.naming import setting, uses_options
from dq.errors import BadKey

TYPE_CHECKING = False  # `typing` takes 5 ms to import, and checkers go by the name

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MIN_KEY_BYTES = 16  # of a key that is used beyond loopback; a shorter one gets a warning


def find(
    authkey: str | bytes | None = None,
    authkey_file: str | os.PathLike[str] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    prompt: Callable[[], str] | None = None,
) -> bytes:
    """Return the authkey from the first place that has one; an empty one is an error.

    Args:
        authkey: the key itself; wins over everything.
        authkey_file: a key file; wins over ``DQ_AUTHKEY_FILE`` and the user's own key file.
        environ: the environment, by default the process's.
        prompt: asks the user, when nothing else has a key.

    Raises BadKey when there is no key, an empty one, or a key file that must not be used.

    >>> find("correct horse")
    b'correct horse'
    >>> find(environ={"DQ_AUTHKEY": "battery staple"})
    b'battery staple'
    """
    environ = os.environ if environ is None else environ
    if authkey is not None:
        return _encode(authkey, f"the authkey given ({setting('authkey')})")
    if "DQ_AUTHKEY" in environ:
        return _encode(environ["DQ_AUTHKEY"], "DQ_AUTHKEY")
    if authkey_file is not None:
        return read(_named(authkey_file, "the key file's name given (--authkey-file)"))
    if "DQ_AUTHKEY_FILE" in environ:
        return read(_named(environ["DQ_AUTHKEY_FILE"], "DQ_AUTHKEY_FILE"))
    own = user_file(environ)
    # lexists: a key file that is a broken link is an error, and not the lack of a key.
    if os.path.lexists(own):
        return read(own)
    if prompt is not None:
        return _encode(prompt(), "the authkey typed at the prompt")
    raise BadKey(_missing(own))


def hint(
    authkey: str | bytes | None = None,
    authkey_file: str | os.PathLike[str] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
) -> str:
    """Where `find` takes the key from, for whoever starts the other end; never the key itself.

    >>> hint(environ={"DQ_AUTHKEY_FILE": "/etc/dq/authkey"})
    'the key file /etc/dq/authkey or a copy of it'
    """
    environ = os.environ if environ is None else environ
    if authkey is not None or "DQ_AUTHKEY" in environ:
        return f"the same {setting('authkey')} or DQ_AUTHKEY"
    file = authkey_file or environ.get("DQ_AUTHKEY_FILE")
    own = user_file(environ)
    if file is None and not os.path.lexists(own):
        return "the key that was typed here"
    return f"the key file {os.path.abspath(file or own)} or a copy of it"


def _missing(own: str) -> str:
    if not uses_options():
        return (
            "no authkey: give authkey=b'...', or set DQ_AUTHKEY, or DQ_AUTHKEY_FILE to the name of"
            f" a key file, or let `dq keygen` write {own}"
        )
    return (
        "no authkey: give --authkey KEY, or set DQ_AUTHKEY, or name a key file with"
        f" --authkey-file or DQ_AUTHKEY_FILE, or let `dq keygen` write {own},"
        " or start dq on a terminal to be asked for it"
    )


def user_file(environ: Mapping[str, str] | None = None) -> str:
    """Return the path of the user's own key file, which ``dq keygen`` writes.

    Args:
        environ: the environment, by default the process's.

    >>> if sys.platform != "win32":
    ...     user_file({"XDG_CONFIG_HOME": "/home/ada/.config"})
    '/home/ada/.config/dq/authkey'
    """
    return os.path.join(_config_folder(os.environ if environ is None else environ), "dq", "authkey")


def _config_folder(environ: Mapping[str, str]) -> str:
    home = environ.get("HOME") or os.path.expanduser("~")
    if sys.platform == "win32":
        return environ.get("APPDATA") or os.path.join(home, "AppData", "Roaming")
    configured = environ.get("XDG_CONFIG_HOME", "")
    # By the XDG specification a relative path is ignored: it would change with the folder.
    return configured if os.path.isabs(configured) else os.path.join(home, ".config")


def read(path: str | os.PathLike[str]) -> bytes:
    """Return the key in a key file, without the newline that ends it.

    Args:
        path: a file that only its owner can read or write.

    Raises BadKey when the file is missing, unreadable, empty, or open to others.

    >>> read("/nonexistent/authkey")
    Traceback (most recent call last):
    dq.errors.BadKey: cannot read the key file /nonexistent/authkey: No such file or directory
    """
    name = os.fspath(path)
    try:
        with open(name, "rb") as file:
            # fstat, not stat: the mode of the file that was opened, not of one that replaced it.
            mode = os.fstat(file.fileno()).st_mode
            key = file.read()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise BadKey(f"cannot read the key file {name}: {_reason(error)}") from error
    # Whoever can write it can choose the key, which is no better than reading it.
    if sys.platform != "win32" and mode & 0o066:
        raise BadKey(f"others can read or change the key file {name}: chmod 600 {_quoted(name)}")
    return _refuse_empty(_without_newline(key), f"the key file {name}")


def write(path: str | os.PathLike[str], *, force: bool = False) -> bytes:
    """Write a new random key to a file that only its owner can read, and return the key.

    Args:
        path: the key file; its folder is made where it is missing.
        force: replace a file that is there already.

    Raises BadKey when the file is there already, or cannot be written.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write(folder + "/authkey") == read(folder + "/authkey")
    True
    """
    name = os.fspath(path)
    key = generate()
    try:
        if not force and os.path.lexists(name):
            raise BadKey(f"{name} is there already: --force replaces the key in it")
        os.makedirs(os.path.dirname(name) or os.curdir, mode=0o700, exist_ok=True)
        if force:
            _replace(name, key)
        else:
            _create(name, key)
    except (OSError, ValueError) as error:
        raise BadKey(f"cannot write the key file {name}: {_reason(error)}") from error
    return key


def generate() -> bytes:
    """Return a new key with 256 bits of randomness, as printable ASCII.

    >>> len(generate())
    43
    """
    import secrets  # here to keep start-up fast

    return secrets.token_urlsafe(32).encode("ascii")


def check(key: bytes, host: str) -> str | None:
    """Return a one-line warning when a key is too short for where it is used, else None.

    Args:
        key: the authkey.
        host: the host name or address that is bound.

    Raises BadKey when the key is empty.

    >>> check(b"abc", "127.0.0.1")
    >>> check(b"abc", "0.0.0.0")
    'the authkey has 3 bytes, too few where others can connect: dq keygen makes a good one'
    """
    _refuse_empty(key, "the authkey")
    if len(key) >= MIN_KEY_BYTES or _is_loopback(host):
        return None
    return (
        f"the authkey has {len(key)} bytes, too few where others can connect: "
        "dq keygen makes a good one"
    )


def scrub(environ: Mapping[str, str]) -> dict[str, str]:
    """Return an environment for child processes, without the variables that hold a key.

    Args:
        environ: the environment to copy.

    >>> scrub({"DQ_AUTHKEY": "k", "DQ_MASTER_AUTHKEY": "k", "DQ_AUTHKEY_FILE": "f", "HOME": "/"})
    {'DQ_AUTHKEY_FILE': 'f', 'HOME': '/'}
    """
    return {name: value for name, value in environ.items() if not _holds_key(name)}


def _holds_key(name: str) -> bool:
    return name.startswith("DQ_") and name.endswith("_AUTHKEY")


def _encode(authkey: str | bytes, source: str) -> bytes:
    if isinstance(authkey, str):
        try:
            # As os.fsencode would, but the same bytes whatever the locale of this machine.
            authkey = authkey.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError as error:
            raise BadKey(
                f"{source} has a character that UTF-8 cannot encode; `dq keygen` makes a good key"
            ) from error
    if not isinstance(authkey, bytes | bytearray):  # bytes(5) would be five zeros
        raise BadKey(f"{source} must be a string or bytes, not {type(authkey).__name__}")
    # bytes(): multiprocessing's AuthenticationString refuses to be pickled, a plain copy does not.
    return bytes(_refuse_empty(authkey, source))


def _refuse_empty(key: bytes, source: str) -> bytes:
    if not key:
        raise BadKey(
            f"{source} is empty: an empty key protects nothing, dq keygen makes a good one"
        )
    return key


def _named(path: str | os.PathLike[str], source: str) -> str:
    name = os.fspath(path)
    if not name:
        raise BadKey(f"{source} is empty: name a key file, as dq keygen writes one")
    return name


def _without_newline(key: bytes) -> bytes:
    return key[:-2] if key.endswith(b"\r\n") else key.removesuffix(b"\n")


def _is_loopback(host: str) -> bool:
    if host.lower() in ("localhost", "::1", "[::1]"):
        return True
    # Numbers only: 127.0.0.1.example.org is a name, and may be bound anywhere.
    parts = host.split(".")
    return parts[0] == "127" and all(part.isdigit() for part in parts)


def _replace(path: str, key: bytes) -> None:
    """Put the key at the path in one step: a reader gets either the old key or the new one."""
    import secrets  # here to keep start-up fast

    temporary = f"{path}.{secrets.token_hex(4)}.tmp"
    _create(temporary, key)
    try:
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _create(path: str, key: bytes) -> None:
    # O_EXCL neither follows a link nor takes a file that someone else has opened before.
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(key + b"\n")
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        os.unlink(path)  # nobody would notice that half of the key is missing
        raise


def _reason(error: OSError | ValueError) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error)


def _quoted(path: str) -> str:
    import shlex  # here to keep start-up fast: only an error needs it

    return shlex.quote(path)
