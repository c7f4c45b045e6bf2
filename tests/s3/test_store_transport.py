"""How S3Store gets to a server: kept connections, TLS, proxies, addresses."""

from __future__ import annotations

import ssl
from contextlib import closing
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
import trustme

from idcfs.errors import AccessDeniedError, StoreError, StoreUnavailableError
from idcfs.model import Checksum, Extent
from idcfs.store.retry import RetryPolicy
from idcfs.store.s3 import S3Store
from tests.support.gateway import Gateway
from tests.support.scripted import ETAG, Request, ScriptedServer, Seen, listing

if TYPE_CHECKING:
    from pathlib import Path

CONTENT = bytes(range(256)) * 4000
WHOLE = Extent(0, len(CONTENT))
QUICK = RetryPolicy(attempts=2, first_pause_s=0.01)
ONCE = RetryPolicy(attempts=1)


def fetch(store: S3Store, extent: Extent = WHOLE) -> bytes:
    received = bytearray()
    store.get_extent("bucket", "s/x.dcm", extent, received.extend, etag=ETAG)
    return bytes(received)


def store_at(url: str, policy: RetryPolicy = ONCE) -> S3Store:
    return S3Store(endpoint_url=url, retry=policy, connect_timeout_s=2, read_timeout_s=2)


def send(request: Request, _: int = 0) -> None:
    request.send_range(CONTENT)


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name in ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)


# Kept connections


def test_one_connection_serves_one_request_after_another() -> None:
    def answer(request: Request, number: int) -> None:
        if number == 3:
            request.send_error_code(404, "NoSuchKey")
        elif "list-type" in request.query:
            request.send(200, listing(["s/x.dcm"]))
        else:
            send(request)

    with ScriptedServer(answer) as server, closing(store_at(server.url)) as store:
        assert fetch(store) == CONTENT
        assert fetch(store, Extent(5, 10)) == CONTENT[5:15]
        with pytest.raises(StoreError):
            fetch(store)
        assert len(store.list_prefix("bucket", "s/")) == 1
        assert fetch(store) == CONTENT
        assert server.connections == 1


def test_a_connection_that_the_server_closed_while_idle_is_no_failure() -> None:
    def answer(request: Request, number: int) -> None:
        send(request)
        request.close_connection = True  # without having said so in the headers

    with ScriptedServer(answer) as server, closing(store_at(server.url)) as store:
        for _ in range(3):
            assert fetch(store, Extent(1, 1000)) == CONTENT[1:1001]
        assert len(server.requests) == server.connections == 3


def test_a_connection_that_dies_under_a_request_is_replaced_once() -> None:
    def answer(request: Request, number: int) -> None:
        if number == 1:
            send(request)
        else:
            request.close_connection = True  # without a word

    with ScriptedServer(answer) as server, closing(store_at(server.url)) as store:
        assert fetch(store) == CONTENT
        with pytest.raises(StoreUnavailableError, match="broke"):
            fetch(store)
        # The kept one and a new one; the failure of a new one counts.
        assert (len(server.requests), server.connections) == (3, 2)


def test_an_abandoned_body_takes_its_connection_along() -> None:
    class EnoughError(Exception):
        pass

    def stop(_: memoryview) -> None:
        raise EnoughError

    with ScriptedServer(send) as server, closing(store_at(server.url)) as store:
        with pytest.raises(EnoughError):
            store.get_extent("bucket", "s/x.dcm", WHOLE, stop, etag=ETAG)
        assert fetch(store) == CONTENT
        assert server.connections == 2


def test_a_server_without_keep_alive_is_served_by_new_connections() -> None:
    def answer(request: Request, _: int) -> None:
        request.protocol_version = "HTTP/1.0"
        send(request)
        request.close_connection = True

    with ScriptedServer(answer) as server, closing(store_at(server.url)) as store:
        assert fetch(store) == fetch(store) == CONTENT
        assert server.connections == 2


def test_a_weak_etag_counts_as_the_same() -> None:
    def answer(request: Request, _: int) -> None:
        first, last = request.range
        request.send(
            206,
            CONTENT[first : last + 1],
            ETag=f'W/"{ETAG}"',
            Content_Range=f"bytes {first}-{last}/{len(CONTENT)}",
        )

    with ScriptedServer(answer) as server, closing(store_at(server.url)) as store:
        assert fetch(store) == CONTENT


