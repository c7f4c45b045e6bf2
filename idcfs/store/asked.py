"""Requests as they are written down, and what the head of the ordinary answer must say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

from idcfs.store.http import MalformedAnswerError
from idcfs.store.pages import bare_etag

if TYPE_CHECKING:
    from idcfs.model import Extent
    from idcfs.store.connections import Server
    from idcfs.store.http import Head


class UnusualError(Exception):
    """The request cannot go directly, or its answer is not the ordinary one.

    Says nothing about whether it can succeed.
    """


@dataclass(frozen=True, slots=True)
class Asked:
    """One request, written down."""

    server: Server
    request: bytes
    action: str
    """Opens the message of an error: "cannot list s3://bucket/prefix"."""


@dataclass(frozen=True, slots=True)
class AskedExtent:
    """The request for an extent of an object."""

    asked: Asked
    bucket: str
    key: str
    extent: Extent
    etag: str
    is_whole: bool
    """Whether its checksums are asked for, as it is the whole object."""


def check_headers(head: Head, extent: Extent, etag: str) -> None:
    """Raises UnusualError unless it is exactly the extent that follows."""
    answered_etag = bare_etag(head.headers.get("etag", ""))
    if not answered_etag or (etag and answered_etag != etag):
        raise UnusualError("another ETag")
    if head.status == 206:
        content_range = head.headers.get("content-range", "")
        starts_right = content_range.startswith(f"bytes {extent.offset}-{extent.end - 1}/")
    else:
        # The whole object: right only if that is what was asked for.
        starts_right = extent.offset == 0
    try:
        length = head.length
    except MalformedAnswerError as exc:
        raise UnusualError(str(exc)) from exc
    if not starts_right or length != extent.length:
        raise UnusualError("another extent, or no length")


def quoted(text: str, *, safe: str = "") -> str:
    """Return `text` as it stands in a URL. Raises UnusualError."""
    try:
        return quote(text, safe=safe)
    except UnicodeEncodeError as exc:  # for a lone surrogate
        raise UnusualError("a key that cannot be sent") from exc
