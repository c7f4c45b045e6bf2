"""Single S3 requests, each tried once, with the network's exceptions kept inside.

Speaks HTTP by itself, over connections of its own: a client library costs some 3 ms of the
processor for an object and tens of them for a page of a listing, and half a second to load.
IDC takes two requests, neither of them signed.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING
from urllib.parse import quote

from idcfs.errors import IntegrityError, StoreError
from idcfs.store.checksums import ASKING, offered_checksums
from idcfs.store.connections import Pool
from idcfs.store.dialling import Dialler
from idcfs.store.endpoint import object_url
from idcfs.store.http import Answer, EndedEarlyError, NoAnswerError, ask
from idcfs.store.pages import (
    CutShortError,
    ErrorAnswerError,
    NotS3Error,
    Page,
    bare_etag,
    parse_error,
    parse_page,
)
from idcfs.store.s3_errors import not_s3, translate_answer, translated

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from idcfs.model import Checksum, Extent
    from idcfs.store.connections import Connection
    from idcfs.store.endpoint import Endpoint

_PAGE_KEYS = 1000
"""The most that S3 returns at once."""

_LONGEST_PAGE_BYTES = 16 << 20
"""1,000 keys of 1,024 bytes, each written as `%XX`, have 3 MB."""

_LONGEST_ERROR_BYTES = 64 * 1024
"""Of what comes with an error. S3's have a few hundred bytes."""

_LONGEST_PAGE_S = 60.0
"""For the body of a listing or an error. A page of 300 kB takes so long at 5 kB a second."""


class BodyMismatchError(IntegrityError):
    """A body of another length than the extent: cut short on the way, perhaps, so worth
    another attempt before it is believed."""


class Wire:
    """Sends requests to one endpoint. Thread-safe."""

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
        self._dialler = Dialler(connect_timeout_s=connect_timeout_s, read_timeout_s=read_timeout_s)
        self._pool = Pool(dial=self._dialler.dial, most_idle=max_connections)

    def list_page(
        self, bucket: str, prefix: str, start_after: str | None, token: str | None
    ) -> Page:
        """Return up to 1,000 objects under `prefix`, from `token` on, or after a key.

        Raises StoreError.
        """
        action, url = f"cannot list {object_url(bucket, prefix)}", self._endpoint.url
        with translated(action, url):
            # Encoded, because XML cannot hold all the characters that a key may have.
            query = f"list-type=2&max-keys={_PAGE_KEYS}&encoding-type=url"
            query += f"&prefix={quote(prefix, safe='')}"
            if start_after is not None:
                query += f"&start-after={quote(start_after, safe='')}"
            if token is not None:
                query += f"&continuation-token={quote(token, safe='')}"
            with self._ask(bucket, f"?{query}") as answer:
                if answer.head.status != 200:
                    raise _error_of(answer, action, url)
                body = _read_all(answer, _LONGEST_PAGE_BYTES)
            try:
                return parse_page(body)
            except NotS3Error as exc:
                raise not_s3(action, url) from exc
            except CutShortError as exc:
                raise EndedEarlyError("the listing ends early") from exc
            except ErrorAnswerError as exc:
                raise translate_answer(500, exc.code, exc.message, action, url) from exc

    def open_extent(
        self, bucket: str, key: str, extent: Extent, etag: str, is_whole: bool = False
    ) -> Body:
        """Ask for `extent`, which is not empty, and return its body when the headers are right.

        Where it is said to be the whole object, its checksums are asked for.
        Raises StoreError; IntegrityError if the object does not have `etag` any more (an
        empty one goes unchecked: the listing's could not be sent back),
        BodyMismatchError if the headers announce another length.
        """
        action, url = f"cannot read {object_url(bucket, key)}", self._endpoint.url
        with translated(action, url):
            if not key:
                raise ValueError("the key is empty")
            wanted = f"Range: bytes={extent.offset}-{extent.end - 1}\r\n"
            headers = ASKING if is_whole else wanted
            if etag:
                if not (etag.isascii() and etag.isprintable()):
                    raise ValueError("the ETag cannot be sent")
                headers += f'If-Match: "{etag}"\r\n'
            answer = self._ask(bucket, f"/{quote(key, safe='/~')}", headers)
            try:
                self._check_answer(answer, extent, etag, action)
            except BaseException:
                answer.end()
                raise
        checksums = offered_checksums(answer.head.headers) if is_whole else ()
        return Body(answer, length=extent.length, action=action, endpoint=url, checksums=checksums)

    def close(self) -> None:
        """Close idle connections."""
        self._pool.close()

    def _ask(self, bucket: str, target: str, headers: str = "") -> Answer:
        """Send a GET and return the answer, whatever it says. Raises as `http` does.

        A kept connection that proves dead does not count as a failure: the server hung up
        while nothing was asked of it, and a new one is made at once.
        """
        server, path = self._endpoint.locate(bucket)
        target = path + target if path or target.startswith("/") else f"/{target}"
        proxy = self._dialler.proxy_of(server)
        if proxy is not None and server.scheme == "http":
            target = f"http://{server.netloc}{target}"
            headers += proxy.authorization
        request = (
            f"GET {target} HTTP/1.1\r\nHost: {server.netloc}\r\nUser-Agent: idcfs\r\n"
            f"Accept-Encoding: identity\r\n{headers}\r\n"
        ).encode("ascii")
        if (kept := self._pool.find_idle(server)) is not None:
            try:
                return self._exchange(request, kept)
            except NoAnswerError:
                pass
        return self._exchange(request, self._pool.connect(server))

    def _exchange(self, request: bytes, connection: Connection) -> Answer:
        timeout_s = self._read_timeout_s
        return ask(request, connection=connection, pool=self._pool, read_timeout_s=timeout_s)

    def _check_answer(self, answer: Answer, extent: Extent, etag: str, action: str) -> None:
        url, head = self._endpoint.url, answer.head
        if head.status not in (200, 206):
            raise _error_of(answer, action, url)
        answered_etag = head.headers.get("etag")
        if not answered_etag:
            raise not_s3(action, url)
        if etag and bare_etag(answered_etag) != etag:
            raise IntegrityError(f"{action}: the object at {url} changed after it was listed")
        length, content_range = head.length, head.headers.get("content-range", "")
        starts_right = content_range.startswith(f"bytes {extent.offset}-{extent.end - 1}/")
        if head.status == 200:
            # The whole object: right only if that is what was asked for.
            starts_right = extent.offset == 0
        if not starts_right or length not in (None, extent.length):
            raise BodyMismatchError(
                f"{action}: asked for {extent.length:,} bytes from {extent.offset:,}, and"
                f" {url} sends {content_range or length!r}; the object may be shorter"
                " than listed, or a proxy on the way may change it"
            )


