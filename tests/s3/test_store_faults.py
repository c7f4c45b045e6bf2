"""S3Store against servers that misbehave: what it tries again, and what it says in the end."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from idcfs.errors import (
    AccessDeniedError,
    IntegrityError,
    ObjectNotFoundError,
    StoreError,
    StoreUnavailableError,
    UsageError,
)
from idcfs.model import Extent
from idcfs.store.outage import Outage
from idcfs.store.retry import Attempts, RetryPolicy
from idcfs.store.s3 import S3Store
from tests.support.faults import Answer
from tests.support.proxy import FaultProxy
from tests.support.scripted import ETAG, Request, ScriptedServer, listing
from tests.support.threads import no_threads

if TYPE_CHECKING:
    from collections.abc import Callable

    from idcfs.store.protocol import StoredObject

QUICK = RetryPolicy(attempts=3, first_pause_s=0.01, longest_pause_s=0.05, patience_s=5)
CONTENT = bytes(range(256)) * 40
WHOLE = Extent(0, len(CONTENT))


def quick_store(url: str, **changes: float) -> S3Store:
    return S3Store(
        endpoint_url=url,
        retry=QUICK,
        connect_timeout_s=changes.get("connect_timeout_s", 1),
        read_timeout_s=changes.get("read_timeout_s", 0.3),
    )


def fetch(store: S3Store, extent: Extent = WHOLE, key: str = "s/x.dcm") -> bytes:
    received = bytearray()
    store.get_extent("bucket", key, extent, received.extend, etag=ETAG)
    return bytes(received)


def list_series(store: S3Store) -> list[StoredObject]:
    return store.list_prefix("bucket", "s/")


def failure(answer: Callable[[Request, int], None], *, of: str) -> StoreError:
    """Return what `of`, "list" or "get", raises when the server answers so."""
    with ScriptedServer(answer) as server, closing(quick_store(server.url)) as store:
        operation = fetch if of == "get" else list_series
        with pytest.raises(StoreError) as caught:
            operation(store)
    assert "\n" not in str(caught.value)
    assert server.url in str(caught.value)
    is_answer = "out of order" in str(caught.value)
    is_translated = type(caught.value) is StoreUnavailableError and not is_answer
    assert caught.value.__cause__ is not None or not is_translated
    return caught.value


@pytest.mark.parametrize("of", ["list", "get"])
@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (401, "Unauthorized", AccessDeniedError),
        (403, "AccessDenied", AccessDeniedError),
        (404, "NoSuchBucket", ObjectNotFoundError),
        (404, "NoSuchKey", ObjectNotFoundError),
        (407, "ProxyAuthenticationRequired", AccessDeniedError),
        (412, "PreconditionFailed", IntegrityError),
        (416, "InvalidRange", IntegrityError),
        (429, "TooManyRequests", StoreUnavailableError),
        (500, "InternalError", StoreUnavailableError),
        (503, "SlowDown", StoreUnavailableError),
        (418, "Teapot", StoreError),
    ],
)
def test_each_status_has_its_error(
    of: str, status: int, code: str, error: type[StoreError]
) -> None:
    raised = failure(lambda request, _: request.send_error_code(status, code), of=of)
    assert type(raised) is error
    assert f"{status} {code}" in str(raised)


# An error is asked for again through botocore, once; a store that is busy is not.
@pytest.mark.parametrize(("status", "requests"), [(404, 2), (403, 2), (503, 3)])
def test_only_what_may_pass_is_tried_again(status: int, requests: int) -> None:
    with (
        ScriptedServer(lambda request, _: request.send_error_code(status, "Code")) as server,
        closing(quick_store(server.url)) as store,
        pytest.raises(StoreError),
    ):
        store.list_prefix("bucket", "s/")
    assert len(server.requests) == requests


def test_an_error_under_a_status_of_success_counts_as_one() -> None:
    page = b"<Error><Code>InternalError</Code></Error>"
    assert type(failure(lambda r, _: r.send(200, page), of="list")) is StoreUnavailableError


def test_an_overload_that_passes_is_not_noticed() -> None:
    def answer(request: Request, number: int) -> None:
        if number % 3:
            request.send_error_code(503, "SlowDown")
        elif "list-type" in request.query:
            request.send(200, listing(["s/x.dcm"]))
        else:
            request.send_range(CONTENT)

    with ScriptedServer(answer) as server, closing(quick_store(server.url)) as store:
        assert [o.key for o in store.list_prefix("bucket", "s/")] == ["s/x.dcm"]
        assert fetch(store) == CONTENT
    assert len(server.requests) == 6


@pytest.mark.parametrize("of", ["list", "get"])
@pytest.mark.parametrize(
    "page",
    [
        b"<html><body>Please log in<br></body></html>",
        b"<html><body>Please log in</body></html>",
        b"",
        b"\x00\xff not XML",
    ],
)
def test_a_web_page_instead_of_s3_is_called_so(of: str, page: bytes) -> None:
    raised = failure(lambda request, _: request.send(200, page, Content_Type="text/html"), of=of)
    assert type(raised) is StoreError
    assert "does not speak S3" in str(raised)


@pytest.mark.parametrize(
    "broken",
    [
        listing(["s/x.dcm"]).replace(b"<Size>10</Size>", b""),
        listing(["s/x.dcm"]).replace(b"10", b"ten"),
        listing(["s/x.dcm"]).replace(b"2024-05", b"20XX-99"),
        listing(["s/x.dcm"], next_token="t").replace(b"NextContinuationToken", b"Other"),
        listing(["s/x.dcm", "elsewhere/y.dcm"]),
        listing(["s/x.dcm", "s/x.dcm"]),
    ],
    ids=["no size", "size no number", "no date", "no token", "other prefix", "twice"],
)
def test_a_listing_that_makes_no_sense_is_refused(broken: bytes) -> None:
    raised = failure(lambda request, _: request.send(200, broken), of="list")
    assert type(raised) is StoreError


def test_a_listing_that_was_cut_on_the_way_is_asked_for_again() -> None:
    def answer(request: Request, number: int) -> None:
        page = listing(["s/x.dcm", "s/y.dcm"])
        request.send(200, page[: -150 if number == 1 else None], Connection="close")

    with ScriptedServer(answer) as server, closing(quick_store(server.url)) as store:
        assert len(list_series(store)) == 2


@pytest.mark.parametrize("of", ["list", "get"])
@pytest.mark.parametrize("code", ["PermanentRedirect", ""])
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_told_and_not_followed(status: int, code: str, of: str) -> None:
    with FaultProxy("http://127.0.0.1:9") as proxy, closing(quick_store(proxy.endpoint_url)) as s:
        proxy.fail(Answer(status, code, (("Location", "http://127.0.0.1:1/login"),)))
        with pytest.raises(StoreError, match="redirects elsewhere") as caught:
            fetch(s) if of == "get" else list_series(s)
        assert type(caught.value) is StoreError
        assert len(proxy.log()) == 2  # directly, and through botocore


@pytest.mark.parametrize("of", ["list", "get"])
@pytest.mark.parametrize(
    ("status", "code", "headers"),
    [
        (400, "AuthorizationHeaderMalformed", ()),
        (400, "IllegalLocationConstraintException", ()),
        (301, "PermanentRedirect", (("x-amz-bucket-region", "eu-west-1"),)),
    ],
)
def test_no_other_region_is_looked_for(
    status: int, code: str, headers: tuple[tuple[str, str], ...], of: str
) -> None:
    with FaultProxy("http://127.0.0.1:9") as proxy, closing(quick_store(proxy.endpoint_url)) as s:
        proxy.fail(Answer(status, code, headers))
        with pytest.raises(StoreError, match=str(status)):
            fetch(s) if of == "get" else list_series(s)
        assert len(proxy.log()) == 2  # directly, and through botocore


def test_a_redirect_to_a_web_page_is_not_followed() -> None:
    raised = failure(
        lambda request, _: request.send(302, Location="http://127.0.0.1:1/login"), of="get"
    )
    assert "redirects elsewhere" in str(raised)


def test_a_listing_that_repeats_its_token_ends() -> None:
    def answer(request: Request, number: int) -> None:
        request.send(200, listing([f"s/{number}.dcm"], next_token="again"))

    assert "for ever" in str(failure(answer, of="list"))


def test_a_server_that_ignores_start_after_is_listed_page_by_page() -> None:
    def answer(request: Request, number: int) -> None:
        if request.query.get("continuation-token"):
            request.send(200, listing(["s/c.dcm", "s/d.dcm"]))
        else:
            request.send(200, listing(["s/b.dcm", "s/a.dcm"], next_token="t"))

    with ScriptedServer(answer) as server, closing(quick_store(server.url)) as store:
        listed = store.list_prefix("bucket", "s/", expected=5000)
    assert [o.key for o in listed] == ["s/a.dcm", "s/b.dcm", "s/c.dcm", "s/d.dcm"]


def test_where_no_thread_is_to_be_had_a_wide_series_is_listed_by_one() -> None:
    keys = [f"s/{number:04x}.dcm" for number in range(0, 65536, 30)]
    together = threading.Event()

    def answer(request: Request, number: int) -> None:
        after = request.query.get("start-after", "")
        asked.append(after)
        if len(set(asked)) > 1:
            together.set()
        if must_meet:
            assert together.wait(10)
        left = [key for key in keys if key > after]
        request.send(200, listing(left[:1000]))

    with ScriptedServer(answer) as server, closing(S3Store(endpoint_url=server.url)) as store:
        asked, must_meet = list[str](), False
        with no_threads("idcfs-listing") as refused:
            for _ in range(30):  # more than there are threads to spare
                assert [o.key for o in store.list_prefix("b", "s/", expected=len(keys))] == keys
        assert len(refused) == 30
        together.clear()
        asked, must_meet = [], True
        assert len(store.list_prefix("b", "s/", expected=len(keys))) == len(keys)


def test_a_listing_that_never_ends_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("idcfs.store.slices._MOST_PAGES", 7)

    def answer(request: Request, number: int) -> None:
        request.send(200, listing([f"s/{number}.dcm"], next_token=f"t{number}"))

    assert "does not end" in str(failure(answer, of="list"))


def test_pages_out_of_order_come_back_in_order() -> None:
    def answer(request: Request, number: int) -> None:
        if number == 1:
            request.send(200, listing(["s/b.dcm", "s/d.dcm"], next_token="t"))
        else:
            assert request.query["continuation-token"] == "t"
            request.send(200, listing(["s/c.dcm", "s/a.dcm"]))

    with ScriptedServer(answer) as server, closing(quick_store(server.url)) as store:
        listed = store.list_prefix("bucket", "s/")
    assert [o.key for o in listed] == ["s/a.dcm", "s/b.dcm", "s/c.dcm", "s/d.dcm"]
    assert {(o.size_bytes, o.mtime_ns, o.etag) for o in listed} == {
        (10, 1_714_979_289_123_000_000, ETAG)
    }


def test_a_body_that_breaks_off_is_resumed_behind_its_last_byte() -> None:
    def answer(request: Request, number: int) -> None:
        assert request.headers["If-Match"] == f'"{ETAG}"'
        request.send_range(CONTENT, stop_after=3000 if number <= 2 else None)

    with ScriptedServer(answer) as server, closing(quick_store(server.url)) as store:
        assert fetch(store, Extent(17, 9000)) == CONTENT[17:9017]
    assert [request.range for request in server.requests] == [
        (17, 9016),
        (3017, 9016),
        (6017, 9016),
    ]


def test_a_body_that_always_breaks_off_fails_in_the_end() -> None:
    received = bytearray()
    with (
        ScriptedServer(lambda r, _: r.send_range(CONTENT, stop_after=100)) as server,
        closing(quick_store(server.url)) as store,
        pytest.raises(IntegrityError, match="early"),
    ):
        store.get_extent("bucket", "s/x.dcm", WHOLE, received.extend, etag=ETAG)
    assert len(server.requests) == QUICK.attempts
    assert bytes(received) == CONTENT[:300]


def test_a_link_that_drops_every_megabyte_still_delivers() -> None:
    content = CONTENT * 820
    with (
        ScriptedServer(lambda r, _: r.send_range(content, stop_after=1 << 20)) as server,
        closing(quick_store(server.url)) as store,
    ):
        assert fetch(store, Extent(0, len(content))) == content
    assert len(server.requests) == 9 > QUICK.attempts


def test_an_object_that_changes_under_a_resumed_transfer_is_noticed() -> None:
    def answer(request: Request, number: int) -> None:
        # This server does not know If-Match, so only the answer's ETag tells.
        if number == 1:
            request.send_range(CONTENT, stop_after=10)
        else:
            request.send_range(CONTENT, etag="another")

    raised = failure(answer, of="get")
    assert type(raised) is IntegrityError
    assert "changed" in str(raised)


def misframed(**headers: str) -> Callable[[Request, int], None]:
    def answer(request: Request, _: int) -> None:
        request.send(206, CONTENT, **{"ETag": f'"{ETAG}"', **headers})

    return answer


@pytest.mark.parametrize(
    "answer",
    [
        misframed(Content_Range=f"bytes 0-{len(CONTENT) - 2}/{len(CONTENT) - 1}"),
        misframed(Content_Range=f"bytes 1-{len(CONTENT)}/{len(CONTENT) + 1}"),
        misframed(Content_Range=f"bytes 0-{len(CONTENT) - 1}/*", Content_Length="100"),
        misframed(Content_Range=f"bytes 0-{len(CONTENT) - 1}/*", Content_Length="99999"),
        misframed(),
        lambda r, _: r.send(200, CONTENT + b"tail", ETag=f'"{ETAG}"'),
        lambda r, _: r.send(200, CONTENT[:-1], ETag=f'"{ETAG}"'),
    ],
    ids=["short", "shifted", "length low", "length high", "no range", "200 long", "200 short"],
)
def test_a_body_of_another_extent_is_never_delivered(
    answer: Callable[[Request, int], None],
) -> None:
    assert isinstance(failure(answer, of="get"), IntegrityError)


def test_a_server_without_ranges_serves_whole_objects_only() -> None:
    with (
        ScriptedServer(lambda r, _: r.send(200, CONTENT, ETag=f'"{ETAG}"')) as server,
        closing(quick_store(server.url)) as store,
    ):
        assert fetch(store) == CONTENT
        with pytest.raises(IntegrityError):
            fetch(store, Extent(1, len(CONTENT) - 1))


def chunked(content: bytes) -> Callable[[Request, int], None]:
    def answer(request: Request, _: int) -> None:
        request.head(
            206,
            ETag=f'"{ETAG}"',
            Content_Range=f"bytes 0-{len(CONTENT) - 1}/{len(CONTENT)}",
            Transfer_Encoding="chunked",
        )
        for start in range(0, len(content), 1000):
            piece = content[start : start + 1000]
            request.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        request.wfile.write(b"0\r\n\r\n")

    return answer


def test_a_body_without_a_length_is_measured() -> None:
    with (
        ScriptedServer(chunked(CONTENT)) as server,
        closing(quick_store(server.url)) as store,
    ):
        assert fetch(store) == CONTENT
    assert "more than" in str(failure(chunked(CONTENT + b"x"), of="get"))
    assert isinstance(failure(chunked(CONTENT[:-1]), of="get"), IntegrityError)


def hold(stop: threading.Event) -> None:
    stop.wait(30)


@pytest.mark.parametrize("of", ["list", "get"])
def test_a_server_that_never_answers_is_given_up(of: str) -> None:
    stop = threading.Event()
    started = time.monotonic()
    try:
        raised = failure(lambda *_: hold(stop), of=of)
    finally:
        stop.set()
    assert type(raised) is StoreUnavailableError
    assert "stopped answering" in str(raised)
    assert time.monotonic() - started < 3 * 0.3 + 3


def test_a_body_that_stalls_is_given_up() -> None:
    stop = threading.Event()

    def answer(request: Request, _: int) -> None:
        request.promise_range(CONTENT)
        stop.wait(30)

    try:
        raised = failure(answer, of="get")
    finally:
        stop.set()
    assert type(raised) is StoreUnavailableError


def test_a_body_that_stalls_again_and_again_is_given_up_in_time() -> None:
    content = CONTENT * 20
    stop = threading.Event()

    def answer(request: Request, _: int) -> None:
        body = request.promise_range(content)
        request.wfile.write(body[:1000])
        request.wfile.flush()
        stop.wait(30)

    policy = RetryPolicy(attempts=100, first_pause_s=0.01, longest_pause_s=0.05, patience_s=3)
    with ScriptedServer(answer) as server:
        store = S3Store(endpoint_url=server.url, retry=policy, read_timeout_s=0.3)
        started = time.monotonic()
        try:
            with closing(store), pytest.raises(StoreUnavailableError, match="stopped answering"):
                fetch(store, Extent(0, len(content)))
        finally:
            stop.set()
    # Patience, one more attempt of two timeouts, and some time for a busy machine.
    assert time.monotonic() - started < 3 + 2 * 0.3 + 2
    assert 2 <= len(server.requests) <= 12


class _Clock:
    """Stands still unless told, or slept on."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


