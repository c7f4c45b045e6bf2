"""Answers are read the same however they arrive, and refused where they are ambiguous."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idcfs.store.bodies import Pace
from idcfs.store.connections import Connection, Pool, Server
from idcfs.store.http import (
    Answer,
    EndedEarlyError,
    MalformedAnswerError,
    NoAnswerError,
    ask,
    parse_head,
)

SERVER = Server("http", "store.example", 80)
OK = b"HTTP/1.1 200 OK\r\n"


class Pieces:
    """A stream that gives what it is made of, piece by piece, and then ends."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = [piece for piece in pieces if piece]
        self.sent = b""
        self.closed = False

    def sendall(self, content: bytes, /) -> None:
        self.sent += content

    def send(self, content: bytes, /) -> int:
        self.sent += content
        return len(content)

    def recv_into(self, buffer: memoryview, /) -> int:
        assert len(buffer), "asked for nothing"
        if not self._pieces:
            return 0
        piece = self._pieces.pop(0)
        if len(piece) > len(buffer):
            piece, rest = piece[: len(buffer)], piece[len(buffer) :]
            self._pieces.insert(0, rest)
        buffer[: len(piece)] = piece
        return len(piece)

    def settimeout(self, timeout_s: float, /) -> None:
        pass

    def fileno(self) -> int:
        return -1

    def close(self) -> None:
        self.closed = True


def never_dial(_: Server) -> Pieces:
    raise AssertionError("nobody asked for a connection")


def begin(*pieces: bytes) -> tuple[Answer, Pieces, Pool]:
    stream, pool = Pieces(list(pieces)), Pool(dial=never_dial, most_idle=1, clock=lambda: 0.0)
    connection = Connection(SERVER, stream)
    answer = ask(b"GET", connection=connection, pool=pool, read_timeout_s=9.0)
    return answer, stream, pool


def read(*pieces: bytes) -> tuple[bytes, bool]:
    """Return the body, and whether the connection was kept."""
    answer, stream, pool = begin(*pieces)
    with answer:
        body = b"".join(bytes(piece) for piece in answer.pieces())
    kept = pool.find_idle(SERVER) is not None
    assert stream.closed is not kept
    return body, kept


def cut(content: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(content) + 1) for cut in cuts), len(content)]
    return [content[a:b] for a, b in pairwise(edges)]


CUTS = st.lists(st.integers(0, 10_000), max_size=12)
BODIES = st.lists(st.binary(min_size=1, max_size=300), max_size=6)


@given(BODIES, CUTS)
def test_a_body_with_a_length_is_read_to_its_end(parts: list[bytes], cuts: list[int]) -> None:
    body = b"".join(parts)
    whole = OK + b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
    assert read(*cut(whole, cuts)) == (body, True)


@given(BODIES, CUTS, st.sampled_from([b"", b";ext=1", b" "]), st.sampled_from([b"", b"A: b\r\n"]))
def test_chunks_are_joined(parts: list[bytes], cuts: list[int], ext: bytes, trail: bytes) -> None:
    chunks = b"".join(b"%X%s\r\n%s\r\n" % (len(part), ext, part) for part in parts)
    whole = OK + b"Transfer-Encoding: Chunked\r\n\r\n" + chunks + b"0\r\n" + trail + b"\r\n"
    assert read(*cut(whole, cuts)) == (b"".join(parts), True)


def test_a_body_without_a_length_is_not_read() -> None:
    with pytest.raises(MalformedAnswerError, match="how long"):
        read(OK + b"\r\n12345")


def test_a_body_larger_than_the_buffer_is_read() -> None:
    body = bytes(range(256)) * 4096
    assert read(OK + b"Content-Length: %d\r\n\r\n" % len(body) + body) == (body, True)


@pytest.mark.parametrize(
    "whole",
    [
        OK + b"Content-Length: 1\r\nConnection: keep-alive, Close\r\n\r\nx",
        b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx",
        OK + b"Content-Length: 1\r\n\r\nxHTTP/1.1 200 OK",
    ],
    ids=["told to close", "old version", "more than announced"],
)
def test_a_connection_that_cannot_be_used_again_is_closed(whole: bytes) -> None:
    assert read(whole) == (b"x", False)


def test_a_connection_whose_answer_was_not_read_is_closed() -> None:
    answer, stream, pool = begin(OK + b"Content-Length: 9\r\n\r\n123")
    with answer:
        next(answer.pieces())
    assert stream.closed
    assert pool.find_idle(SERVER) is None


@pytest.mark.parametrize(
    "head",
    [
        b"SSH-2.0-OpenSSH_9.2",
        b"HTTP/2 200",
        b"HTTP/1.1 20 OK",
        b"HTTP/1.1 2000 OK",
        "HTTP/1.1 20\N{SUPERSCRIPT TWO} OK".encode("latin-1"),
        b"HTTP/1.1 200 OK\r\nno colon",
        b"HTTP/1.1 200 OK\r\nContent-Length : 5",
        b"HTTP/1.1 200 OK\r\nA: b\r\n folded: line",
        b"HTTP/1.1 200 OK\r\nA: b\nContent-Length: 5",
        b"HTTP/1.1 200 OK\r\n: nameless",
    ],
)
def test_a_malformed_head_is_refused(head: bytes) -> None:
    with pytest.raises(MalformedAnswerError):
        parse_head(head)


@pytest.mark.parametrize(
    "headers",
    [
        b"Content-Length: +5",
        b"Content-Length: 1_0",
        b"Content-Length: 5\r\nContent-Length: 6",
        b"Content-Length: " + b"9" * 30,
        b"Transfer-Encoding: gzip, chunked",
    ],
)
def test_ambiguous_lengths_are_refused(headers: bytes) -> None:
    with pytest.raises(MalformedAnswerError):
        read(OK + headers + b"\r\n\r\n12345")


def test_chunks_win_over_a_length() -> None:
    headers = b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert read(OK + headers + b"1\r\nx\r\n0\r\n\r\n") == (b"x", True)


@pytest.mark.parametrize(
    "chunks",
    [
        b"",
        b"-1\r\nx",
        b"0x1\r\nx\r\n",
        b"1\r\nxy\r\n0\r\n\r\n",
        b"1\nx\n0\n\n",
        b"\r\n",
        b"f" * 16 + b"\r\n",
        b"1;" + b"a" * 5000,
    ],
)
def test_malformed_chunks_are_refused(chunks: bytes) -> None:
    with pytest.raises((MalformedAnswerError, EndedEarlyError)):
        read(OK + b"Transfer-Encoding: chunked\r\n\r\n" + chunks)


@pytest.mark.parametrize(
    ("whole", "error"),
    [
        (b"", NoAnswerError),
        (b"HTTP/1.1 200", EndedEarlyError),
        (OK + b"Content-Length: 5\r\n\r\n1234", EndedEarlyError),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\n12", EndedEarlyError),
        (OK + b"A: " + b"a" * 70_000, MalformedAnswerError),
    ],
)
def test_what_ends_early_or_never_is_told_apart(whole: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        read(*cut(whole, [7, 66_000]))


def test_headers_that_drip_run_out_of_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = iter(range(100))
    monkeypatch.setattr("time.monotonic", lambda: float(next(now_s)))
    with pytest.raises(TimeoutError, match="headers"):
        begin(*[b"a"] * 50)


def test_a_pace_below_a_kilobyte_a_second_is_a_stall() -> None:
    pace = Pace(window_s=10)
    for _ in range(50):
        pace.note(1.0, 1024)
    for _ in range(9):
        pace.note(1.0, 100)
    with pytest.raises(TimeoutError):
        pace.note(1.0, 100)