class Body:
    """The body of one answer: a context manager, and an iterator over what arrives."""

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

    def __enter__(self) -> Body:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Hang up, unless the whole body was read: then the connection is kept."""
        self._answer.end()

    def __iter__(self) -> Iterator[memoryview]:
        """Yield the body's bytes as they come, `length` of them in all.

        Each piece is valid until the next is asked for. Raises StoreUnavailableError if the
        connection breaks or stalls, BodyMismatchError if it ends early, and IntegrityError
        if more comes.
        """
        missing = self._length
        with translated(self._action, self._endpoint):
            try:
                for piece in self._answer.pieces():
                    missing -= len(piece)
                    if missing < 0:
                        raise IntegrityError(
                            f"{self._action}: {self._endpoint} sent more than the"
                            f" {self._length:,} bytes asked"
                        )
                    yield piece
            except EndedEarlyError:
                pass  # and is told below, as is an end that was announced so
            except OSError:
                # With all bytes here, how the connection ends does not matter.
                if missing:
                    raise
        if missing:
            raise BodyMismatchError(
                f"{self._action}: {self._endpoint} ended {missing:,} of {self._length:,} bytes"
                " early; a proxy on the way may cut transfers"
            )


def _read_all(answer: Answer, limit_bytes: int) -> bytes:
    """Return the body, or its first `limit_bytes`: what is longer makes no sense anyway."""
    body = bytearray()
    deadline_s = time.monotonic() + _LONGEST_PAGE_S
    for piece in answer.pieces():
        body += piece
        if len(body) > limit_bytes:
            break
        if time.monotonic() > deadline_s:
            raise TimeoutError("the answer comes too slowly")
    return bytes(body[:limit_bytes])


def _error_of(answer: Answer, action: str, endpoint: str) -> StoreError:
    """Return the error that an answer tells of, in any status but 200."""
    head = answer.head
    body = _read_all(answer, _LONGEST_ERROR_BYTES)
    if 200 <= head.status < 300:
        return not_s3(action, endpoint)
    code, message = parse_error(body)
    retry_after = head.headers.get("retry-after", "")
    return translate_answer(head.status, code, message, action, endpoint, retry_after=retry_after)
