"""Many answers in one thread: each byte where it belongs, and whatever is unusual left to others.

Nearly all is shown over pairs of sockets, whose far ends say what a test has them say.
"""

from __future__ import annotations

import functools
import os
import select
import socket
import ssl
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from idcfs.errors import StoreUnavailableError
from idcfs.model import Checksum, Extent
from idcfs.store.asked import UnusualError
from idcfs.store.connections import LONGEST_IDLE_S
from idcfs.store.dialling import Dialler
from idcfs.store.direct import DirectWire
from idcfs.store.endpoint import get_endpoint
from idcfs.store.http import LONGEST_HEAD_BYTES
from idcfs.store.multiplex import MOST_RECORDS, DirectMultiplexer
from idcfs.store.protocol import AskOtherwiseError, ExtentRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from idcfs.store.connections import Server
    from idcfs.store.protocol import Drop, OfferedSink

BUCKET = "bucket"
ETAG = "781e5e245d69b566979b86e28d23f2c7"
CONTENT = bytes(range(256)) * 20
WHOLE = Extent(0, len(CONTENT))
CONTENT_LENGTH = b"Content-Length: %d" % len(CONTENT)
TAG = b'ETag: "%s"' % ETAG.encode()
SILENCE_S = 10.0


def answer(body: bytes = CONTENT, *headers: bytes, status: bytes = b"200 OK") -> bytes:
    """Return the ordinary answer; `headers` come last."""
    lines = TAG, b"Content-Length: %d" % len(body), *headers
    return b"HTTP/1.1 %s\r\n%s\r\n\r\n%s" % (status, b"\r\n".join(lines), body)


def odd_answer(head: bytes, body: bytes = CONTENT) -> bytes:
    return head.replace(b"\n", b"\r\n") + b"\r\n\r\n" + body


class Exchange:
    """What became of one request."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.pieces = 0
        self.ends: list[Exception | None] = []
        self.drop: Drop | None = None
        self.raises: Exception | None = None

    def take(self, chunk: memoryview) -> None:
        if self.raises is not None:
            raise self.raises
        self.pieces += 1
        self.received += chunk

    @property
    def is_under_way(self) -> bool:
        return self.drop is not None and not self.ends

    @property
    def met(self) -> AskOtherwiseError:
        """The one error that it ended with."""
        (error,) = self.ends
        assert isinstance(error, AskOtherwiseError)
        return error


class Bench:
    """A multiplexer, and the far ends of all connections that were made."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        patch.setattr(Dialler, "dial", lambda _, server: self.dial(server))
        patch.setattr("idcfs.store.direct.is_proxied", lambda server: False)
        self.now_s = 1000.0
        self.far: list[socket.socket] = []
        self.near: list[socket.socket] = []
        self.pair: Callable[[], tuple[socket.socket, socket.socket]] = socket.socketpair
        self.says_at_once = b""
        """What comes over a new connection at once."""
        endpoint = get_endpoint("http://store.invalid:9000", "aws")
        self.wire = DirectWire(
            endpoint=endpoint,
            max_connections=100,
            connect_timeout_s=1.0,
            read_timeout_s=5.0,
        )
        self.multiplexer = DirectMultiplexer(
            self.wire,
            bucket_name=endpoint.bucket_name,
            read_timeout_s=SILENCE_S,
            clock=lambda: self.now_s,
        )

    def dial(self, _: Server) -> socket.socket:
        near, far = self.pair()
        near.settimeout(5.0)
        far.settimeout(5.0)
        self.near.append(near)
        self.far.append(far)
        far.sendall(self.says_at_once)
        return near

    def keep(self, count: int = 1) -> list[socket.socket]:
        """Have the pool keep so many new connections; return their far ends."""
        self.says_at_once = answer()
        made = len(self.far)
        bodies = [self.wire.open_extent(BUCKET, "s/first.dcm", WHOLE, ETAG) for _ in range(count)]
        for body in bodies:
            with body:
                assert b"".join(bytes(piece) for piece in body) == CONTENT
        self.says_at_once = b""
        for far in self.far[made:]:
            read_request(far)
        return self.far[made:]

    def begin(
        self,
        key: str = "s/x.dcm",
        length: int = len(CONTENT),
        offered: OfferedSink | None = None,
    ) -> Exchange:
        exchange = Exchange()
        extent, ended = Extent(0, length), exchange.ends.append
        exchange.drop = self.multiplexer.begin(
            ExtentRequest(BUCKET, key, extent, ETAG, exchange.take, ended, offered)
        )
        return exchange

    def far_by_key(self) -> dict[str, socket.socket]:
        """Take a request from each far end, and return the ends by what was asked for."""
        return {key_of(read_request(far)): far for far in self.far}

    def turn(self) -> None:
        """Have everything taken that has come."""
        while is_readable(self.multiplexer.fileno()):
            self.multiplexer.turn()

    def next_error(self, key: str = "s/x.dcm") -> Exception | None:
        """Return what the next who asks for an object meets without a request, if anything."""
        made, self.says_at_once = len(self.far), answer()
        try:
            with self.wire.open_extent(BUCKET, key, WHOLE, ETAG) as body:
                for _ in body:
                    pass
        except (UnusualError, StoreUnavailableError) as exc:
            assert len(self.far) == made
            return exc
        finally:
            self.says_at_once = b""
        return None

    def close(self) -> None:
        self.multiplexer.close()
        self.wire.close()
        for far in self.far:
            far.close()