@pytest.mark.parametrize("brought", [0, 1, 1000, 1 << 19, (1 << 20) - 1])
def test_stalls_of_the_default_timeout_end_within_about_a_minute(brought: int) -> None:
    clock = _Clock()
    attempts = Attempts(
        policy=RetryPolicy(attempts=1000), sleep=clock.sleep, outage=Outage(None), clock=clock
    )

    def fail_for_ever() -> None:
        while clock.now_s < 600:
            attempts.progressed(brought)
            clock.now_s += 20
            attempts.wait_or_raise(StoreUnavailableError("stalled"))

    with pytest.raises(StoreUnavailableError):
        fail_for_ever()
    assert 45 <= clock.now_s <= 70


def test_a_link_that_makes_progress_is_never_given_up() -> None:
    clock = _Clock()
    attempts = Attempts(policy=RetryPolicy(), sleep=clock.sleep, outage=Outage(None), clock=clock)
    while clock.now_s < 3600:
        for _ in range(4):
            attempts.progressed(1 << 18)
            clock.now_s += 20
        attempts.wait_or_raise(StoreUnavailableError("stalled"))


def test_time_that_the_reader_took_is_not_held_against_the_store() -> None:
    clock = _Clock()
    attempts = Attempts(
        policy=RetryPolicy(),
        sleep=clock.sleep,
        outage=Outage(None),
        clock=clock,
    )
    attempts.progressed(1000)
    clock.now_s += 3600
    attempts.excuse(3590)
    attempts.wait_or_raise(StoreUnavailableError("reset"))
    assert 3600 < clock.now_s < 3601


