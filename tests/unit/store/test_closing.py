"""A store that is closed ends what waits for a server that has gone silent, whoever waits."""

from __future__ import annotations

import socket
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from idcfs.errors import StoreError, StoreUnavailableError
from idcfs.model import Extent
from idcfs.store.retry import RetryPolicy
from idcfs.store.s3 import S3Store
from tests.support.mounting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SOON_S = 3.0
"""Milliseconds here, where no timeout of those that a store has is below 5 s."""


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """A server that answers nothing, and takes one connection."""
    with socket.create_server(("127.0.0.1", 0), backlog=4) as server:
        yield server


def port_of(server: socket.socket) -> int:
    port: int = server.getsockname()[1]
    return port


def get(store: S3Store) -> None:
    store.get_extent("bucket", "series/object", Extent(0, 5), lambda _: None, etag="e")


def list_(store: S3Store) -> None:
    store.list_prefix("bucket", "series/")


def find_checksums(store: S3Store) -> None:
    store.find_checksums("bucket", "series/object", etag="e")


class Asking:
    """A thread that asks a store, and what it meets."""

    def __init__(self, store: S3Store, ask: Callable[[S3Store], object]) -> None:
        self.error: Exception | None = None
        self._store, self._ask = store, ask
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self._ask(self._store)
        except StoreError as exc:
            self.error = exc

    def check_ends(self) -> None:
        self.thread.join(SOON_S)
        assert not self.thread.is_alive()
        assert isinstance(self.error, StoreUnavailableError), self.error


@pytest.mark.parametrize(
    ("ask", "scheme"),
    # A handshake within botocore ends by its timeout of 5 s.
    [(get, "http"), (get, "https"), (list_, "http"), (list_, "https"), (find_checksums, "http")],
)
def test_who_waits_for_an_answer(
    silent: socket.socket, ask: Callable[[S3Store], object], scheme: str
) -> None:
    store = S3Store(endpoint_url=f"{scheme}://127.0.0.1:{port_of(silent)}")
    asking = Asking(store, ask)
    peer, _ = silent.accept()
    with peer:
        assert peer.recv(1)  # it has asked, or begun to speak TLS
        store.close()
        asking.check_ends()


@pytest.mark.parametrize("ask", [get, list_, find_checksums])
def test_who_waits_for_a_proxy(
    silent: socket.socket, ask: Callable[[S3Store], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port_of(silent)}")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    store = S3Store(endpoint_url="http://store.invalid")
    asking = Asking(store, ask)
    peer, _ = silent.accept()
    with peer:
        assert peer.recv(1)
        store.close()
        asking.check_ends()


def test_who_is_about_to_connect() -> None:
    with ExitStack() as stack:
        # What comes to a full queue gets no answer.
        full = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        stack.enter_context(socket.create_connection(full.getsockname()))
        port = port_of(full)
        store = S3Store(endpoint_url=f"http://127.0.0.1:{port}")
        asking = Asking(store, get)
        wait_until(lambda: is_connecting(port), "it waits for a connection")
        store.close()
        asking.check_ends()


def is_connecting(port: int) -> bool:
    """Tell whether a connection to a port of this machine is asked for and not answered."""
    with open("/proc/net/tcp") as table:  # noqa: PTH123  # of the kernel
        return any(
            fields[2].endswith(f":{port:04X}") and fields[3] == "02"
            for fields in map(str.split, table)
        )


def test_who_waits_to_try_again() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = port_of(closed)
    policy = RetryPolicy(first_pause_s=60.0, longest_pause_s=60.0)
    store = S3Store(endpoint_url=f"http://127.0.0.1:{port}", retry=policy)
    asking = Asking(store, get)
    asking.thread.join(0.2)
    assert asking.thread.is_alive()
    store.close()
    asking.check_ends()
