"""As much of HTTP/1.1 (RFC 9112) as a store's ordinary answers to a GET take, and strict.

What can be read in two ways is refused: what came after it on the same connection would be
taken for the next object's bytes. So is what these stores do not send, such as bodies that
end with the connection. Chunks are read because Amazon sends its listings so. Everything
raises OSError when the network fails, TimeoutError when it is too slow, and
MalformedAnswerError.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from idcfs.store.bodies import Pace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from idcfs.store.connections import Connection, Pool

LONGEST_HEAD_BYTES = 64 * 1024
"""Of status line and headers; S3's have about 1 KiB. Well below a connection's buffer."""

_LONGEST_LINE_BYTES = 4096
"""Of a line between chunks."""


class MalformedAnswerError(Exception):
    """What came is not HTTP/1.1, not in one unambiguous form, or more than is read here."""


class NoAnswerError(ConnectionResetError):
    """The connection broke before the first byte of an answer."""


class EndedEarlyError(ConnectionResetError):
    """The server hung up within an answer."""


@dataclass(frozen=True, slots=True)
class Head:
    """The status line and the headers of an answer."""

    version: str
    status: int
    headers: dict[str, str]
    """By name in lower case; repeated ones are joined by commas."""

    @property
    def length(self) -> int | None:
        """The announced length of the body, None if there is no announcement."""
        length = self.headers.get("content-length")
        if length is None or "transfer-encoding" in self.headers:
            return None
        if not (length.isascii() and length.isdigit() and len(length) < 19):
            raise MalformedAnswerError(f"the answer's Content-Length is {length!r}")
        return int(length)

    @property
    def is_chunked(self) -> bool:
        """Whether the body comes in chunks, as where its length was not known before."""
        coding = self.headers.get("transfer-encoding")
        if coding is None:
            return False
        if coding.lower() != "chunked":
            raise MalformedAnswerError(f"the answer's Transfer-Encoding is {coding!r}")
        return True

    @property
    def keeps_alive(self) -> bool:
        """Whether the server lets another request follow on the same connection."""
        words = self.headers.get("connection", "").lower().replace(",", " ").split()
        return self.version == "HTTP/1.1" and "close" not in words


def parse_head(head: bytes) -> Head:
    """Read a head, given without its closing empty line. Raises MalformedAnswerError."""
    first, *lines = head.decode("latin-1").split("\r\n")
    version, _, rest = first.partition(" ")
    status, space = rest[:3], rest[3:4]
    if version not in ("HTTP/1.1", "HTTP/1.0") or space not in ("", " "):
        raise MalformedAnswerError("what came is not an HTTP answer")
    if not (len(status) == 3 and status.isascii() and status.isdigit()):
        raise MalformedAnswerError("the answer has no proper status")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        # Other programs read spaces around the name, or lone line ends, in other ways.
        if not colon or not name or " " in name or "\t" in name or "\n" in line or "\r" in line:
            raise MalformedAnswerError("the answer has a malformed header")
        name, value = name.lower(), value.strip(" \t")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return Head(version, int(status), headers)


class Answer:
    """One answer, whose body is still to be read. For one thread.

    `end` keeps the connection for another request if the body was read to its end, and
    hangs up otherwise.
    """

    def __init__(
        self, head: Head, *, connection: Connection, pool: Pool, read_timeout_s: float
    ) -> None:
        self.head = head
        self._connection = connection
        self._pool = pool
        self._pace = Pace(window_s=read_timeout_s)
        self._at_end = False

    def __enter__(self) -> Answer:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.end()

    def end(self) -> None:
        """Let go of the connection."""
        connection = self._connection
        # Bytes that nobody asked for would be taken for the next answer.
        is_clean = self._at_end and connection.start == connection.end
        if is_clean and self.head.keeps_alive:
            self._pool.keep(connection)
        else:
            connection.close()

    def pieces(self) -> Iterator[memoryview]:
        """Yield the body as it comes. Each piece is valid until the next is asked for.

        Raises EndedEarlyError when less comes than the answer announced.
        """
        if self.head.is_chunked:
            yield from self._chunks()
        elif (length := self.head.length) is not None:
            yield from self._exactly(length)
        else:
            raise MalformedAnswerError("the answer does not say how long it is")
        self._at_end = True

    def _exactly(self, length: int) -> Iterator[memoryview]:
        connection = self._connection
        while length:
            if connection.start == connection.end and not self._receive():
                raise EndedEarlyError(f"the server hung up {length:,} bytes before the end")
            piece = connection.take(length)
            length -= len(piece)
            yield piece

    def _chunks(self) -> Iterator[memoryview]:
        while length := self._chunk_length():
            yield from self._exactly(length)
            if self._line():
                raise MalformedAnswerError("a chunk is longer than it says")
        while self._line():
            pass  # Trailers say nothing that was asked for.

    def _chunk_length(self) -> int:
        digits = self._line().partition(b";")[0].strip(b" \t")
        if not 0 < len(digits) < 16 or digits.translate(None, b"0123456789abcdefABCDEF"):
            raise MalformedAnswerError("a chunk has no proper length")
        return int(digits, 16)

    def _line(self) -> bytes:
        """Take one line between chunks, without its end."""
        connection, line = self._connection, bytearray()
        while not line.endswith(b"\n"):
            if connection.start == connection.end and not self._receive():
                raise EndedEarlyError("the server hung up between two chunks")
            found = connection.buffer.find(b"\n", connection.start, connection.end)
            end = connection.end if found < 0 else found + 1
            line += connection.take(end - connection.start)
            if len(line) > _LONGEST_LINE_BYTES:
                raise MalformedAnswerError("the line between two chunks does not end")
        if not line.endswith(b"\r\n"):
            raise MalformedAnswerError("the chunks cannot be told apart")
        return bytes(line[:-2])

    def _receive(self) -> int:
        started_s = time.monotonic()
        count = self._connection.receive()
        self._pace.note(time.monotonic() - started_s, count)
        return count


def ask(request: bytes, *, connection: Connection, pool: Pool, read_timeout_s: float) -> Answer:
    """Send a GET and return the answer with its head read.

    The head must be there within `read_timeout_s`. Raises NoAnswerError if the connection
    breaks before the first byte of it; the connection is closed whatever is raised.
    """
    connection.start = connection.end = 0
    try:
        connection.stream.sendall(request)
        head = read_head(connection, read_timeout_s)
        return Answer(head, connection=connection, pool=pool, read_timeout_s=read_timeout_s)
    except BaseException as exc:
        connection.close()
        if isinstance(exc, OSError) and not isinstance(exc, TimeoutError) and not connection.end:
            raise NoAnswerError("the server hung up without an answer") from exc
        raise


def read_head(connection: Connection, timeout_s: float) -> Head:
    """Take the next head from what comes. Raises OSError, MalformedAnswerError."""
    deadline_s = time.monotonic() + timeout_s
    while (end := connection.buffer.find(b"\r\n\r\n", connection.start, connection.end)) < 0:
        if connection.end - connection.start > LONGEST_HEAD_BYTES:
            raise MalformedAnswerError("the answer's headers do not end")
        if not connection.receive():
            raise EndedEarlyError("the server hung up before the end of the headers")
        if time.monotonic() > deadline_s:
            raise TimeoutError("the headers come too slowly")
    head = bytes(connection.take(end - connection.start))
    connection.start = end + 4
    return parse_head(head)