@pytest.mark.parametrize(("asked_s", "expected_s"), [(3.0, 3.0), (600.0, 5.0), (0.0, 0.2)])
def test_a_store_that_asks_for_a_pause_gets_it_within_limits(
    asked_s: float, expected_s: float
) -> None:
    clock = _Clock()
    error = StoreUnavailableError("slow down")
    error.retry_after_s = asked_s
    Attempts(
        policy=RetryPolicy(), sleep=clock.sleep, outage=Outage(None), clock=clock
    ).wait_or_raise(error)
    assert expected_s / 2 <= clock.now_s <= expected_s
    assert clock.now_s == expected_s or asked_s < expected_s


def test_a_body_that_drips_is_given_up() -> None:
    stop = threading.Event()

    def answer(request: Request, _: int) -> None:
        for byte in request.promise_range(CONTENT):
            request.wfile.write(bytes([byte]))
            request.wfile.flush()
            if stop.wait(0.05):
                return

    try:
        raised = failure(answer, of="get")
    finally:
        stop.set()
    assert type(raised) is StoreUnavailableError


def test_a_refused_connection_is_reported_within_seconds() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        started = time.monotonic()
        with (
            closing(S3Store(endpoint_url=url)) as store,
            pytest.raises(StoreUnavailableError, match="Connection refused") as caught,
        ):
            store.list_prefix("bucket", "s/")
    assert time.monotonic() - started < 8
    assert url in str(caught.value)


