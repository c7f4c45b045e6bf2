"""The four S3 requests that filling the replica takes, as plain unsigned HTTP.

Only `store` may import botocore, and the embedded server asks for no signature.
"""

from __future__ import annotations

import http.client
import xml.etree.ElementTree as ET
from typing import BinaryIO, Self
from urllib.parse import quote, urlencode, urlsplit

from idcfs.errors import StoreError, StoreUnavailableError

_TIMEOUT_S = 60.0
"""For one reply. Storing 200 MB takes about a second."""


class Connection:
    """One kept-alive connection to an S3 endpoint. For one thread; closed by its context."""

    def __init__(self, endpoint_url: str) -> None:
        parts = urlsplit(endpoint_url)
        if parts.scheme != "http" or parts.hostname is None:
            raise StoreError(f"not an http:// endpoint: {endpoint_url}")
        self._url = endpoint_url
        self._http = http.client.HTTPConnection(parts.hostname, parts.port, timeout=_TIMEOUT_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._http.close()

    def create_bucket(self, bucket: str) -> None:
        """Create `bucket` unless it is there."""
        self._request("PUT", f"/{bucket}", accept=(200, 409))

    def put_object(self, bucket: str, key: str, content: BinaryIO, size_bytes: int) -> str:
        """Store the `size_bytes` of `content` under `key` and return its ETag without quotes."""
        reply, _ = self._request("PUT", f"/{bucket}/{quote(key)}", content, size_bytes)
        return (reply.getheader("ETag") or "").strip('"')

    def list_objects(self, bucket: str, prefix: str = "") -> dict[str, tuple[int, str]]:
        """Return the size in bytes and ETag of every object under `prefix`, by key."""
        found: dict[str, tuple[int, str]] = {}
        query = {"list-type": "2", "prefix": prefix}
        while True:
            _, body = self._request("GET", f"/{bucket}?{urlencode(query)}")
            page = ET.fromstring(body)
            for content in page.iterfind("{*}Contents"):
                etag = content.findtext("{*}ETag", "").strip('"')
                size = int(content.findtext("{*}Size", "0"))
                found[content.findtext("{*}Key", "")] = (size, etag)
            token = page.findtext("{*}NextContinuationToken")
            if page.findtext("{*}IsTruncated") != "true" or not token:
                return found
            query["continuation-token"] = token

    def _request(
        self,
        method: str,
        target: str,
        body: BinaryIO | None = None,
        size_bytes: int = 0,
        *,
        accept: tuple[int, ...] = (200,),
    ) -> tuple[http.client.HTTPResponse, bytes]:
        try:
            self._http.request(method, target, body, {"Content-Length": str(size_bytes)})
            reply = self._http.getresponse()
            content = reply.read()
        except (OSError, http.client.HTTPException) as exc:
            raise StoreUnavailableError(f"{method} {self._url}{target} failed: {exc!r}") from exc
        if reply.status not in accept:
            raise StoreError(f"{method} {self._url}{target} answered {reply.status} {reply.reason}")
        return reply, content
