"""Single S3 requests sent directly, each tried once: the fast path.

A client library costs some 3 ms of the processor for an object and tens of them for a page of
a listing, and half a second to load. IDC takes two requests, neither of them signed, and the
store's answer is nearly always the same. That one is read here; whatever else may come is
botocore's to deal with, in `wire`.
"""

from __future__ import annotations

import time
from ssl import SSLCertVerificationError
from typing import TYPE_CHECKING

from idcfs.errors import StoreError
from idcfs.store.asked import Asked, AskedExtent, UnusualError, check_headers, quoted
from idcfs.store.bodies import ended_early
from idcfs.store.checksums import ASKING, offered_checksums
from idcfs.store.connections import Pool
from idcfs.store.dialling import Dialler, is_proxied
from idcfs.store.direct_errors import translated
from idcfs.store.endpoint import object_url
from idcfs.store.failures import TOO_LONG, answer_error, make_error, not_s3
from idcfs.store.http import Answer, EndedEarlyError, MalformedAnswerError, NoAnswerError, ask
from idcfs.store.pages import (
    LONGEST_ERROR_BYTES,
    LONGEST_PAGE_BYTES,
    LONGEST_PAGE_S,
    DocumentTypeError,
    NotAListingError,
    Page,
    parse_error_code,
    parse_page,
)
from idcfs.store.sockets import Sockets

if TYPE_CHECKING:
    from collections.abc import Iterator

    from idcfs.model import Checksum, Extent
    from idcfs.store.connections import Connection, Server
    from idcfs.store.endpoint import Endpoint
    from idcfs.store.http import Head

_PAGE_KEYS = 1000
"""The most that S3 returns at once."""

_MOST_MET = 1000
"""Objects whose next request is known to fail: all that are under way at once, and more."""

_MET_S = 10.0
"""Who was told to ask otherwise does so at once, or as soon as there is a thread."""

_BUSY = frozenset((429, 500, 502, 503, 504))
"""What a store answers that has too much to do. To ask again at once would add to it."""