def tls_pair(authority: trustme.CA) -> tuple[socket.socket, socket.socket]:
    """Return two ends that speak TLS with each other."""
    near, far = socket.socketpair()
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    certified = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("store.invalid").configure_cert(certified)
    with ThreadPoolExecutor(1) as thread:
        shaking = thread.submit(certified.wrap_socket, far, server_side=True)
        secured = trusting.wrap_socket(near, server_hostname="store.invalid")
        return secured, shaking.result()


def is_readable(descriptor: int) -> bool:
    waiting = select.poll()
    waiting.register(descriptor, select.POLLIN)
    return bool(waiting.poll(0))


def is_hung_up(far: socket.socket) -> bool:
    """Tell whether nothing more comes from the other end; what came before must be read."""
    if not is_readable(far.fileno()):
        return False
    try:
        return far.recv(1, socket.MSG_PEEK) == b""
    except ConnectionResetError:  # it had not read all
        return True


def read_request(far: socket.socket) -> bytes:
    """Take one request, which has been sent."""
    request = b""
    while not request.endswith(b"\r\n\r\n"):
        piece = far.recv(1 << 16)
        assert piece, "hung up"
        request += piece
    assert request.count(b"GET ") == 1
    return request


def key_of(request: bytes) -> str:
    return request.split(b" ")[1].decode().removeprefix(f"/{BUCKET}/")


def cut(content: bytes, cuts: list[int]) -> list[bytes]:
    edges = sorted({0, *(cut % (len(content) + 1) for cut in cuts), len(content)})
    return [content[a:b] for a, b in pairwise(edges)]


@contextmanager
def multiplexing() -> Iterator[Bench]:
    """Give a bench; afterwards no descriptor is left."""
    before = len(os.listdir("/proc/self/fd"))
    with pytest.MonkeyPatch.context() as patch:
        made = Bench(patch)
        try:
            yield made
        finally:
            made.close()
    # Fewer, if what other tests have left was collected meanwhile.
    assert len(os.listdir("/proc/self/fd")) <= before


@pytest.fixture
def bench() -> Iterator[Bench]:
    with multiplexing() as bench:
        yield bench


CUTS = st.lists(st.integers(0, 10_000), max_size=12)
BODIES = st.lists(st.binary(min_size=1, max_size=5000), min_size=1, max_size=4)


# The ordinary answer


@given(BODIES, CUTS)
def test_answers_come_whole_and_one_after_another_wherever_they_are_cut(
    bodies: list[bytes], cuts: list[int]
) -> None:
    with multiplexing() as bench:
        (far,) = bench.keep()
        for body in bodies:
            exchange = bench.begin(length=len(body))
            read_request(far)
            for piece in cut(answer(body), cuts):
                assert exchange.is_under_way
                far.sendall(piece)
                bench.turn()
            assert exchange.ends == [None]
            assert exchange.received == body
        assert len(bench.far) == 1