def test_what_does_not_speak_http_is_told() -> None:
    def answer(request: Request, _: int) -> None:
        request.wfile.write(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
        request.close_connection = True

    with (
        ScriptedServer(answer) as server,
        closing(store_at(server.url)) as store,
        pytest.raises(StoreUnavailableError, match="does not speak proper HTTP"),
    ):
        fetch(store)


def test_how_long_an_overloaded_store_wants_to_be_left_alone_is_kept() -> None:
    def answer(request: Request, _: int) -> None:
        request.send(503, b"<Error><Code>SlowDown</Code></Error>", Retry_After="7")

    with ScriptedServer(answer) as server, closing(store_at(server.url)) as store:
        with pytest.raises(StoreUnavailableError) as caught:
            fetch(store)
        assert caught.value.asks_for_less
        assert caught.value.retry_after_s == 7


def test_a_listing_that_drips_in_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("idcfs.store.wire._LONGEST_PAGE_S", 0.05)

    def answer(request: Request, _: int) -> None:
        page = listing([f"s/{n}.dcm" for n in range(1000)])
        request.head(200, Content_Length=str(len(page)))
        for byte in page:
            request.wfile.write(bytes([byte]))

    with (
        ScriptedServer(answer) as server,
        closing(store_at(server.url)) as store,
        pytest.raises(StoreUnavailableError, match="stopped answering"),
    ):
        store.list_prefix("bucket", "s/")


def test_an_ipv6_address_is_a_server_too() -> None:
    with ScriptedServer(send, host="::1") as server, closing(store_at(server.url)) as store:
        assert fetch(store) == CONTENT
        assert server.requests[0].headers["Host"] == f"[::1]:{server.server_port}"


# Checksums


def offered_of(headers: dict[str, str], *, wanted: bool = True) -> tuple[list[Checksum], Seen]:
    def answer(request: Request, _: int) -> None:
        request.send(200, CONTENT, ETag=f'"{ETAG}"', **headers)

    offered: list[Checksum] = []
    with ScriptedServer(answer) as server, closing(store_at(server.url)) as store:
        store.get_extent(
            "bucket",
            "s/x.dcm",
            WHOLE,
            bytearray().extend,
            etag=ETAG,
            offered=offered.extend if wanted else None,
        )
        return offered, server.requests[0]


def test_checksums_of_whole_objects_are_asked_for_and_passed_on() -> None:
    offered, request = offered_of(
        {"x_amz_checksum_crc32": "AAECAw==", "x_amz_checksum_sha1": "A" * 27 + "="}
    )
    assert offered == [Checksum("crc32", bytes(range(4))), Checksum("sha1", bytes(20))]
    assert request.headers["x-amz-checksum-mode"] == "ENABLED"
    assert "Range" not in request.headers


def test_checksums_are_not_asked_for_where_nobody_wants_them() -> None:
    offered, request = offered_of({"x_amz_checksum_crc32": "AAECAw=="}, wanted=False)
    assert offered == []
    assert "x-amz-checksum-mode" not in request.headers
    assert "Range" in request.headers


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x_amz_checksum_crc32": "AAECAw==-3"},
        {"x_amz_checksum_crc32": "AAECAw==", "x_amz_checksum_type": "COMPOSITE"},
        {"x_amz_checksum_crc32": "AAEC"},
        {"x_amz_checksum_crc32": "\u00ff"},
        {"x_amz_checksum_crc99": "AAECAw=="},
    ],
)
def test_what_is_no_checksum_of_the_whole_is_passed_over(headers: dict[str, str]) -> None:
    assert offered_of(headers)[0] == []


def test_an_object_that_breaks_off_keeps_the_checksum_of_its_beginning() -> None:
    def answer(request: Request, number: int) -> None:
        if number > 1:
            send(request)
            return
        request.head(
            200, ETag=f'"{ETAG}"', Content_Length=str(len(CONTENT)), x_amz_checksum_crc32="AAECAw=="
        )
        request.wfile.write(CONTENT[:5000])
        request.close_connection = True

    offered: list[Checksum] = []
    received = bytearray()
    with ScriptedServer(answer) as server, closing(store_at(server.url, QUICK)) as store:
        store.get_extent(
            "bucket", "s/x.dcm", WHOLE, received.extend, etag=ETAG, offered=offered.extend
        )
    assert received == CONTENT
    assert len(offered) == 1


