"""How S3Store gets to a server: kept connections, TLS, proxies, addresses."""

from __future__ import annotations

import ssl
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
import trustme

from idcfs.errors import IntegrityError, ObjectNotFoundError, StoreError, StoreUnavailableError
from idcfs.model import Checksum, Extent
from idcfs.store.retry import RetryPolicy
from idcfs.store.s3 import S3Store
from tests.support.gateway import Gateway
from tests.support.scripted import ETAG, Request, ScriptedServer, Seen, listing

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CONTENT = bytes(range(256)) * 4000
WHOLE = Extent(0, len(CONTENT))
QUICK = RetryPolicy(attempts=2, first_pause_s=0.01)
ONCE = RetryPolicy(attempts=1)


def fetch(store: S3Store, extent: Extent = WHOLE) -> bytes:
    received = bytearray()
    store.get_extent("bucket", "s/x.dcm", extent, received.extend, etag=ETAG)
    return bytes(received)


def store_at(
    url: str, policy: RetryPolicy = ONCE, pushed_back: Callable[[], None] = lambda: None
) -> S3Store:
    return S3Store(
        endpoint_url=url,
        retry=policy,
        connect_timeout_s=2,
        read_timeout_s=2,
        pushed_back=pushed_back,
    )


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
            request.send_error_code(503, "SlowDown")
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
        pytest.raises(StoreUnavailableError, match="broke"),
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