class DirectWire:
    """Sends requests to one endpoint directly. Thread-safe."""

    def __init__(
        self,
        *,
        endpoint: Endpoint,
        max_connections: int,
        connect_timeout_s: float,
        read_timeout_s: float,
    ) -> None:
        self._endpoint = endpoint
        self._read_timeout_s = read_timeout_s
        self._sockets = Sockets()
        dialler = Dialler(
            sockets=self._sockets,
            connect_timeout_s=connect_timeout_s,
            read_timeout_s=read_timeout_s,
        )
        self._pool = Pool(dial=dialler.dial, most_idle=max_connections)
        self._buckets: dict[str, tuple[Server, str] | None] = {}
        self._met: dict[tuple[str, str], tuple[UnusualError | StoreError, float]] = {}
        """What the multiplexer met, by object, for whoever asks next, and until when."""

    def list_page(
        self, bucket: str, prefix: str, start_after: str | None, token: str | None
    ) -> Page:
        """Return up to 1,000 objects under `prefix`, from `token` on, or after a key.

        Raises UnusualError, StoreUnavailableError, or StoreError for what botocore must not
        read either: a listing that is too long, or that might define entities.
        """
        action = f"cannot list {object_url(bucket, prefix)}"
        # Encoded, because XML cannot hold all the characters that a key may have.
        query = f"?list-type=2&max-keys={_PAGE_KEYS}&encoding-type=url&prefix={quoted(prefix)}"
        if start_after is not None:
            query += f"&start-after={quoted(start_after)}"
        if token is not None:
            query += f"&continuation-token={quoted(token)}"
        with translated(action, self._endpoint.url):
            with self._ask(self._compose(bucket, query, action)) as answer:
                self._check_status(answer, action, (200,))
                body = _read_start(answer, LONGEST_PAGE_BYTES)
            if len(body) > LONGEST_PAGE_BYTES:
                raise make_error(TOO_LONG, action, self._endpoint.url)
            try:
                return parse_page(body)
            except DocumentTypeError as exc:
                raise not_s3(action, self._endpoint.url) from exc
            except NotAListingError as exc:
                raise UnusualError(str(exc)) from exc

    def open_extent(
        self, bucket: str, key: str, extent: Extent, etag: str, is_whole: bool = False
    ) -> DirectBody:
        """Ask for `extent`, which is not empty, and return its body when the headers are right.

        Where it is said to be the whole object, its checksums are asked for.
        Raises UnusualError, or StoreUnavailableError.
        """
        met, until_s = self._met.pop((bucket, key), (None, 0.0))
        if met is not None and time.monotonic() < until_s:
            raise met
        asked = self.compose(bucket, key, extent, etag, is_whole).asked
        action, url = asked.action, self._endpoint.url
        with translated(action, url):
            answer = self._ask(asked)
            try:
                self._check_status(answer, action, (200, 206))
                check_headers(answer.head, extent, etag)
            except BaseException:
                answer.end()
                raise
        checksums = offered_checksums(answer.head.headers) if is_whole else ()
        return DirectBody(
            answer, length=extent.length, action=action, endpoint=url, checksums=checksums
        )

    def compose(
        self, bucket: str, key: str, extent: Extent, etag: str, is_whole: bool
    ) -> AskedExtent:
        """Return the request for `extent`. Raises UnusualError if it cannot go directly."""
        if not key:
            raise UnusualError("the key is empty")
        wanted = f"Range: bytes={extent.offset}-{extent.end - 1}\r\n"
        headers = ASKING if is_whole else wanted
        if etag:
            if not (etag.isascii() and etag.isprintable()):
                raise UnusualError("an ETag that must be encoded")
            headers += f'If-Match: "{etag}"\r\n'
        action = f"cannot read {object_url(bucket, key)}"
        asked = self._compose(bucket, f"/{quoted(key, safe='/')}", action, headers)
        return AskedExtent(asked, bucket, key, extent, etag, is_whole)

    def check(self, wanted: AskedExtent, head: Head) -> tuple[Checksum, ...]:
        """Return the checksums that came with what was asked for.

        Raises UnusualError unless the head is the ordinary one, and StoreUnavailableError
        if the store is busy.
        """
        if head.status in _BUSY:
            raise self._busy_error(head, "", wanted.asked.action)
        if head.status not in (200, 206):
            raise UnusualError(f"status {head.status}")
        check_headers(head, wanted.extent, wanted.etag)
        return offered_checksums(head.headers) if wanted.is_whole else ()

    def note_met(self, wanted: AskedExtent, error: UnusualError | StoreError | OSError) -> None:
        """Have the next request for an object meet `error`, as one has that was sent elsewhere."""
        if isinstance(error, OSError):
            try:
                with translated(wanted.asked.action, self._endpoint.url):
                    raise error
            except StoreError as exc:
                error = exc
        if len(self._met) >= _MOST_MET:
            self._met.clear()
        # Without the frames that it came through, and what they hold.
        met = error.with_traceback(None), time.monotonic() + _MET_S
        self._met[wanted.bucket, wanted.key] = met

    def find_server(self, bucket: str) -> Server:
        """Return where requests for a bucket go. Raises UnusualError."""
        return self._find_bucket(bucket)[0]

    def find_idle(self, server: Server) -> Connection | None:
        """Return a kept connection, which from then on is the caller's, if there is one."""
        return self._pool.find_idle(server)

    def close(self) -> None:
        """Close idle connections, and break off what is under way over the others."""
        self._pool.close()
        self._sockets.shut()

    def _compose(self, bucket: str, target: str, action: str, headers: str = "") -> Asked:
        """Write a GET. Raises UnusualError."""
        server, path = self._find_bucket(bucket)
        if not (path or target.startswith("/")):
            target = f"/{target}"
        request = (
            f"GET {path}{target} HTTP/1.1\r\nHost: {server.netloc}\r\nUser-Agent: idcfs\r\n"
            f"Accept-Encoding: identity\r\n{headers}\r\n"
        )
        return Asked(server, request.encode("ascii"), action)

    def _ask(self, asked: Asked) -> Answer:
        """Send a GET and return the answer, whatever it says.

        A kept connection that proves dead does not count as a failure: the server hung up
        while nothing was asked of it, and a new one is made at once. Raises UnusualError,
        and OSError for the network's failures.
        """
        try:
            if (kept := self._pool.find_idle(asked.server)) is not None:
                try:
                    return self._exchange(asked.request, kept)
                except NoAnswerError:
                    pass
            return self._exchange(asked.request, self._pool.connect(asked.server))
        except (MalformedAnswerError, SSLCertVerificationError) as exc:
            # botocore may know other authorities, from its configuration or its own list.
            raise UnusualError(str(exc)) from exc

    def _find_bucket(self, bucket: str) -> tuple[Server, str]:
        if bucket not in self._buckets:
            place = self._endpoint.find_bucket(bucket)
            if place is not None and is_proxied(place[0]):
                place = None
            self._buckets[bucket] = place
        place = self._buckets[bucket]
        if place is None:
            raise UnusualError("a proxy on the way, or an unusual name")
        return place

    def _exchange(self, request: bytes, connection: Connection) -> Answer:
        timeout_s = self._read_timeout_s
        return ask(request, connection=connection, pool=self._pool, read_timeout_s=timeout_s)

    def _check_status(self, answer: Answer, action: str, expected: tuple[int, ...]) -> None:
        """Raises StoreUnavailableError for a store that is busy, UnusualError for other errors."""
        head = answer.head
        if head.status in _BUSY:
            code = parse_error_code(_read_start(answer, LONGEST_ERROR_BYTES))
            raise self._busy_error(head, code, action)
        if head.status not in expected:
            raise UnusualError(f"status {head.status}")

    def _busy_error(self, head: Head, code: str, action: str) -> StoreError:
        retry_after, url = head.headers.get("retry-after", ""), self._endpoint.url
        return answer_error(head.status, code, "", action, url, retry_after=retry_after)