# TLS


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def tls(authority: trustme.CA) -> ssl.SSLContext:
    """The side of a server called localhost and store.invalid."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", "store.invalid").configure_cert(context)
    return context


@pytest.fixture
def bundle(authority: trustme.CA, tmp_path: Path) -> Path:
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return path


@pytest.mark.parametrize("variable", ["AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"])
def test_tls_is_spoken_with_whom_the_environment_trusts(
    variable: str, bundle: Path, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, str(bundle))
    with ScriptedServer(send, tls=tls) as server, closing(store_at(server.url)) as store:
        assert fetch(store) == fetch(store) == CONTENT
        assert server.connections == 1


def test_an_unknown_authority_is_not_trusted(tls: ssl.SSLContext) -> None:
    with (
        ScriptedServer(send, tls=tls) as server,
        closing(store_at(server.url)) as store,
        pytest.raises(StoreUnavailableError, match=r"not trusted .*AWS_CA_BUNDLE"),
    ):
        fetch(store)
    assert server.requests == []


def test_a_certificate_of_another_host_is_not_trusted(
    authority: trustme.CA, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", str(bundle))
    other = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("other.invalid").configure_cert(other)
    with (
        ScriptedServer(send, tls=other) as server,
        closing(store_at(server.url)) as store,
        pytest.raises(StoreUnavailableError, match="not trusted"),
    ):
        fetch(store)


def test_certificates_that_are_not_there_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", "/nowhere/ca.pem")
    with (
        ScriptedServer(send) as server,
        closing(store_at(server.url.replace("http:", "https:"))) as store,
        pytest.raises(StoreError, match=r"AWS_CA_BUNDLE") as caught,
    ):
        fetch(store)
    assert "/nowhere/ca.pem" in str(caught.value)


# Proxies


def through(gateway: Gateway, monkeypatch: pytest.MonkeyPatch, scheme: str = "http") -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"{scheme}://user:p%40ss@{gateway.address}")


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_tls_goes_through_a_proxy(
    scheme: str, bundle: Path, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", str(bundle))
    with (
        ScriptedServer(send, tls=tls) as server,
        Gateway(
            ("127.0.0.1", server.server_port), tls=tls if scheme == "https" else None
        ) as gateway,
    ):
        through(gateway, monkeypatch, scheme)
        with closing(store_at("https://store.invalid")) as store:
            assert fetch(store) == fetch(store) == CONTENT
    (head,) = gateway.heads
    assert head.startswith("CONNECT store.invalid:443 HTTP/1.1\r\n")
    assert "Proxy-Authorization: Basic dXNlcjpwQHNz\r\n" in head
    assert {request.headers["Host"] for request in server.requests} == {"store.invalid"}
    assert not any("Proxy-Authorization" in request.headers for request in server.requests)


@pytest.mark.parametrize(
    ("status", "error", "word"),
    [
        (407, AccessDeniedError, "asks for credentials"),
        (403, AccessDeniedError, "refused"),
        (502, StoreUnavailableError, "cannot connect there"),
    ],
)
def test_a_proxy_that_refuses_is_told(
    status: int, error: type[StoreError], word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = b"HTTP/1.1 %d No\r\nContent-Length: 0\r\n\r\n" % status
    with Gateway(("127.0.0.1", 9), answer=answer) as gateway:
        through(gateway, monkeypatch)
        with closing(store_at("https://store.invalid")) as store:
            with pytest.raises(error, match=word) as caught:
                fetch(store)
            assert type(caught.value) is error


@pytest.mark.parametrize("answer", [b"SSH-2.0\r\n\r\n", b""])
def test_what_is_no_proxy_is_told(answer: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    with Gateway(("127.0.0.1", 9), answer=answer) as gateway:
        through(gateway, monkeypatch)
        with (
            closing(store_at("https://store.invalid")) as store,
            pytest.raises(StoreUnavailableError, match="proxy on the way"),
        ):
            fetch(store)


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "socks5://127.0.0.1:9", "http://[::1"])
def test_a_proxy_that_is_not_there_is_told(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", url)
    monkeypatch.setenv("http_proxy", url)
    with (
        closing(store_at("http://store.invalid")) as store,
        pytest.raises(StoreUnavailableError, match="proxy on the way"),
    ):
        fetch(store)


def test_no_proxy_is_kept_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with ScriptedServer(send) as server:
        monkeypatch.setenv("no_proxy", urlsplit(server.url).netloc)
        with closing(store_at(server.url)) as store:
            assert fetch(store) == CONTENT


def test_a_proxy_gets_the_credentials_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with ScriptedServer(send) as proxy:
        url = proxy.url.replace("//", "//user:secret@")
        monkeypatch.setenv("http_proxy", url)
        with closing(store_at("http://store.invalid:9000/sub")) as store:
            assert fetch(store) == CONTENT
    assert proxy.requests[0].path == "http://store.invalid:9000/sub/bucket/s/x.dcm"
    assert proxy.requests[0].headers["Proxy-Authorization"] == "Basic dXNlcjpzZWNyZXQ="
    assert proxy.requests[0].headers["Host"] == "store.invalid:9000"