@given(st.lists(st.binary(min_size=1, max_size=2000), min_size=2, max_size=5), CUTS, st.data())
def test_answers_that_come_at_once_are_kept_apart(
    bodies: list[bytes], cuts: list[int], data: st.DataObject
) -> None:
    with multiplexing() as bench:
        bench.keep(len(bodies))
        exchanges = [bench.begin(f"s/{n}.dcm", len(body)) for n, body in enumerate(bodies)]
        far = bench.far_by_key()
        to_send = {n: deque(cut(answer(body), cuts)) for n, body in enumerate(bodies)}
        while to_send:
            number = data.draw(st.sampled_from(sorted(to_send)))
            far[f"s/{number}.dcm"].sendall(to_send[number].popleft())
            if data.draw(st.booleans()):
                bench.turn()
            if not to_send[number]:
                del to_send[number]
        bench.turn()
        assert [exchange.ends for exchange in exchanges] == [[None]] * len(bodies)
        assert [bytes(exchange.received) for exchange in exchanges] == bodies


def test_an_object_is_asked_for_as_it_was_listed(bench: Bench) -> None:
    (far,) = bench.keep()
    bench.begin("s/a b.dcm")
    request = read_request(far)
    assert request.startswith(b"GET /bucket/s/a%20b.dcm HTTP/1.1\r\nHost: store.invalid:9000\r\n")
    assert b'\r\nIf-Match: "%s"\r\n' % ETAG.encode() in request
    assert b"\r\nRange: bytes=0-%d\r\n" % (len(CONTENT) - 1) in request


def test_a_partial_answer_to_an_extent_is_an_ordinary_one(bench: Bench) -> None:
    (far,) = bench.keep()
    exchange = bench.begin()
    content_range = b"Content-Range: bytes 0-%d/99999" % (len(CONTENT) - 1)
    far.sendall(answer(CONTENT, content_range, status=b"206 Partial Content"))
    bench.turn()
    assert exchange.ends == [None]
    assert exchange.received == CONTENT


def test_what_is_larger_than_all_buffers_comes_whole(bench: Bench) -> None:
    body = CONTENT * 600
    (far,) = bench.keep()
    exchange = bench.begin(length=len(body))
    left = memoryview(answer(body))
    far.setblocking(False)
    while left:
        left = left[far.send(left) :]
        bench.turn()
    assert exchange.ends == [None]
    assert exchange.received == body
    assert exchange.pieces > 1


def test_a_connection_has_its_turn_though_more_comes_over_another(bench: Bench) -> None:
    bench.pair = functools.partial(tls_pair, trustme.CA())
    (far,) = bench.keep()
    exchange = bench.begin()
    read_request(far)
    whole = memoryview(answer())
    for start in range(0, len(whole), 100):
        far.sendall(whole[start : start + 100])  # a record each
    bench.multiplexer.turn()
    # As many as one may have, the first of which was the head, and more wait.
    assert exchange.pieces <= MOST_RECORDS
    assert len(exchange.received) > 100 * (MOST_RECORDS - 2)
    assert exchange.is_under_way
    bench.turn()
    assert exchange.ends == [None]
    assert exchange.received == CONTENT


def test_nothing_is_asked_where_no_connection_is_idle(bench: Bench) -> None:
    assert bench.begin().drop is None
    bench.keep()
    assert bench.begin().is_under_way
    second = bench.begin()
    assert second.drop is None
    assert second.ends == []
    assert len(bench.far) == 1


def test_what_cannot_go_directly_is_not_asked(bench: Bench) -> None:
    (far,) = bench.keep()
    assert bench.begin("").drop is None
    assert not is_readable(far.fileno())
    assert bench.begin().is_under_way


# Checksums


def test_checksums_are_told_of_before_the_first_byte(bench: Bench) -> None:
    (far,) = bench.keep()
    told: list[tuple[list[Checksum], int]] = []
    exchange = bench.begin(
        offered=lambda checksums: told.append((list(checksums), len(exchange.received)))
    )
    request = read_request(far)
    assert b"\r\nx-amz-checksum-mode: ENABLED\r\n" in request
    assert b"\r\nRange:" not in request
    far.sendall(answer(CONTENT, b"x-amz-checksum-crc32: AAECAw=="))
    bench.turn()
    assert told == [([Checksum("crc32", bytes(range(4)))], 0)]
    assert exchange.ends == [None]
    assert exchange.received == CONTENT