def test_an_unknown_host_is_reported() -> None:
    with (
        closing(quick_store("http://store.invalid")) as store,
        pytest.raises(StoreUnavailableError, match=r"store\.invalid"),
    ):
        fetch(store)


def test_a_server_without_tls_is_reported() -> None:
    with (
        ScriptedServer(lambda r, _: r.send(200)) as server,
        closing(quick_store(server.url.replace("http:", "https:"))) as store,
        pytest.raises(StoreUnavailableError, match="TLS"),
    ):
        fetch(store)


def test_what_the_sink_raises_ends_the_transfer_unchanged() -> None:
    class DiskFullError(StoreUnavailableError):
        """Even an error that the store itself would try again."""

    def sink(_: memoryview) -> None:
        raise DiskFullError("no space")

    with (
        ScriptedServer(lambda r, _: r.send_range(CONTENT)) as server,
        closing(quick_store(server.url)) as store,
    ):
        with pytest.raises(DiskFullError):
            store.get_extent("bucket", "s/x.dcm", WHOLE, sink, etag=ETAG)
        assert len(server.requests) == 1
        assert fetch(store) == CONTENT


def test_an_unknown_etag_is_not_asked_for() -> None:
    received = bytearray()
    with (
        ScriptedServer(lambda r, _: r.send_range(CONTENT, etag="any")) as server,
        closing(quick_store(server.url)) as store,
    ):
        store.get_extent("bucket", "s/x.dcm", WHOLE, received.extend, etag="")
    assert "If-Match" not in server.requests[0].headers
    assert received == CONTENT


