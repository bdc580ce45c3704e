"""Where a master is reached."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from dq._support import platform
from dq.errors import ConnectError, UsageError
from dq.manager.server_options import ServerOptions
from dq.master.serving import Serving
from dq.security.tls import PLAIN
from dq.security.tls_options import TlsOptions

KEY = b"only an example"


def serving_with(options: ServerOptions, tls: str = "off") -> Serving:
    return Serving(options, TlsOptions(tls=tls), KEY, lambda line: None)


@contextmanager
def opened(options: ServerOptions) -> Iterator[Serving]:
    serving = serving_with(options)
    serving.open(options.dispatcher(lambda line: None), None)
    try:
        yield serving
    finally:
        serving.close()


def test_it_has_no_address_before_it_is_opened() -> None:
    with pytest.raises(UsageError, match="the master has not started"):
        serving_with(ServerOptions()).address  # noqa: B018  # which raises


def test_without_a_port_it_makes_a_key_and_encrypts_nothing() -> None:
    made = [Serving(ServerOptions(), TlsOptions(), None, print).authkey for _ in range(2)]
    assert made[0] != made[1]
    assert serving_with(ServerOptions(), tls="auto").tls == PLAIN


@pytest.mark.skipif(not platform.unix_sockets(), reason="no Unix sockets here")
def test_without_a_port_it_listens_in_a_folder_that_goes_with_it() -> None:
    with opened(ServerOptions()) as serving:
        path = serving.address
        assert isinstance(path, str)
        assert os.path.exists(path)
    assert not os.path.exists(os.path.dirname(path))


def test_a_fork_leaves_the_folder_to_its_parent() -> None:
    with opened(ServerOptions()) as serving:
        path = serving.address
        serving.after_fork()
        assert not isinstance(path, str) or os.path.isdir(os.path.dirname(path))


def test_processes_here_find_one_that_listens_on_all_addresses_by_that_of_this_machine() -> None:
    with opened(ServerOptions(host="0.0.0.0", port=0)) as serving:
        assert serving.local_address == ("127.0.0.1", serving.address[1])


def test_the_command_to_join_says_what_a_worker_needs() -> None:
    with opened(ServerOptions(host="127.0.0.1", port=0)) as serving:
        where = f"dq worker --server 127.0.0.1:{serving.address[1]}"
        assert serving.join_command(needs_task=False) == where
        assert serving.join_command(needs_task=True) == f"{where} --task TASK"


def test_a_port_that_is_taken_is_refused() -> None:
    with opened(ServerOptions(host="127.0.0.1", port=0)) as serving:
        taken = ServerOptions(host="127.0.0.1", port=int(serving.address[1]))
        with pytest.raises(ConnectError), opened(taken):
            pass
