"""How much S3Store reads of an answer that does not end, directly and through botocore."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from idcfs.errors import ObjectNotFoundError, StoreError, StoreUnavailableError
from idcfs.model import Extent
from idcfs.store.retry import RetryPolicy
from idcfs.store.s3 import S3Store
from tests.support.scripted import ETAG, Request, ScriptedServer, listing

if TYPE_CHECKING:
    from collections.abc import Callable

MANY_BYTES = 64 << 20
"""What the server would send: far more than is read, with what the sockets hold besides."""

ENTITY = b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY e "expanded">]>'


class Flood:
    """Answers with a body that goes on for long, and counts how much of it was taken."""

    def __init__(self, status: int, beginning: bytes) -> None:
        self._status = status
        self._beginning = beginning
        self.sent_bytes = 0

    def __call__(self, request: Request, _: int) -> None:
        request.close_connection = True
        request.head(self._status, Transfer_Encoding="chunked")
        self._send(request, self._beginning)
        piece = b"<Contents/>" * 100_000
        while self.sent_bytes < MANY_BYTES:
            self._send(request, piece)
        request.wfile.write(b"0\r\n\r\n")

    def _send(self, request: Request, piece: bytes) -> None:
        request.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        self.sent_bytes += len(piece)


def list_series(store: S3Store) -> None:
    store.list_prefix("bucket", "s/")


def fetch(store: S3Store) -> None:
    store.get_extent("bucket", "s/x.dcm", Extent(0, 9), lambda chunk: None, etag=ETAG)


def failure(
    server: ScriptedServer,
    operation: Callable[[S3Store], None],
    through_proxy: pytest.MonkeyPatch | None,
) -> StoreError:
    url = server.url
    if through_proxy is not None:
        through_proxy.setenv("http_proxy", url)
        url = "http://store.invalid"
    store = S3Store(endpoint_url=url, retry=RetryPolicy(attempts=1))
    with closing(store), pytest.raises(StoreError) as caught:
        operation(store)
    return caught.value


@pytest.fixture(params=["directly", "through a proxy"])
def through_proxy(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> pytest.MonkeyPatch | None:
    return monkeypatch if request.param == "through a proxy" else None


def test_a_listing_that_does_not_end_is_given_up(through_proxy: pytest.MonkeyPatch | None) -> None:
    flood = Flood(200, b"<ListBucketResult>")
    with ScriptedServer(flood) as server:
        raised = failure(server, list_series, through_proxy)
        assert len(server.requests) == 1
    assert type(raised) is StoreError
    assert "longer than any of S3's" in str(raised)
    assert flood.sent_bytes < MANY_BYTES


@pytest.mark.parametrize("operation", [list_series, fetch])
@pytest.mark.parametrize(
    ("status", "expected", "asked"),
    [(404, ObjectNotFoundError, 2), (503, StoreUnavailableError, 1), (418, StoreError, 2)],
)
def test_an_error_that_does_not_end_is_told_by_its_status(
    status: int,
    expected: type[StoreError],
    asked: int,
    operation: Callable[[S3Store], None],
    through_proxy: pytest.MonkeyPatch | None,
) -> None:
    flood = Flood(status, b"<Error><Code>Long</Code>")
    with ScriptedServer(flood) as server:
        raised = failure(server, operation, through_proxy)
        assert len(server.requests) == (asked if through_proxy is None else 1)
    assert type(raised) is expected
    assert str(status) in str(raised)
    assert flood.sent_bytes < MANY_BYTES


def test_a_listing_with_a_document_type_is_refused(
    through_proxy: pytest.MonkeyPatch | None,
) -> None:
    page = ENTITY + listing(["s/&e;.dcm"]).removeprefix(b'<?xml version="1.0"?>')
    with ScriptedServer(lambda request, _: request.send(200, page)) as server:
        raised = failure(server, list_series, through_proxy)
        assert len(server.requests) == 1
    assert type(raised) is StoreError
    assert "does not speak S3" in str(raised)


@pytest.mark.parametrize("status", [404, 503])
def test_an_error_with_a_document_type_is_told_by_its_status(
    status: int, through_proxy: pytest.MonkeyPatch | None
) -> None:
    error = ENTITY + b"<Error><Code>&e;</Code><Message>&e;</Message></Error>"
    with ScriptedServer(lambda request, _: request.send(status, error)) as server:
        raised = failure(server, fetch, through_proxy)
    assert f"({status})" in str(raised)
    assert "expanded" not in str(raised)