def test_an_empty_extent_asks_for_nothing() -> None:
    with ScriptedServer(lambda r, _: r.send(500)) as server, closing(quick_store(server.url)) as s:
        assert fetch(s, Extent(5, 0)) == b""
    assert server.requests == []


def test_what_the_server_says_cannot_write_to_the_terminal() -> None:
    raised = failure(lambda r, _: r.send_error_code(403, "Bad&#10;&#155;31m"), of="get")
    assert str(raised).isprintable()


def test_bytes_of_a_key_cannot_write_to_the_terminal() -> None:
    with (
        ScriptedServer(lambda r, _: r.send_error_code(404, "NoSuchKey")) as server,
        closing(quick_store(server.url)) as store,
        pytest.raises(ObjectNotFoundError) as caught,
    ):
        fetch(store, key="s/\x1b[31m\nred")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("key", ["", "\ud800"])
def test_impossible_keys_are_store_errors(key: str) -> None:
    with closing(quick_store("http://127.0.0.1:9")) as store, pytest.raises(StoreError):
        fetch(store, key=key)


def test_an_impossible_bucket_is_a_store_error() -> None:
    with closing(quick_store("http://127.0.0.1:9")) as store, pytest.raises(StoreError) as caught:
        store.list_prefix("No bucket/..", "s/")
    assert str(caught.value).isprintable()