@pytest.mark.parametrize("is_proxied", [False, True])
def test_a_listing_that_drips_in_is_given_up(
    is_proxied: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("direct", "bounded"):
        monkeypatch.setattr(f"idcfs.store.{module}.LONGEST_PAGE_S", 0.05)

    def answer(request: Request, _: int) -> None:
        page = listing([f"s/{n}.dcm" for n in range(1000)])
        request.head(200, Content_Length=str(len(page)))
        for byte in page:
            request.wfile.write(bytes([byte]))

    with ScriptedServer(answer) as server:
        if is_proxied:
            monkeypatch.setenv("http_proxy", server.url)
        with (
            closing(store_at("http://store.invalid" if is_proxied else server.url)) as store,
            pytest.raises(StoreUnavailableError, match="stopped answering"),
        ):
            store.list_prefix("bucket", "s/")


def test_an_ipv6_address_is_a_server_too() -> None:
    with ScriptedServer(send, host="::1") as server, closing(store_at(server.url)) as store:
        assert fetch(store) == CONTENT
        assert server.requests[0].headers["Host"] == f"[::1]:{server.server_port}"


# Checksums


def offered_of(
    headers: dict[str, str],
    *,
    wanted: bool = True,
    through_proxy: pytest.MonkeyPatch | None = None,
) -> tuple[list[Checksum], Seen]:
    def answer(request: Request, _: int) -> None:
        request.send(200, CONTENT, ETag=f'"{ETAG}"', **headers)

    offered: list[Checksum] = []
    with ScriptedServer(answer) as server:
        url = server.url
        if through_proxy is not None:
            through_proxy.setenv("http_proxy", url)
            url = "http://store.invalid"
        store = store_at(url)
        store.get_extent(
            "bucket",
            "s/x.dcm",
            WHOLE,
            bytearray().extend,
            etag=ETAG,
            offered=offered.extend if wanted else None,
        )
        store.close()
        return offered, server.requests[0]


@pytest.mark.parametrize("is_proxied", [False, True])
def test_checksums_of_whole_objects_are_asked_for_and_passed_on(
    is_proxied: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    offered, request = offered_of(
        {"x_amz_checksum_crc32": "AAECAw==", "x_amz_checksum_sha1": "A" * 27 + "="},
        through_proxy=monkeypatch if is_proxied else None,
    )
    assert offered == [Checksum("crc32", bytes(range(4))), Checksum("sha1", bytes(20))]
    assert request.headers["x-amz-checksum-mode"] == "ENABLED"
    assert "Range" not in request.headers
    assert request.path.startswith("http:") is is_proxied


def test_checksums_of_what_comes_in_ranges_are_asked_for_by_themselves() -> None:
    def answer(request: Request, _: int) -> None:
        request.head(200, ETag=f'"{ETAG}"', Content_Length="9", x_amz_checksum_crc32="AAECAw==")

    with ScriptedServer(answer) as server:
        store = store_at(server.url)
        found = store.find_checksums("bucket", "s/x.dcm", etag=ETAG)
        store.close()
    assert found == (Checksum("crc32", bytes(range(4))),)
    assert server.requests[-1].headers["x-amz-checksum-mode"] == "ENABLED"
    assert server.requests[-1].headers["If-Match"] == f'"{ETAG}"'


def test_an_object_that_has_changed_has_no_checksums() -> None:
    with ScriptedServer(lambda request, _: request.head(412, Content_Length="0")) as server:
        store = store_at(server.url)
        with pytest.raises(IntegrityError, match="changed after it was listed"):
            store.find_checksums("bucket", "s/x.dcm", etag=ETAG)
        store.close()


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
        pytest.raises(StoreError, match=r"not trusted.*AWS_CA_BUNDLE"),
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
        pytest.raises(StoreUnavailableError, match=r"no TLS connection .*other"),
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


# Proxies, which are botocore's


def through(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"http://user:p%40ss@{gateway.address}")


def test_tls_goes_through_a_proxy(
    bundle: Path, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", str(bundle))
    with (
        ScriptedServer(send, tls=tls) as server,
        Gateway(("127.0.0.1", server.server_port)) as gateway,
    ):
        through(gateway, monkeypatch)
        with closing(store_at("https://store.invalid")) as store:
            assert fetch(store) == fetch(store) == CONTENT
    (head,) = gateway.heads
    assert head.startswith("CONNECT store.invalid:443 HTTP/1.")
    assert "proxy-authorization: basic dxnlcjpwqhnz\r\n" in head.lower()
    assert {request.headers["Host"] for request in server.requests} == {"store.invalid"}
    assert not any("Proxy-Authorization" in request.headers for request in server.requests)


@pytest.mark.parametrize("status", [407, 403, 502])
def test_a_proxy_that_refuses_is_told(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = b"HTTP/1.1 %d No\r\nContent-Length: 0\r\n\r\n" % status
    with Gateway(("127.0.0.1", 9), answer=answer) as gateway:
        through(gateway, monkeypatch)
        with (
            closing(store_at("https://store.invalid")) as store,
            pytest.raises(StoreUnavailableError, match=rf"proxy on the way .*{status}"),
        ):
            fetch(store)


def test_a_proxy_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with (
        closing(store_at("http://store.invalid")) as store,
        pytest.raises(StoreUnavailableError, match=r"proxy on the way .*refused"),
    ):
        fetch(store)


def test_no_proxy_is_kept_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with ScriptedServer(send) as server:
        monkeypatch.setenv("no_proxy", urlsplit(server.url).netloc)
        with closing(store_at(server.url)) as store:
            assert fetch(store) == CONTENT


# Botocore behind the direct way


def test_what_goes_well_does_not_load_botocore() -> None:
    def answer(request: Request, _: int) -> None:
        if "list-type" in request.query:
            request.send(200, listing(["s/x.dcm"]))
        else:
            send(request)

    with ScriptedServer(answer) as server:
        code = (
            "import sys, idcfs.store.s3\n"
            "from idcfs.model import Extent\n"
            f"store = idcfs.store.s3.S3Store(endpoint_url={server.url!r})\n"
            "(listed,) = store.list_prefix('bucket', 's/')\n"
            "received = bytearray()\n"
            "store.get_extent('bucket', listed.key, Extent(0, 9), received.extend,"
            " etag=listed.etag)\n"
            "assert len(received) == 9\n"
            "assert not {'botocore', 'boto3', 'urllib3'} & {*sys.modules}\n"
        )
        subprocess.run([sys.executable, "-c", code], check=True)
        assert len(server.requests) == 2


def test_listings_in_chunks_are_ordinary() -> None:
    def answer(request: Request, _: int) -> None:
        page = listing([f"s/{number}.dcm" for number in range(100)])
        request.head(200, Transfer_Encoding="chunked", Content_Type="application/xml")
        for start in range(0, len(page), 3000):
            piece = page[start : start + 3000]
            request.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        request.wfile.write(b"0\r\n\r\n")

    with ScriptedServer(answer) as server, closing(store_at(server.url)) as store:
        assert len(store.list_prefix("bucket", "s/")) == 100
        assert (len(server.requests), server.connections) == (1, 1)


def in_chunks(request: Request, _: int = 0) -> None:
    """Send a range without saying how long it is, as Amazon never does."""
    first, last = request.range
    request.head(
        206,
        ETag=f'"{ETAG}"',
        Content_Range=f"bytes {first}-{last}/{len(CONTENT)}",
        Transfer_Encoding="chunked",
    )
    body = CONTENT[first : last + 1]
    request.wfile.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))


def test_an_unusual_answer_is_asked_for_again_through_botocore() -> None:
    def answer(request: Request, number: int) -> None:
        if request.headers["User-Agent"] == "idcfs":
            in_chunks(request)
        else:
            send(request)

    with ScriptedServer(answer) as server, closing(store_at(server.url)) as store:
        assert fetch(store, Extent(3, 500)) == CONTENT[3:503]
        direct, again = server.requests
    assert direct.path == again.path
    assert direct.range == again.range
    assert direct.headers["If-Match"] == again.headers["If-Match"]


def test_a_store_that_is_always_unusual_is_not_asked_twice_for_ever() -> None:
    with ScriptedServer(in_chunks) as server, closing(store_at(server.url)) as store:
        for _ in range(8):
            assert fetch(store, Extent(3, 50)) == CONTENT[3:53]
        assert len(server.requests) == 16
        for _ in range(4):
            assert fetch(store, Extent(3, 50)) == CONTENT[3:53]
        assert len(server.requests) == 20


def test_errors_do_not_count_as_the_store_being_unusual() -> None:
    def answer(request: Request, number: int) -> None:
        if number <= 20:
            request.send_error_code(404, "NoSuchKey")
        else:
            send(request)

    with ScriptedServer(answer) as server, closing(store_at(server.url)) as store:
        for _ in range(10):
            with pytest.raises(ObjectNotFoundError):
                fetch(store)
        assert fetch(store) == CONTENT
        assert len(server.requests) == 21


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_store_that_is_busy_is_not_asked_again_at_once(status: int) -> None:
    def answer(request: Request, _: int) -> None:
        request.send_error_code(status, "Busy")

    told: list[bool] = []
    with (
        ScriptedServer(answer) as server,
        closing(store_at(server.url, pushed_back=lambda: told.append(True))) as store,
    ):
        with pytest.raises(StoreUnavailableError, match=f"out of order .{status} Busy") as caught:
            fetch(store)
        assert len(server.requests) == 1
    assert caught.value.asks_for_less is (status in (429, 503))
    assert bool(told) is caught.value.asks_for_less


def test_through_botocore_a_busy_store_says_as_much(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(request: Request, _: int) -> None:
        request.send(503, b"<Error><Code>SlowDown</Code></Error>", Retry_After="7")

    with ScriptedServer(answer) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        with (
            closing(store_at("http://store.invalid")) as store,
            pytest.raises(StoreUnavailableError) as caught,
        ):
            fetch(store)
    assert caught.value.asks_for_less
    assert caught.value.retry_after_s == 7


@pytest.mark.parametrize("of", ["list", "get"])
def test_a_network_that_fails_is_not_tried_through_botocore_too(of: str) -> None:
    def answer(request: Request, _: int) -> None:
        request.close_connection = True  # without a word

    with ScriptedServer(answer) as server, closing(store_at(server.url)) as store:
        with pytest.raises(StoreUnavailableError, match="broke"):
            fetch(store) if of == "get" else store.list_prefix("bucket", "s/")
        assert len(server.requests) == 1
