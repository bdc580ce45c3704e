"""Where an authkey comes from, and how a key file is kept."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable
from multiprocessing import process
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dq.errors import BadKey
from dq.security import keys

posix = pytest.mark.skipif(sys.platform == "win32", reason="modes of files are POSIX's")

FIVE_WAYS = ["--authkey ", "DQ_AUTHKEY,", "--authkey-file", "DQ_AUTHKEY_FILE", "keygen", "terminal"]


def key_file(path: Path, content: bytes = b"from-a-file\n", mode: int = 0o600) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(mode)
    return path


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def no_prompt() -> str:
    raise AssertionError("the prompt was reached")


@pytest.fixture
def everywhere(tmp_path: Path) -> dict[str, str]:
    """An environment that has a different key in each of its three places."""
    key_file(tmp_path / "dq" / "authkey", b"own")
    return {
        "DQ_AUTHKEY": "variable",
        "DQ_AUTHKEY_FILE": str(key_file(tmp_path / "named", b"named-by-variable")),
        "XDG_CONFIG_HOME": str(tmp_path),
    }


# --- find: the order ---


def test_the_key_given_wins_over_everything(everywhere: dict[str, str]) -> None:
    found = keys.find("given", "/nonexistent", environ=everywhere, prompt=no_prompt)
    assert found == b"given"


def test_the_variable_wins_over_the_file_given(everywhere: dict[str, str]) -> None:
    assert keys.find(None, "/nonexistent", environ=everywhere, prompt=no_prompt) == b"variable"


def test_the_file_given_wins_over_the_file_variable(
    everywhere: dict[str, str], tmp_path: Path
) -> None:
    del everywhere["DQ_AUTHKEY"]
    given_file = key_file(tmp_path / "given", b"file-given")
    assert keys.find(None, given_file, environ=everywhere, prompt=no_prompt) == b"file-given"


def test_the_file_variable_wins_over_the_users_own_file(everywhere: dict[str, str]) -> None:
    del everywhere["DQ_AUTHKEY"]
    assert keys.find(environ=everywhere, prompt=no_prompt) == b"named-by-variable"


def test_the_users_own_file_wins_over_the_prompt(everywhere: dict[str, str]) -> None:
    del everywhere["DQ_AUTHKEY"], everywhere["DQ_AUTHKEY_FILE"]
    assert keys.find(environ=everywhere, prompt=no_prompt) == b"own"


def test_the_prompt_comes_last(tmp_path: Path) -> None:
    environ = {"XDG_CONFIG_HOME": str(tmp_path)}
    assert keys.find(environ=environ, prompt=lambda: "typed") == b"typed"


def test_without_any_key_one_line_names_every_way_to_give_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dq._support.naming._by_options", True)
    with pytest.raises(BadKey) as refused:
        keys.find(environ={"XDG_CONFIG_HOME": str(tmp_path)})
    message = str(refused.value)
    missing = [way for way in FIVE_WAYS if way not in message]
    assert (missing, "\n" in message) == ([], False)


def test_without_any_key_the_users_own_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadKey) as refused:
        keys.find(environ={"XDG_CONFIG_HOME": str(tmp_path)})
    assert str(tmp_path / "dq" / "authkey") in str(refused.value)


def test_the_environment_is_the_processs_own_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DQ_AUTHKEY", "set-just-now")
    assert keys.find() == b"set-just-now"


@posix
def test_the_users_own_file_that_others_can_read_is_refused_and_not_passed_over(
    tmp_path: Path,
) -> None:
    key_file(tmp_path / "dq" / "authkey", mode=0o644)
    with pytest.raises(BadKey, match="chmod 600"):
        keys.find(environ={"XDG_CONFIG_HOME": str(tmp_path)}, prompt=no_prompt)


@posix
def test_the_users_own_file_that_is_a_broken_link_is_refused_and_not_passed_over(
    tmp_path: Path,
) -> None:
    (tmp_path / "dq").mkdir()
    (tmp_path / "dq" / "authkey").symlink_to(tmp_path / "gone")
    with pytest.raises(BadKey, match="No such file"):
        keys.find(environ={"XDG_CONFIG_HOME": str(tmp_path)}, prompt=no_prompt)


# --- find: an empty key ---


@pytest.mark.parametrize(
    ("find", "source"),
    [
        (lambda: keys.find(""), "the authkey given"),
        (lambda: keys.find(b""), "the authkey given"),
        (lambda: keys.find(environ={"DQ_AUTHKEY": ""}), "DQ_AUTHKEY is"),
        (lambda: keys.find(None, "", environ={}), "--authkey-file"),
        (lambda: keys.find(environ={"DQ_AUTHKEY_FILE": ""}), "DQ_AUTHKEY_FILE is"),
        (lambda: keys.find(environ={"HOME": "/nonexistent"}, prompt=str), "prompt"),
    ],
)
def test_an_empty_key_is_refused_and_its_source_named(
    find: Callable[[], bytes], source: str
) -> None:
    with pytest.raises(BadKey, match=f"{source}.*empty"):
        find()


@pytest.mark.parametrize("content", [b"", b"\n", b"\r\n"])
def test_an_empty_key_file_is_refused_and_named(tmp_path: Path, content: bytes) -> None:
    path = key_file(tmp_path / "blank", content)
    with pytest.raises(BadKey, match=r"blank is empty"):
        keys.find(None, path, environ={})


# --- find: text and bytes ---


@given(st.binary(min_size=1))
def test_bytes_are_the_key_as_they_are(key: bytes) -> None:
    assert keys.find(key) == key


@given(st.binary(min_size=1))
def test_a_text_that_stands_for_undecodable_bytes_is_those_bytes(key: bytes) -> None:
    assert keys.find(key.decode("utf-8", "surrogateescape")) == key


def test_a_text_is_encoded_as_utf_8() -> None:
    assert keys.find("clé") == b"cl\xc3\xa9"


def test_a_text_that_no_bytes_stand_for_is_refused() -> None:
    with pytest.raises(BadKey, match="UTF-8 cannot encode"):
        keys.find("\ud800")


def test_the_standard_librarys_own_key_becomes_plain_bytes() -> None:
    own = process.AuthenticationString(b"k")  # type: ignore[attr-defined]
    assert type(keys.find(own)) is bytes


# --- user_file ---


@posix
@pytest.mark.parametrize(
    ("environ", "path"),
    [
        ({"XDG_CONFIG_HOME": "/x", "HOME": "/h"}, "/x/dq/authkey"),
        ({"XDG_CONFIG_HOME": "", "HOME": "/h"}, "/h/.config/dq/authkey"),
        ({"XDG_CONFIG_HOME": "relative", "HOME": "/h"}, "/h/.config/dq/authkey"),
        ({"HOME": "/h"}, "/h/.config/dq/authkey"),
    ],
)
def test_the_users_own_file_is_in_the_config_folder(environ: dict[str, str], path: str) -> None:
    assert keys.user_file(environ) == path


@pytest.mark.parametrize(
    ("environ", "folders"),
    [
        ({"APPDATA": "/roaming"}, ["/roaming"]),
        ({"HOME": "/h"}, ["/h", "AppData", "Roaming"]),
    ],
)
def test_the_users_own_file_is_in_appdata_on_windows(
    monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], folders: list[str]
) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    assert keys.user_file(environ) == os.path.join(*folders, "dq", "authkey")


# --- read ---


@pytest.mark.parametrize(
    ("content", "key"),
    [
        (b"k", b"k"),
        (b"k\n", b"k"),
        (b"k\r\n", b"k"),
        (b"k\n\n", b"k\n"),
        (b" k \n", b" k "),
        (b"\x00\xff\n", b"\x00\xff"),
    ],
)
def test_one_newline_is_stripped_from_a_key_file(
    tmp_path: Path, content: bytes, key: bytes
) -> None:
    assert keys.read(key_file(tmp_path / "key", content)) == key


@posix
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o620, 0o602, 0o666])
def test_a_key_file_open_to_others_is_refused_with_the_command_that_helps(
    tmp_path: Path, mode: int
) -> None:
    path = key_file(tmp_path / "my key", mode=mode)
    with pytest.raises(BadKey, match=f"chmod 600 '{path}'"):
        keys.read(path)


@posix
@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700])
def test_a_key_file_of_its_owner_alone_is_read(tmp_path: Path, mode: int) -> None:
    assert keys.read(key_file(tmp_path / "key", mode=mode)) == b"from-a-file"


def test_modes_are_not_looked_at_on_windows(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = key_file(tmp_path / "key", mode=0o666)
    monkeypatch.setattr(sys, "platform", "win32")
    assert keys.read(path) == b"from-a-file"


@pytest.mark.parametrize("name", ["missing", ".", "missing/too", "nul\0"])
def test_a_key_file_that_cannot_be_read_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadKey, match=r"\Acannot read the key file .*: .+\Z"):
        keys.read(os.path.join(tmp_path, name))


@posix
def test_a_key_can_come_through_a_pipe() -> None:
    reader, writer = os.pipe()
    os.write(writer, b"piped\n")
    os.close(writer)
    try:
        assert keys.read(f"/dev/fd/{reader}") == b"piped"
    finally:
        os.close(reader)


# --- write ---


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "key"
    assert keys.write(path) == keys.read(path)


def test_a_bare_file_name_is_written_in_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    keys.write("key")
    assert (tmp_path / "key").is_file()


def test_a_key_has_256_bits_of_randomness() -> None:
    made = {keys.generate() for _ in range(100)}
    assert (len(made), {len(key) for key in made}) == (100, {43})  # 43 characters of 6 bits


@posix
@pytest.mark.parametrize("force", [False, True])
def test_a_key_file_is_its_owners_alone_whatever_the_umask(tmp_path: Path, force: bool) -> None:
    previous = os.umask(0)
    try:
        keys.write(tmp_path / "folder" / "key", force=force)
    finally:
        os.umask(previous)
    assert mode_of(tmp_path / "folder" / "key") == 0o600
    assert mode_of(tmp_path / "folder") == 0o700


def test_a_key_file_is_not_overwritten(tmp_path: Path) -> None:
    path = key_file(tmp_path / "key", b"precious")
    with pytest.raises(BadKey, match="--force"):
        keys.write(path)
    assert path.read_bytes() == b"precious"


def test_a_key_file_made_at_the_same_moment_is_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = key_file(tmp_path / "key", b"precious")
    monkeypatch.setattr(os.path, "lexists", lambda path: False)
    with pytest.raises(BadKey, match="exists"):
        keys.write(path)
    assert path.read_bytes() == b"precious"


@posix
def test_a_key_is_not_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "key").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BadKey):
        keys.write(tmp_path / "key")
    assert not (tmp_path / "elsewhere").exists()


def test_force_replaces_the_key(tmp_path: Path) -> None:
    path = key_file(tmp_path / "key", mode=0o644)
    assert keys.write(path, force=True) == keys.read(path) != b"from-a-file"


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_key_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    path = key_file(tmp_path / "key", b"precious")
    monkeypatch.setattr(os, failing, full)
    with pytest.raises(BadKey, match="No space left"):
        keys.write(path, force=True)
    assert [(entry.name, entry.read_bytes()) for entry in tmp_path.iterdir()] == [
        ("key", b"precious")
    ]


@pytest.mark.parametrize("name", ["file/key", "nul\0"])
def test_a_key_file_that_cannot_be_written_is_refused_in_one_line(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadKey, match=r"\Acannot write the key file .*: .+\Z"):
        keys.write(os.path.join(tmp_path, name))


def test_a_folder_is_not_replaced_by_a_key_file(tmp_path: Path) -> None:
    (tmp_path / "key").mkdir()
    with pytest.raises(BadKey, match="cannot write"):
        keys.write(tmp_path / "key", force=True)
    assert [entry.name for entry in tmp_path.iterdir()] == ["key"]


# --- check ---

BEYOND = ["", "0.0.0.0", "::", "192.0.2.7", "example.org", "127.0.0.1.example.org", "128.0.0.1"]
LOOPBACK = ["127.0.0.1", "127.1.2.3", "localhost", "LOCALHOST", "::1"]


@pytest.mark.parametrize("host", BEYOND)
def test_a_short_key_beyond_loopback_gives_one_line_of_warning(host: str) -> None:
    warning = keys.check(b"x" * 15, host)
    assert warning is not None
    assert "\n" not in warning


@pytest.mark.parametrize("host", LOOPBACK)
def test_a_short_key_on_loopback_gives_no_warning(host: str) -> None:
    assert keys.check(b"x", host) is None


@pytest.mark.parametrize("host", BEYOND)
def test_a_key_of_16_bytes_gives_no_warning(host: str) -> None:
    assert keys.check(b"x" * 16, host) is None


@pytest.mark.parametrize("host", ["0.0.0.0", "127.0.0.1"])
def test_an_empty_key_is_refused_for_every_host(host: str) -> None:
    with pytest.raises(BadKey, match="empty"):
        keys.check(b"", host)


# --- scrub ---


@pytest.mark.parametrize("name", ["DQ_AUTHKEY", "DQ_MASTER_AUTHKEY", "DQ_RUN_AUTHKEY"])
def test_a_variable_that_holds_a_key_is_scrubbed(name: str) -> None:
    assert keys.scrub({name: "secret"}) == {}


@pytest.mark.parametrize(
    "name", ["DQ_AUTHKEY_FILE", "DQ_MASTER_AUTHKEY_FILE", "DQ_PORT", "MY_AUTHKEY", "PATH"]
)
def test_every_other_variable_stays(name: str) -> None:
    assert keys.scrub({name: "value"}) == {name: "value"}


def test_scrubbing_leaves_the_original_as_it_was() -> None:
    environ = {"DQ_AUTHKEY": "secret"}
    keys.scrub(environ)
    assert environ == {"DQ_AUTHKEY": "secret"}