def test_close_ends_a_pause_between_attempts() -> None:
    asked = threading.Event()

    def answer(request: Request, _: int) -> None:
        request.send_error_code(503, "SlowDown")
        asked.set()

    patient = RetryPolicy(attempts=3, first_pause_s=60, longest_pause_s=60)
    errors: list[StoreError] = []

    def work() -> None:
        try:
            store.list_prefix("bucket", "s/")
        except StoreError as exc:
            errors.append(exc)

    with ScriptedServer(answer) as server:
        store = S3Store(endpoint_url=server.url, retry=patient)
        thread = threading.Thread(target=work)
        thread.start()
        assert asked.wait(10)
        store.close()
        thread.join(10)
        assert not thread.is_alive()
    assert len(errors) == 1


@pytest.mark.parametrize(
    "url",
    ["", "localhost:9000", "ftp://host", "http://", "http://host:port", "http://a b/", "//host",
     "http://user:secret@host", "http://host/?q", "http://[::1", "http://h\nost"],
)  # fmt: skip
def test_what_is_no_url_is_refused_at_once(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        S3Store(endpoint_url=url)
    assert "secret" not in str(caught.value)


def test_settings_for_other_work_do_not_interfere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "no-such-profile")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "half a pair")
    with (
        ScriptedServer(lambda r, _: r.send_range(CONTENT)) as server,
        closing(quick_store(server.url)) as store,
    ):
        assert fetch(store) == CONTENT
    assert "Authorization" not in server.requests[0].headers


def test_the_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with ScriptedServer(lambda r, _: r.send_range(CONTENT)) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("http_proxy", proxy.url)
        with closing(quick_store("http://store.invalid")) as store:
            assert fetch(store) == CONTENT
    assert proxy.requests[0].path == "http://store.invalid/bucket/s/x.dcm"


def test_google_is_asked_for_its_own_buckets() -> None:
    with (
        ScriptedServer(lambda r, _: r.send(200, listing([]))) as server,
        closing(S3Store(endpoint_url=server.url, source="gcs")) as store,
    ):
        for bucket in ("idc-open-data", "idc-open-data-two", "idc-open-data-cr", "mine"):
            assert store.list_prefix(bucket, "s/") == []
    assert [r.path.split("?")[0] for r in server.requests] == [
        "/idc-open-data",
        "/idc-open-idc1",
        "/idc-open-cr",
        "/mine",
    ]


def test_no_more_connections_are_used_than_allowed() -> None:
    gate = threading.Semaphore(0)
    running: list[int] = []
    peak: list[int] = []
    lock = threading.Lock()

    def answer(request: Request, _: int) -> None:
        with lock:
            running.append(1)
            peak.append(len(running))
            if len(running) == 3:
                gate.release(12)
        gate.acquire(timeout=10)
        with lock:
            running.pop()
        request.send_range(CONTENT)

    with (
        ScriptedServer(answer) as server,
        closing(S3Store(endpoint_url=server.url, max_connections=3)) as store,
    ):
        threads = [threading.Thread(target=fetch, args=(store,)) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(server.requests) == 12
    assert max(peak) == 3


def test_importing_the_store_does_not_load_what_requests_need() -> None:
    heavy = "{'ssl', 'socket', 'urllib.request', 'botocore', 'xml.etree'}"
    code = (
        f"import sys, idcfs.store.s3 as s; s.S3Store(); sys.exit(bool({heavy} & {{*sys.modules}}))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
