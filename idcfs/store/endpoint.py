"""Where the objects are: endpoints, and how buckets are called there."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote, urlsplit

from idcfs.errors import UsageError
from idcfs.store.connections import DEFAULT_PORTS, Server

Source = Literal["aws", "gcs"]
"""Who hosts the copy that is read: Amazon or Google."""

_URLS: dict[Source, str] = {
    "aws": "https://s3.us-east-1.amazonaws.com",
    "gcs": "https://storage.googleapis.com",
}

_GCS_BUCKETS = {
    "idc-open-data": "idc-open-data",
    "idc-open-data-two": "idc-open-idc1",
    "idc-open-data-cr": "idc-open-cr",
}
"""Google's names of the buckets that the index names as Amazon does
(`aws_bucket` and `gcs_bucket` of idc-index-data 25)."""

_AWS_HOST = "s3.amazonaws.com"

_AWS_BUCKET = re.compile("[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")
"""A bucket that can stand in a host name. With a dot in it, no certificate would fit."""

_BUCKET = re.compile("[a-zA-Z0-9][a-zA-Z0-9._-]{2,254}")
"""S3's oldest buckets have names that are not allowed any more."""


_ORIGIN_DIGEST_BYTES = 6
"""Nobody has so many stores that two would share one."""

_ORIGIN_CHARACTERS = 200
"""Of a server's name in that of a directory, which has 255 at most."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One S3 endpoint."""

    url: str
    source: Source
    is_aws: bool
    """False for any other server: those are addressed by path, `<url>/<bucket>/<key>`."""

    def bucket_name(self, bucket: str) -> str:
        """Return what the index's `bucket` is called here; unknown names stay as they are."""
        return _GCS_BUCKETS.get(bucket, bucket) if self.source == "gcs" else bucket

    def find_bucket(self, bucket: str) -> tuple[Server, str] | None:
        """Return the server of a bucket, and the path there below which its keys are.

        Amazon has a host name for each bucket; elsewhere the bucket is part of the path.
        None for unusual names, which botocore knows how to ask for, or to refuse.
        """
        if self.is_aws:
            if not _AWS_BUCKET.fullmatch(bucket):
                return None
            return Server("https", f"{bucket}.{_AWS_HOST}", 443), ""
        parts = urlsplit(self.url)
        host = parts.hostname or ""
        if not host.isascii() or not _BUCKET.fullmatch(bucket):
            return None
        server = Server(parts.scheme, host, parts.port or DEFAULT_PORTS[parts.scheme])
        return server, f"{quote(parts.path, safe='/%~')}/{bucket}"


def get_endpoint(endpoint_url: str | None, source: Source) -> Endpoint:
    """Return the endpoint of `source`, or the one that the user named instead.

    Raises UsageError if that is not the `http://` or `https://` URL of a server.
    """
    if source not in _URLS:
        raise UsageError(f"unknown source {source!r}: choose aws or gcs")
    if endpoint_url is None:
        return Endpoint(url=_URLS[source], source=source, is_aws=source == "aws")
    _check_url(endpoint_url)
    return Endpoint(url=endpoint_url.rstrip("/"), source=source, is_aws=False)


def origin_of(endpoint_url: str | None, source: Source) -> str:
    """Return a name for the store, fit for a directory.

    That is "aws", "gcs", or a server, its port, and a hash of its URL: a server may have a
    copy at each of several paths. Raises UsageError as `get_endpoint` does.
    """
    endpoint = get_endpoint(endpoint_url, source)
    if endpoint_url is None:
        return endpoint.source
    parts = urlsplit(endpoint.url)
    server = parts.netloc.lower()
    url = f"{parts.scheme}://{server}{parts.path}".encode()
    digest = hashlib.blake2b(url, digest_size=_ORIGIN_DIGEST_BYTES).hexdigest()
    plain = "".join(c if c.isascii() and c.isalnum() else "-" for c in server)[:_ORIGIN_CHARACTERS]
    return f"server-{plain}-{digest}"


def object_url(bucket: str, key: str) -> str:
    """Return the `s3://` URL for a message: in one line, whatever the key holds."""
    return "".join(
        c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in f"s3://{bucket}/{key}"
    )


def _check_url(url: str) -> None:
    """Refuse what would only fail, or be misread, at the first request."""
    wrong = UsageError(
        f"{url!r} is not the URL of an object store: write it like https://host or http://host:9000"
    )
    if not url.isprintable() or " " in url:
        raise wrong
    try:
        parts = urlsplit(url)
        has_server = bool(parts.hostname) and parts.port != 0
    except ValueError as exc:
        raise wrong from exc
    if parts.scheme not in ("http", "https") or not has_server or parts.query or parts.fragment:
        raise wrong
    if parts.username is not None:
        # Requests are not signed, so it would have no effect but to appear in logs.
        raise UsageError("the endpoint URL must not carry a user name: IDC is read unsigned")
