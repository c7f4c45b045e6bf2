"""S3Store's multiplexer against servers: TLS, many at once, and what comes of an unusual answer."""

from __future__ import annotations

import os
import select
import ssl
import threading
import time
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
import trustme

from idcfs.errors import ObjectNotFoundError, StoreUnavailableError
from idcfs.model import Extent
from idcfs.store.outage import Outage
from idcfs.store.protocol import AskOtherwiseError, ExtentRequest
from idcfs.store.retry import RetryPolicy
from idcfs.store.s3 import S3Store
from tests.support.mounting import wait_until
from tests.support.scripted import ETAG, Request, ScriptedServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from idcfs.store import ObjectStore
    from idcfs.store.protocol import Multiplexer

CONTENT = bytes(range(256)) * 8000
RECORD_BYTES = 1 << 14
"""The most that a record of TLS holds."""
PATIENCE_S = 20.0


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name in ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(params=["TLS", "plain"])
def tls(
    request: pytest.FixtureRequest,
    authority: trustme.CA,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> ssl.SSLContext | None:
    """The side of a server that is trusted; None for one without TLS."""
    if request.param == "plain":
        return None
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    monkeypatch.setenv("AWS_CA_BUNDLE", str(path))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


def send(request: Request, _: int = 0) -> None:
    request.send_range(CONTENT)


def store_at(url: str) -> S3Store:
    return S3Store(endpoint_url=url, retry=RetryPolicy(attempts=1), read_timeout_s=5)


class Exchange:
    """One object that is asked for, and what became of it."""

    def __init__(self, multiplexer: Multiplexer, length: int, key: str = "s/x.dcm") -> None:
        self.content = CONTENT[:length]
        self.received = bytearray()
        self.ends: list[Exception | None] = []
        extent, sink = Extent(0, length), self.received.extend
        self.drop = multiplexer.begin(
            ExtentRequest("bucket", key, extent, ETAG, sink, self.ends.append)
        )

    @property
    def is_well(self) -> bool:
        return self.ends == [None] and self.received == self.content


def keep_connections(store: ObjectStore, server: ScriptedServer, count: int) -> None:
    """Have the store keep so many connections, by as many requests at once."""
    barrier = threading.Barrier(count)

    def ask() -> None:
        waited = False

        def sink(_: memoryview) -> None:
            nonlocal waited
            if not waited:
                waited = True
                barrier.wait(PATIENCE_S)

        store.get_extent("bucket", "s/first.dcm", Extent(0, 100), sink, etag=ETAG)

    threads = [threading.Thread(target=ask) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert server.connections == count


def run(multiplexer: Multiplexer, exchanges: list[Exchange]) -> None:
    """Have all exchanges come to their ends."""
    waiting = select.poll()
    waiting.register(multiplexer.fileno(), select.POLLIN)
    until_s = time.monotonic() + PATIENCE_S
    while not all(exchange.ends for exchange in exchanges):
        assert waiting.poll(PATIENCE_S * 1000), "nothing comes"
        assert time.monotonic() < until_s, "it does not end"
        multiplexer.turn()


LENGTHS = [1, RECORD_BYTES, RECORD_BYTES + 1, 16 * RECORD_BYTES, 40 * RECORD_BYTES + 7]


@pytest.mark.parametrize("length", [*LENGTHS, len(CONTENT)])
def test_objects_of_every_size_come_over_one_connection(
    tls: ssl.SSLContext | None, length: int
) -> None:
    with ScriptedServer(send, tls=tls) as server, closing(store_at(server.url)) as store:
        keep_connections(store, server, 1)
        with closing(store.find_multiplexer()) as multiplexer:
            for _ in range(3):
                exchange = Exchange(multiplexer, length)
                run(multiplexer, [exchange])
                assert exchange.is_well
        assert (len(server.requests), server.connections) == (4, 1)


def test_several_at_once_keep_apart(tls: ssl.SSLContext | None) -> None:
    with ScriptedServer(send, tls=tls) as server, closing(store_at(server.url)) as store:
        keep_connections(store, server, len(LENGTHS))
        with closing(store.find_multiplexer()) as multiplexer:
            for _ in range(3):
                exchanges = [Exchange(multiplexer, length) for length in LENGTHS]
                run(multiplexer, exchanges)
                assert all(exchange.is_well for exchange in exchanges)
        assert server.connections == len(LENGTHS)


def test_a_small_object_comes_while_larger_ones_are_under_way(tls: ssl.SSLContext | None) -> None:
    has_come = threading.Event()

    def answer(request: Request, _: int) -> None:
        if request.range[1] < 1000:
            send(request)
            return
        body = request.promise_range(CONTENT)
        request.wfile.write(body[:-1])
        assert has_come.wait(PATIENCE_S)
        request.wfile.write(body[-1:])

    with ScriptedServer(answer, tls=tls) as server, closing(store_at(server.url)) as store:
        keep_connections(store, server, 3)
        with closing(store.find_multiplexer()) as multiplexer:
            large = [Exchange(multiplexer, 1_000_000) for _ in range(2)]
            small = Exchange(multiplexer, 100)
            run(multiplexer, [small])
            assert small.is_well
            assert not any(exchange.ends for exchange in large)
            has_come.set()
            run(multiplexer, large)
            assert all(exchange.is_well for exchange in large)


@pytest.mark.parametrize("sent", [0, 100_000])
def test_a_server_that_hangs_up_is_told_of(tls: ssl.SSLContext | None, sent: int) -> None:
    def answer(request: Request, number: int) -> None:
        if number == 1:
            send(request)
        elif sent:
            request.send_range(CONTENT, stop_after=sent)
        else:
            request.close_connection = True

    with ScriptedServer(answer, tls=tls) as server, closing(store_at(server.url)) as store:
        keep_connections(store, server, 1)
        with closing(store.find_multiplexer()) as multiplexer:
            exchange = Exchange(multiplexer, len(CONTENT))
            run(multiplexer, [exchange])
            (error,) = exchange.ends
            assert isinstance(error, AskOtherwiseError)
            assert exchange.received == CONTENT[:sent]


def test_no_descriptor_is_left(tls: ssl.SSLContext | None) -> None:
    with ScriptedServer(send, tls=tls) as server:
        before = len(os.listdir("/proc/self/fd"))
        with closing(store_at(server.url)) as store:
            keep_connections(store, server, 4)
            multiplexer = store.find_multiplexer()
            exchanges = [Exchange(multiplexer, len(CONTENT)) for _ in range(3)]
            run(multiplexer, exchanges[:1])
            assert exchanges[1].drop is not None
            exchanges[1].drop()
            multiplexer.close()
        # The server's go when it notices that nobody is there.
        wait_until(lambda: len(os.listdir("/proc/self/fd")) == before, "all are closed")


def test_an_answer_ends_an_outage() -> None:
    goes = threading.Event()

    def answer(request: Request, number: int) -> None:
        assert number == 1 or goes.wait(PATIENCE_S)
        send(request)

    outage = Outage(3.0)
    fault = StoreUnavailableError("no connection to the store")
    fault.no_connection = True
    fault.fault = str(fault)
    with (
        ScriptedServer(answer) as server,
        closing(S3Store(endpoint_url=server.url, outage=outage)) as store,
    ):
        keep_connections(store, server, 1)
        with closing(store.find_multiplexer()) as multiplexer:
            exchange = Exchange(multiplexer, 100)
            outage.note(fault)
            assert outage.is_on
            assert not multiplexer.can_begin("bucket")
            goes.set()
            run(multiplexer, [exchange])
            assert exchange.is_well
            assert not outage.is_on


# What is unusual


def test_what_was_met_is_told_as_it_would_have_been() -> None:
    def answer(request: Request, number: int) -> None:
        if number in (1, 4):
            send(request)
        elif "missing" in request.path:
            request.send_error_code(404, "NoSuchKey")
        else:
            request.send(503, b"<Error><Code>SlowDown</Code></Error>", Retry_After="7")

    with ScriptedServer(answer) as server, closing(store_at(server.url)) as store:
        keep_connections(store, server, 1)
        with closing(store.find_multiplexer()) as multiplexer:
            exchange = Exchange(multiplexer, 100, "s/missing.dcm")
            run(multiplexer, [exchange])
            with pytest.raises(ObjectNotFoundError, match="NoSuchKey"):
                store.get_extent(
                    "bucket", "s/missing.dcm", Extent(0, 100), bytearray().extend, etag=ETAG
                )
            assert len(server.requests) == 3  # the last one by botocore, which can tell why
            store.get_extent("bucket", "s/x.dcm", Extent(0, 100), bytearray().extend, etag=ETAG)
            exchange = Exchange(multiplexer, 100)
            run(multiplexer, [exchange])
            with pytest.raises(StoreUnavailableError, match="overloaded") as caught:
                store.get_extent("bucket", "s/x.dcm", Extent(0, 100), bytearray().extend, etag=ETAG)
            assert caught.value.retry_after_s == 7
            assert len(server.requests) == 5


@pytest.fixture
def google() -> Iterator[ScriptedServer]:
    with ScriptedServer(send) as server:
        yield server


def test_buckets_have_the_names_that_they_have_there(google: ScriptedServer) -> None:
    bucket, extent = "idc-open-data-two", Extent(0, 100)
    received, ends = bytearray(), list[Exception | None]()
    with closing(S3Store(endpoint_url=google.url, source="gcs")) as store:
        store.get_extent(bucket, "s/x.dcm", extent, bytearray().extend, etag=ETAG)
        with closing(store.find_multiplexer()) as multiplexer:
            request = ExtentRequest(bucket, "s/x.dcm", extent, ETAG, received.extend, ends.append)
            assert multiplexer.begin(request)
            while not ends:
                multiplexer.turn()
    assert received == CONTENT[:100]
    assert {request.path for request in google.requests} == {"/idc-open-idc1/s/x.dcm"}