class DirectBody:
    """A `Body` that was sent for directly. Its length was announced, and is right."""

    def __init__(
        self,
        answer: Answer,
        *,
        length: int,
        action: str,
        endpoint: str,
        checksums: tuple[Checksum, ...],
    ) -> None:
        self.checksums = checksums
        """Those of the whole object that came with it."""
        self._answer = answer
        self._length = length
        self._action = action
        self._endpoint = endpoint

    def __enter__(self) -> DirectBody:
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Hang up, unless the whole body was read: then the connection is kept."""
        self._answer.end()

    def __iter__(self) -> Iterator[memoryview]:
        """Yield the body's bytes as they come. See `Body`."""
        missing = self._length
        with translated(self._action, self._endpoint):
            try:
                for piece in self._answer.pieces():
                    missing -= len(piece)
                    yield piece
            except EndedEarlyError as exc:
                raise ended_early(
                    self._action, self._endpoint, missing=missing, length=self._length
                ) from exc


def _read_start(answer: Answer, limit_bytes: int) -> bytes:
    """Return the body, or so much of it as shows that it is longer.

    Raises UnusualError if it makes no sense, and OSError.
    """
    body = bytearray()
    deadline_s = time.monotonic() + LONGEST_PAGE_S
    try:
        for piece in answer.pieces():
            body += piece
            if len(body) > limit_bytes:
                break
            if time.monotonic() > deadline_s:
                raise TimeoutError("the answer comes too slowly")
    except MalformedAnswerError as exc:
        raise UnusualError(str(exc)) from exc
    return bytes(body)
