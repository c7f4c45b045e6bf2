"""Reads what botocore would read to its end, however long it is: listings and errors.

Imports botocore: only `wire` imports this.
"""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING, Any

from botocore.parsers import ResponseParserError

from idcfs.store.pages import (
    LONGEST_ERROR_BYTES,
    LONGEST_PAGE_BYTES,
    LONGEST_PAGE_S,
    has_document_type,
)
from idcfs.store.s3_errors import TooLongError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from botocore.awsrequest import AWSPreparedRequest, AWSResponse
    from botocore.httpsession import URLLib3Session
    from urllib3 import HTTPResponse
    from urllib3.connection import HTTPConnection

    from idcfs.store.sockets import Sockets

_READ_BYTES = 256 * 1024
"""At most so much is taken from the socket at once; less where less has come."""


class BoundedSender:
    """Sends botocore's requests by its own session. Thread-safe.

    Bodies of objects are left to who asked for them.
    """

    def __init__(self, session: URLLib3Session, sockets: Sockets) -> None:
        """`sockets` gets all that the session makes."""
        self._session = session
        # Shared with urllib3's managers, which make their pools by it.
        # A botocore that calls it otherwise costs a slower end where a store is silent, no more.
        classes: dict[str, Any] = getattr(session, "_pool_classes_by_scheme", {})
        for scheme, kind in classes.items():
            told = _telling(kind.ConnectionCls, sockets)
            classes[scheme] = type(kind.__name__, (kind,), {"ConnectionCls": told})

    def send(self, request: AWSPreparedRequest, **_: object) -> AWSResponse:
        """Answer botocore's `before-send`, which then sends nothing itself.

        Raises what the session does, and for a listing that is too long, or that might define
        entities, TooLongError and ResponseParserError. Of such an error only the status is told.
        """
        is_object = request.stream_output
        request.stream_output = True  # or the session would read all of it
        answer = self._session.send(request)
        if answer.status_code >= 300:
            content = _read_start(answer.raw, LONGEST_ERROR_BYTES)
            if len(content) > LONGEST_ERROR_BYTES or has_document_type(content):
                content = b""
        elif is_object:
            return answer
        else:
            content = _read_start(answer.raw, LONGEST_PAGE_BYTES)
            if len(content) > LONGEST_PAGE_BYTES:
                raise TooLongError
            if has_document_type(content):
                raise ResponseParserError("a document type")
        answer.raw = _Whole(content)
        return answer


def _telling(kind: type[HTTPConnection], sockets: Sockets) -> type[HTTPConnection]:
    """Return a class of connections that puts its sockets among `sockets`, once they connected."""

    class Telling(kind):  # type: ignore[misc,valid-type]  # which it is, is seen only now
        def _new_conn(self) -> socket.socket:
            made: socket.socket = super()._new_conn()
            sockets.add(made)
            return made

        def connect(self) -> None:
            super().connect()
            # TLS has taken the place of the plain one, but for that within TLS to a proxy.
            if isinstance(self.sock, socket.socket):
                sockets.add(self.sock)

    return Telling


class _Whole:
    """What botocore takes a body from, which has been read already."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def stream(self) -> Iterator[bytes]:
        yield self._content


def _read_start(raw: HTTPResponse, limit_bytes: int) -> bytes:
    """Return a body, or so much of it as shows that it is longer; that connection is closed.

    Raises TimeoutError for one that drips in, and urllib3's errors.
    """
    content = bytearray()
    deadline_s = time.monotonic() + LONGEST_PAGE_S
    try:
        while chunk := raw.read1(_READ_BYTES):
            content += chunk
            if len(content) > limit_bytes:
                break
            if time.monotonic() > deadline_s:
                raise TimeoutError("the answer comes too slowly")
    finally:
        raw.close()  # which keeps the connection if all was read
    return bytes(content)