def test_checksums_that_nobody_wants_are_neither_asked_for_nor_told(bench: Bench) -> None:
    (far,) = bench.keep()
    exchange = bench.begin()
    assert b"checksum" not in read_request(far)
    far.sendall(answer(CONTENT, b"x-amz-checksum-crc32: AAECAw=="))
    bench.turn()
    assert exchange.ends == [None]


# Whether a connection may be used again


@pytest.mark.parametrize(
    "last",
    [
        answer() + b"H",
        answer(CONTENT, b"Connection: close"),
        answer(CONTENT, b"Connection: Keep-Alive, Close"),
        answer().replace(b"HTTP/1.1", b"HTTP/1.0", 1),
    ],
    ids=["more than asked for", "close", "close among others", "HTTP/1.0"],
)
def test_a_connection_is_not_used_again_if_it_may_not_be(bench: Bench, last: bytes) -> None:
    (far,) = bench.keep()
    exchange = bench.begin()
    read_request(far)
    far.sendall(last)
    bench.turn()
    assert exchange.ends == [None]
    assert exchange.received == CONTENT
    assert is_hung_up(far)
    assert bench.begin().drop is None


def test_bytes_beyond_the_body_go_to_nobody(bench: Bench) -> None:
    (far,) = bench.keep()
    exchange = bench.begin()
    read_request(far)
    edge = len(answer()) - 100
    far.sendall(answer()[:edge])
    bench.turn()
    far.sendall(answer()[edge:] + answer(b"another's"))
    bench.turn()
    assert exchange.ends == [None]
    assert exchange.received == CONTENT
    assert is_hung_up(far)


@pytest.mark.parametrize("late", [b"HTTP/1.1 408 Request Timeout\r\n\r\n", b""])
def test_an_idle_connection_over_which_something_comes_is_hung_up(
    bench: Bench, late: bytes
) -> None:
    (far,) = bench.keep()
    bench.begin()
    read_request(far)
    far.sendall(answer())
    bench.turn()
    far.sendall(late)
    if not late:
        far.shutdown(socket.SHUT_WR)
    bench.turn()
    assert is_hung_up(far)
    assert bench.begin().drop is None


def test_a_connection_is_not_used_again_after_a_long_time(bench: Bench) -> None:
    (far,) = bench.keep()
    for idle_s in (LONGEST_IDLE_S - 1, LONGEST_IDLE_S - 1, LONGEST_IDLE_S):
        exchange = bench.begin()
        read_request(far)
        far.sendall(answer())
        bench.turn()
        assert exchange.ends == [None]
        bench.now_s += idle_s
        bench.multiplexer.expire()
        assert is_hung_up(far) is (idle_s == LONGEST_IDLE_S)
    assert bench.begin().drop is None


# Hanging up


def test_a_connection_that_is_hung_up_already_is_passed_over(bench: Bench) -> None:
    (far,) = bench.keep()
    far.close()
    exchange = bench.begin()
    assert exchange.drop is None
    assert exchange.ends == []
    assert bench.next_error() is None


def test_a_connection_that_takes_only_a_part_of_a_request_is_hung_up(bench: Bench) -> None:
    bench.keep()
    assert bench.begin("s/" + "x" * 1_000_000).drop is None
    assert bench.near[0].fileno() == -1


def test_a_connection_that_takes_no_request_is_passed_over(bench: Bench) -> None:
    bench.keep()
    (near,) = bench.near
    near.setblocking(False)
    with suppress(BlockingIOError):
        while near.send(bytes(1 << 16)):
            pass
    assert bench.begin().drop is None
    assert near.fileno() == -1


def test_a_hang_up_before_the_answer_is_no_failure(bench: Bench) -> None:
    (far,) = bench.keep()
    exchange = bench.begin()
    read_request(far)
    far.close()
    bench.turn()
    assert "hung up" in str(exchange.met)
    assert bench.next_error() is None


@pytest.mark.parametrize("came", [b"H", answer()[:40], answer(b"")[:-1]])
def test_a_hang_up_within_the_head_counts_as_an_attempt(bench: Bench, came: bytes) -> None:
    (far,) = bench.keep()
    exchange = bench.begin()
    read_request(far)
    far.sendall(came)
    far.close()
    bench.turn()
    assert "hung up" in str(exchange.met)
    assert exchange.received == b""
    assert isinstance(bench.next_error(), StoreUnavailableError)


