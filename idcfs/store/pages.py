"""Reads the XML that S3 answers with: pages of listings, and the codes of errors."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import unquote_plus
from xml.etree import ElementTree

from idcfs.store.protocol import StoredObject

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

LONGEST_PAGE_BYTES = 16 << 20
"""1,000 keys of 1,024 bytes, each written as `%XX`, have 3 MB."""

LONGEST_ERROR_BYTES = 64 * 1024
"""Of what comes with an error. S3's have a few hundred bytes."""

LONGEST_PAGE_S = 60.0
"""For the body of a listing or an error. A page of 300 kB takes so long at 5 kB a second."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class NotAListingError(Exception):
    """What came is no page of a listing, or one that makes no sense."""


class DocumentTypeError(Exception):
    """What came might define entities, which S3 never does, and is not read at all."""


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a listing; `next_token` asks for the next, None on the last."""

    objects: list[StoredObject]
    next_token: str | None


def parse_page(body: bytes) -> Page:
    """Read a page of ListObjectsV2. Raises NotAListingError, DocumentTypeError."""
    try:
        root = _parse(body)
        space, kind = _split_tag(root.tag)
        if kind != "ListBucketResult":
            raise NotAListingError(f"a page of <{kind}>")
        is_url_encoded = root.findtext(f"{space}EncodingType") == "url"
        objects = [
            _stored_object(content, space, is_url_encoded)
            for content in root.iterfind(f"{space}Contents")
        ]
    except (ElementTree.ParseError, KeyError, ValueError, OverflowError) as exc:
        raise NotAListingError(str(exc)) from exc
    return Page(objects, _next_token(root, space))


def parse_error_code(body: bytes) -> str:
    """Return the code of an answer that is an error; "" where there is none."""
    try:
        root = _parse(body)
    except (ElementTree.ParseError, DocumentTypeError):
        return ""
    space, kind = _split_tag(root.tag)
    return root.findtext(f"{space}Code", "") if kind == "Error" else ""


def has_document_type(body: bytes) -> bool:
    """Tell whether an XML document, read as UTF-8, might define entities."""
    return b"<!DOCTYPE" in body


def bare_etag(etag: str) -> str:
    """Return an ETag without its quotes, and without the mark of a proxy that weakened it."""
    return etag.removeprefix("W/").strip('"')


def _parse(body: bytes) -> Element:
    """Raises ParseError, DocumentTypeError."""
    if has_document_type(body):
        raise DocumentTypeError
    # The encoding is given, so that no other can hide the word from the search.
    return ElementTree.fromstring(body, ElementTree.XMLParser(encoding="utf-8"))


def _next_token(root: Element, space: str) -> str | None:
    match root.findtext(f"{space}IsTruncated"):
        case "false":
            return None
        case "true":
            if token := root.findtext(f"{space}NextContinuationToken"):
                return token
    # Other XML would otherwise pass for an empty listing, and be kept for ever.
    raise NotAListingError("a listing without a proper end")


def _stored_object(content: Element, space: str, is_url_encoded: bool) -> StoredObject:
    texts = {child.tag: child.text for child in content}
    key, size = texts[f"{space}Key"] or "", texts[f"{space}Size"] or ""
    etag, modified = texts[f"{space}ETag"] or "", texts[f"{space}LastModified"] or ""
    if not (size.isascii() and size.isdigit()):
        raise ValueError(f"an object's size is {size[:20]!r}")
    return StoredObject(
        key=_decoded(key) if is_url_encoded else key,
        size_bytes=int(size),
        mtime_ns=nanoseconds_of(modified),
        etag=bare_etag(etag),
    )


def _decoded(key: str) -> str:
    # Nearly all keys have slashes only, for which `unquote_plus` takes ten times as long.
    simple = key.replace("%2F", "/")
    return unquote_plus(key) if "%" in simple or "+" in simple else simple


def nanoseconds_of(moment: str) -> int:
    """Return a time in ISO 8601, UTC unless it says otherwise, since the epoch."""
    time = datetime.fromisoformat(moment)
    if time.tzinfo is None:
        time = time.replace(tzinfo=UTC)
    since = time - _EPOCH
    return ((since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds) * 1000


def _split_tag(tag: str) -> tuple[str, str]:
    """Return the name space of a tag, as it stands before each other tag, and its name."""
    before, brace, name = tag.rpartition("}")
    return before + brace, name
