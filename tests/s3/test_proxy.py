"""The fault proxy does to requests what tests rely on it to do."""

from __future__ import annotations

import http.client
import threading
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from idcfs.demo.s3http import Connection
from tests.support.faults import (
    FORBIDDEN,
    NOT_FOUND,
    SERVER_ERROR,
    SLOW_DOWN,
    Answer,
    Corrupt,
    Cut,
    Delay,
    Refuse,
    Reset,
    Shorten,
    Stall,
)

if TYPE_CHECKING:
    from idcfs.demo.replica import ReplicaObject
    from tests.support.proxy import FaultProxy
    from tests.support.replica import ServedReplica


@pytest.fixture
def item(replica: ServedReplica) -> ReplicaObject:
    """An object of half a megabyte."""
    return replica.objects_of(replica.one("CT"))[0]


def get(
    proxy: FaultProxy, item: ReplicaObject, extent: str | None = None, timeout_s: float = 10
) -> tuple[int, bytes]:
    parts = urlsplit(proxy.endpoint_url)
    assert parts.hostname is not None
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout_s)
    try:
        headers = {"Range": extent} if extent else {}
        connection.request("GET", f"/{item.bucket}/{item.key}", headers=headers)
        reply = connection.getresponse()
        return reply.status, reply.read()
    finally:
        connection.close()


def test_without_rules_everything_passes_and_is_logged(
    proxy: FaultProxy, item: ReplicaObject
) -> None:
    assert get(proxy, item) == (200, item.path.read_bytes())
    assert get(proxy, item, "bytes=100-199") == (206, item.path.read_bytes()[100:200])
    with Connection(proxy.endpoint_url) as connection:
        assert item.key in connection.list_objects(item.bucket, f"{item.series.uuid}/")
    proxy.wait_for(lambda proxy: all(one.done for one in proxy.log()))
    whole, part, listing = proxy.log()
    assert (whole.request.path, whole.request.method) == (f"/{item.bucket}/{item.key}", "GET")
    assert (whole.status, whole.body_bytes) == (200, item.size_bytes)
    assert (part.request.range, part.status, part.body_bytes) == ("bytes=100-199", 206, 100)
    assert "list-type=2" in listing.request.query
    assert [one.request.is_object for one in proxy.log()] == [True, True, False]
    proxy.forget()
    assert proxy.log() == ()


def test_a_connection_is_kept_alive(proxy: FaultProxy, item: ReplicaObject) -> None:
    parts = urlsplit(proxy.endpoint_url)
    assert parts.hostname is not None
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=10)
    connection.connect()
    socket_used = connection.sock
    for _ in range(3):
        connection.request("HEAD", f"/{item.bucket}/{item.key}")
        reply = connection.getresponse()
        assert reply.read() == b""
        assert reply.getheader("Content-Length") == str(item.size_bytes)
        assert connection.sock is socket_used
    connection.close()


@pytest.mark.parametrize("answer", [FORBIDDEN, NOT_FOUND, SERVER_ERROR, SLOW_DOWN])
def test_errors_are_answered_as_s3_does(
    proxy: FaultProxy, item: ReplicaObject, answer: Answer
) -> None:
    proxy.fail(answer, times=1)
    status, body = get(proxy, item)
    assert status == answer.status
    assert f"<Code>{answer.code}</Code>".encode() in body
    assert get(proxy, item)[0] == 200


def test_a_rule_applies_only_where_it_matches(proxy: FaultProxy, item: ReplicaObject) -> None:
    proxy.fail(NOT_FOUND, when=lambda request: not request.is_object)
    assert get(proxy, item)[0] == 200


def test_connections_are_refused_or_dropped(proxy: FaultProxy, item: ReplicaObject) -> None:
    proxy.fail(Refuse(), times=1)
    with pytest.raises(http.client.RemoteDisconnected):
        get(proxy, item)
    proxy.close()
    with pytest.raises(ConnectionRefusedError):
        get(proxy, item)
    proxy.open()
    assert get(proxy, item)[0] == 200


def test_a_body_is_cut_reset_and_shortened(proxy: FaultProxy, item: ReplicaObject) -> None:
    proxy.fail(Cut(after_bytes=100_000), times=1)
    with pytest.raises(http.client.IncompleteRead) as cut:
        get(proxy, item)
    assert len(cut.value.partial) == 100_000
    proxy.fail(Reset(after_bytes=100_000), times=1)
    with pytest.raises(ConnectionResetError):
        get(proxy, item)
    proxy.fail(Shorten(by_bytes=10), times=1)
    assert get(proxy, item) == (200, item.path.read_bytes()[:-10])


def test_a_byte_is_changed(proxy: FaultProxy, item: ReplicaObject) -> None:
    proxy.fail(Corrupt(at_byte=200_000), times=1)
    status, body = get(proxy, item)
    expected = bytearray(item.path.read_bytes())
    expected[200_000] ^= 0xFF
    assert (status, body) == (200, bytes(expected))


def test_a_stalled_body_hangs_until_it_is_let_go(proxy: FaultProxy, item: ReplicaObject) -> None:
    proxy.fail(Stall(after_bytes=50_000))
    with pytest.raises(TimeoutError):
        get(proxy, item, timeout_s=0.3)
    outcome: list[BaseException | int] = []

    def read() -> None:
        try:
            outcome.append(get(proxy, item)[0])
        except http.client.IncompleteRead as error:
            outcome.append(len(error.partial))

    reader = threading.Thread(target=read)
    reader.start()
    proxy.wait_for(lambda proxy: sum(one.body_bytes for one in proxy.log()) == 100_000)
    proxy.clear()
    reader.join(10)
    assert outcome == [50_000]


def test_a_delayed_answer_comes_later(proxy: FaultProxy, item: ReplicaObject) -> None:
    proxy.fail(Delay(60))
    reader = threading.Thread(target=get, args=(proxy, item))
    reader.start()
    proxy.wait_for(lambda proxy: len(proxy.log()) == 1)
    assert proxy.log()[0].status is None
    proxy.clear()
    reader.join(10)
    assert proxy.log()[0].status == 200