@pytest.mark.parametrize("missing", [1, len(CONTENT)])
@pytest.mark.parametrize("at_once", [True, False])
def test_a_hang_up_within_the_body_counts_as_an_attempt(
    bench: Bench, missing: int, at_once: bool
) -> None:
    (far,) = bench.keep()
    exchange = bench.begin()
    read_request(far)
    far.sendall(answer()[:-missing])
    if not at_once:
        bench.turn()
    far.close()
    bench.turn()
    assert "hung up" in str(exchange.met)
    assert exchange.received == CONTENT[:-missing]
    assert isinstance(bench.next_error(), StoreUnavailableError)


def test_a_connection_that_is_reset_counts_as_an_attempt(bench: Bench) -> None:
    (far,) = bench.keep()
    exchange = bench.begin()  # its request is not read, and so the far end's closing is a reset
    far.sendall(answer()[:-1])
    bench.turn()
    far.close()
    bench.turn()
    assert isinstance(exchange.met, AskOtherwiseError)
    error = bench.next_error()
    assert isinstance(error, StoreUnavailableError)
    assert "broke" in str(error)


def test_dropping_hangs_up_and_tells_nobody(bench: Bench) -> None:
    bench.keep(2)
    exchange, other = bench.begin("s/x.dcm"), bench.begin("s/y.dcm")
    far = bench.far_by_key()
    far["s/x.dcm"].sendall(answer()[:-1])
    bench.turn()
    assert exchange.drop is not None
    exchange.drop()
    assert is_hung_up(far["s/x.dcm"])
    far["s/y.dcm"].sendall(answer())
    bench.turn()
    assert exchange.ends == []
    assert other.ends == [None]
    assert bench.next_error() is None


def test_closing_hangs_up_whatever_is_under_way_or_idle(bench: Bench) -> None:
    bench.keep(3)
    exchanges = [bench.begin(f"s/{n}.dcm") for n in range(3)]
    far = bench.far_by_key()
    far["s/0.dcm"].sendall(answer())
    far["s/1.dcm"].sendall(answer()[:-1])
    bench.turn()
    bench.multiplexer.close()
    assert [exchange.ends for exchange in exchanges] == [[None], [], []]
    assert all(is_hung_up(far) for far in bench.far)


def test_after_closing_nothing_is_asked_and_dropping_does_no_harm(bench: Bench) -> None:
    bench.keep(2)
    exchange = bench.begin()
    bench.multiplexer.close()
    assert exchange.drop is not None
    exchange.drop()
    assert bench.begin().drop is None


# Unusual answers

UNUSUAL = {
    "another ETag": b'HTTP/1.1 200 OK\nETag: "other"\n' + CONTENT_LENGTH,
    "no ETag": b"HTTP/1.1 200 OK\n" + CONTENT_LENGTH,
    "shorter": b"HTTP/1.1 200 OK\n" + TAG + b"\nContent-Length: %d" % (len(CONTENT) - 1),
    "longer": b"HTTP/1.1 200 OK\n" + TAG + b"\nContent-Length: %d" % (len(CONTENT) + 1),
    "no length": b"HTTP/1.1 200 OK\n" + TAG,
    "two lengths": b"HTTP/1.1 200 OK\n" + TAG + b"\nContent-Length: 1\n" + CONTENT_LENGTH,
    "another range": b"HTTP/1.1 206 Partial Content\n"
    + TAG
    + b"\nContent-Range: bytes 1-%d/9999\n" % len(CONTENT)
    + CONTENT_LENGTH,
    "no range": b"HTTP/1.1 206 Partial Content\n" + TAG + b"\n" + CONTENT_LENGTH,
    "chunked": b"HTTP/1.1 200 OK\n" + TAG + b"\nTransfer-Encoding: chunked",
    "chunked with a length": b"HTTP/1.1 200 OK\n"
    + TAG
    + b"\nTransfer-Encoding: chunked\n"
    + CONTENT_LENGTH,
    "missing": b"HTTP/1.1 404 Not Found\n" + CONTENT_LENGTH,
    "another status": b"HTTP/1.1 203 Non-Authoritative\n" + TAG + b"\n" + CONTENT_LENGTH,
    "changed": b"HTTP/1.1 412 Precondition Failed\n" + CONTENT_LENGTH,
    "elsewhere": b"HTTP/1.1 307 Temporary Redirect\nLocation: http://other.invalid/\n"
    + CONTENT_LENGTH,
    "more to come": b"HTTP/1.1 100 Continue",
    "another protocol": b"SSH-2.0-OpenSSH_9.2",
    "another version": b"HTTP/2 200 OK\n" + TAG + b"\n" + CONTENT_LENGTH,
    "malformed": b"HTTP/1.1 200 OK\n" + TAG + b"\nno colon\n" + CONTENT_LENGTH,
}


@pytest.mark.parametrize("head", UNUSUAL.values(), ids=UNUSUAL.keys())
def test_what_is_unusual_is_left_to_the_next_who_asks(bench: Bench, head: bytes) -> None:
    (far,) = bench.keep()
    exchange = bench.begin()
    read_request(far)
    far.sendall(odd_answer(head))
    bench.turn()
    assert str(exchange.met)
    assert exchange.received == b""
    assert is_hung_up(far)
    assert isinstance(bench.next_error(), UnusualError)
    assert bench.next_error() is None  # once only


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_busy_store_is_left_to_the_next_who_asks(bench: Bench, status: int) -> None:
    (far,) = bench.keep()
    exchange = bench.begin()
    read_request(far)
    far.sendall(
        odd_answer(b"HTTP/1.1 %d Busy\nRetry-After: 7\nContent-Length: 4" % status, b"Busy")
    )
    bench.turn()
    assert str(status) in str(exchange.met)
    assert exchange.received == b""
    error = bench.next_error()
    assert isinstance(error, StoreUnavailableError)
    assert error.retry_after_s == 7
    assert error.asks_for_less is (status in (429, 503))
    assert bench.next_error() is None


def test_only_the_object_that_met_an_error_meets_it_again(bench: Bench) -> None:
    (far,) = bench.keep()
    bench.begin("s/x.dcm")
    read_request(far)
    far.sendall(odd_answer(UNUSUAL["missing"]))
    bench.turn()
    assert bench.next_error("s/y.dcm") is None
    assert isinstance(bench.next_error("s/x.dcm"), UnusualError)


@pytest.mark.parametrize("piece_bytes", [1 << 10, LONGEST_HEAD_BYTES, 80_000, 150_000])
def test_headers_that_do_not_end_are_unusual(bench: Bench, piece_bytes: int) -> None:
    (far,) = bench.keep()
    exchange = bench.begin()
    read_request(far)
    # Were a part of it left out, the rest would look like the ordinary answer.
    endless = b"HTTP/1.1 200 OK\r\nA: " + bytes(150_000).replace(b"\0", b"a")
    ordinary = answer().removeprefix(b"HTTP/1.1 200 OK")
    far.setblocking(False)
    for start in range(0, len(endless), piece_bytes):
        if is_hung_up(far):
            break
        far.sendall(endless[start : start + piece_bytes])
        if start + piece_bytes >= len(endless):
            far.sendall(ordinary)
        bench.turn()
    assert "do not end" in str(exchange.met)
    assert exchange.received == b""
    assert isinstance(bench.next_error(), UnusualError)


# What comes too slowly


@pytest.mark.parametrize("came", [b"", answer()[:10], answer()[:-1]])
def test_silence_is_waited_for_only_so_long(bench: Bench, came: bytes) -> None:
    (far,) = bench.keep()
    exchange = bench.begin()
    read_request(far)
    far.sendall(came)
    bench.turn()
    bench.now_s += SILENCE_S - 1
    bench.multiplexer.expire()
    assert exchange.is_under_way
    bench.now_s += 2
    bench.multiplexer.expire()
    assert isinstance(exchange.met, AskOtherwiseError)
    assert is_hung_up(far)
    error = bench.next_error()
    assert isinstance(error, StoreUnavailableError)
    assert "stopped answering" in str(error)


def test_a_silence_counts_from_the_last_byte(bench: Bench) -> None:
    body = bytes(60_000)
    (far,) = bench.keep()
    exchange = bench.begin(length=len(body))
    bench.now_s += SILENCE_S - 1
    far.sendall(answer(body)[:-1])
    bench.turn()
    for later_s, is_patient in ((1, True), (SILENCE_S - 1.5, True), (1, False)):
        bench.now_s += later_s
        bench.multiplexer.expire()
        assert exchange.is_under_way is is_patient
    assert "nothing comes" in str(exchange.met)


def test_whatever_comes_ends_a_silence(bench: Bench) -> None:
    body = bytes(60_000)
    (far,) = bench.keep()
    exchange = bench.begin(length=len(body))
    for piece in cut(answer(body), [20_000, 40_000]):
        bench.now_s += SILENCE_S - 1
        bench.multiplexer.expire()
        far.sendall(piece)
        bench.turn()
    assert exchange.ends == [None]
    assert exchange.received == body


def test_what_has_come_unnoticed_is_no_silence(bench: Bench) -> None:
    far_ends = bench.keep(20)
    exchanges = [bench.begin(f"s/{n}.dcm") for n in range(20)]
    for far in far_ends:
        far.sendall(answer())
    bench.now_s += 3 * SILENCE_S  # in which the process was stopped, or waited for its disk
    bench.multiplexer.turn()
    bench.multiplexer.expire()
    bench.turn()
    assert [exchange.ends for exchange in exchanges] == [[None]] * 20


@pytest.mark.parametrize(("bytes_per_s", "is_enough"), [(1000, False), (1100, True)])
@pytest.mark.parametrize("within_head", [True, False])
def test_a_drip_is_given_up(
    bench: Bench, bytes_per_s: int, is_enough: bool, within_head: bool
) -> None:
    body = bytes(100_000)
    (far,) = bench.keep()
    exchange = bench.begin(length=len(body))
    read_request(far)
    whole = answer(body)
    if within_head:
        whole = whole.replace(b"ETag", b"X: %s\r\nETag" % (b"x" * 40_000), 1)
    for second in range(25):
        far.sendall(whole[second * bytes_per_s : (second + 1) * bytes_per_s])
        bench.turn()
        bench.now_s += 1
        bench.multiplexer.expire()
        if exchange.ends:
            break
    assert exchange.is_under_way is is_enough
    if not is_enough:
        assert "bytes a second" in str(exchange.met)
        assert is_hung_up(far)
        assert isinstance(bench.next_error(), StoreUnavailableError)


def test_it_tells_whether_there_is_anything_to_look_after(bench: Bench) -> None:
    assert not bench.multiplexer.expire()
    (far,) = bench.keep()
    exchange = bench.begin()
    assert bench.multiplexer.expire()
    far.sendall(answer())
    bench.turn()
    assert exchange.ends == [None]
    assert bench.multiplexer.expire()  # the connection is idle now
    far.close()
    bench.turn()
    assert not bench.multiplexer.expire()


def test_one_that_is_given_up_does_not_keep_others_from_being_looked_at(bench: Bench) -> None:
    bench.keep(3)
    exchanges = [bench.begin(f"s/{n}.dcm") for n in range(3)]
    bench.now_s += SILENCE_S + 1
    bench.multiplexer.expire()
    assert all(exchange.met for exchange in exchanges)
    bench.multiplexer.expire()
    assert [len(exchange.ends) for exchange in exchanges] == [1, 1, 1]


# Errors of who receives


@pytest.mark.parametrize("error", [OSError("disk full"), BlockingIOError(), ValueError()])
def test_an_error_of_the_sink_ends_its_exchange_and_no_other(
    bench: Bench, error: Exception
) -> None:
    bench.keep(2)
    failing, other = bench.begin("s/x.dcm"), bench.begin("s/y.dcm")
    failing.raises = error
    far = bench.far_by_key()
    for each in far.values():
        each.sendall(answer())
    bench.turn()
    assert failing.ends == [error]
    assert other.ends == [None]
    assert other.received == CONTENT
    assert is_hung_up(far["s/x.dcm"])
    assert not is_hung_up(far["s/y.dcm"])
    assert bench.next_error() is None


def test_an_error_of_who_is_offered_checksums_ends_its_exchange_alone(bench: Bench) -> None:
    error = ZeroDivisionError()

    def offered(_: object) -> None:
        raise error

    (far,) = bench.keep()
    exchange = bench.begin(offered=offered)
    far.sendall(answer(CONTENT, b"x-amz-checksum-crc32: AAECAw=="))
    bench.turn()
    assert exchange.ends == [error]
    assert exchange.received == b""
