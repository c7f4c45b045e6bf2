"""Single S3 requests through botocore, each tried once, with its exceptions kept inside.

Imports botocore, which takes 0.2 s, and making its client takes 0.3 s more: `sender`
imports this when a request is first made that cannot go directly, or had an unusual answer.
The client is not made through boto3, which would add 80 ms for transfers and resources that
nothing here uses.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

import botocore.session
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from idcfs.errors import IntegrityError, StoreError, UsageError
from idcfs.store.bodies import BodyMismatchError, Pace, ended_early
from idcfs.store.bounded import BoundedSender
from idcfs.store.checksums import offered_checksums
from idcfs.store.dialling import find_ca_file
from idcfs.store.endpoint import object_url
from idcfs.store.failures import not_s3
from idcfs.store.pages import Page, bare_etag
from idcfs.store.protocol import StoredObject
from idcfs.store.s3_errors import translated
from idcfs.store.sockets import Sockets

if TYPE_CHECKING:
    from collections.abc import Iterator

    from types_boto3_s3.client import S3Client
    from types_boto3_s3.type_defs import (
        GetObjectOutputTypeDef,
        GetObjectRequestTypeDef,
        HeadObjectRequestTypeDef,
        ListObjectsV2OutputTypeDef,
        ListObjectsV2RequestTypeDef,
    )
    from urllib3 import HTTPResponse

    from idcfs.model import Checksum, Extent
    from idcfs.store.endpoint import Endpoint

_PAGE_KEYS = 1000
"""The most that S3 returns at once."""

_READ_BYTES = 256 * 1024
"""At most so much is taken from the socket at once. Reading returns what has arrived, so
a larger figure would only cost memory."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Wire:
    """Sends requests through a botocore client. Thread-safe."""

    def __init__(
        self,
        *,
        endpoint: Endpoint,
        max_connections: int,
        connect_timeout_s: float,
        read_timeout_s: float,
    ) -> None:
        self._endpoint = endpoint.url
        self._read_timeout_s = read_timeout_s
        config = Config(
            signature_version=UNSIGNED,
            region_name="us-east-1",
            s3={"addressing_style": "auto" if endpoint.is_aws else "path"},
            max_pool_connections=max_connections,
            connect_timeout=connect_timeout_s,
            read_timeout=read_timeout_s,
            # `retry` says why botocore must not try again by itself.
            retries={"mode": "standard", "total_max_attempts": 1},
            # A variable AWS_ENDPOINT_URL set for other work must not redirect IDC.
            ignore_configured_endpoint_urls=True,  # type: ignore[call-arg]  # unknown to the stubs
            # Checksums are the caller's, against the listing; a range has none anyway.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            user_agent_extra="idcfs",
        )
        self._sockets = Sockets()
        self._client = _create_client(endpoint, config, self._sockets)

    def list_page(
        self, bucket: str, prefix: str, start_after: str | None, token: str | None
    ) -> Page:
        """Return up to 1,000 objects under `prefix`, from `token` on, or after a key.

        Raises StoreError.
        """
        action = f"cannot list {object_url(bucket, prefix)}"
        asked: ListObjectsV2RequestTypeDef = {
            "Bucket": bucket,
            "Prefix": prefix,
            "MaxKeys": _PAGE_KEYS,
        }
        if start_after is not None:
            asked["StartAfter"] = start_after
        if token is not None:
            asked["ContinuationToken"] = token
        with translated(action, self._endpoint):
            answer = self._client.list_objects_v2(**asked)
        # Other XML than a listing would otherwise pass for an empty one, and be kept for ever.
        if "IsTruncated" not in answer:
            raise not_s3(action, self._endpoint)
        try:
            return _page(answer)
        except (KeyError, TypeError, OverflowError) as exc:
            raise not_s3(action, self._endpoint) from exc

    def open_extent(
        self, bucket: str, key: str, extent: Extent, etag: str, is_whole: bool = False
    ) -> S3Body:
        """Ask for `extent`, which is not empty, and return its body when the headers are right.

        Where it is said to be the whole object, its checksums are asked for.
        Raises StoreError; IntegrityError if the object does not have `etag` any more (an
        empty one goes unchecked: the listing's could not be sent back),
        BodyMismatchError if the headers announce another length.
        """
        action = f"cannot read {object_url(bucket, key)}"
        asked: GetObjectRequestTypeDef = {"Bucket": bucket, "Key": key}
        if is_whole:
            asked["ChecksumMode"] = "ENABLED"
        else:
            asked["Range"] = f"bytes={extent.offset}-{extent.end - 1}"
        if etag:
            asked["IfMatch"] = f'"{etag}"'
        with translated(action, self._endpoint):
            answer = self._client.get_object(**asked)
        headers = answer["ResponseMetadata"]["HTTPHeaders"]
        body = S3Body(
            raw=_raw(answer),
            checksums=offered_checksums(headers) if is_whole else (),
            length=extent.length,
            action=action,
            endpoint=self._endpoint,
            read_timeout_s=self._read_timeout_s,
        )
        try:
            self._check_headers(answer, extent, etag, action)
        except StoreError:
            body.close()
            raise
        return body

    def find_checksums(self, bucket: str, key: str, etag: str) -> tuple[Checksum, ...]:
        """Return the checksums of a whole object that the store keeps besides its ETag.

        Raises StoreError; IntegrityError if the object does not have `etag` any more.
        """
        action = f"cannot read {object_url(bucket, key)}"
        asked: HeadObjectRequestTypeDef = {"Bucket": bucket, "Key": key, "ChecksumMode": "ENABLED"}
        if etag:
            asked["IfMatch"] = f'"{etag}"'
        with translated(action, self._endpoint):
            answer = self._client.head_object(**asked)
        return offered_checksums(answer["ResponseMetadata"]["HTTPHeaders"])

    def _check_headers(
        self, answer: GetObjectOutputTypeDef, extent: Extent, etag: str, action: str
    ) -> None:
        status = answer["ResponseMetadata"]["HTTPStatusCode"]
        answered_etag = answer.get("ETag")
        if status not in (200, 206) or not answered_etag:
            raise not_s3(action, self._endpoint)
        if etag and bare_etag(answered_etag) != etag:
            raise IntegrityError(
                f"{action}: the object at {self._endpoint} changed after it was listed"
            )
        length = answer.get("ContentLength")
        content_range = answer.get("ContentRange", "")
        starts_right = content_range.startswith(f"bytes {extent.offset}-{extent.end - 1}/")
        if status == 200:
            # The whole object: right only if that is what was asked for.
            starts_right = extent.offset == 0
        if not starts_right or length not in (None, extent.length):
            raise BodyMismatchError(
                f"{action}: asked for {extent.length:,} bytes from {extent.offset:,}, and"
                f" {self._endpoint} sends {content_range or length!r}; the object may be shorter"
                " than listed, or a proxy on the way may change it"
            )

    def close(self) -> None:
        """Close idle connections, and break off what is under way over the others."""
        self._client.close()
        self._sockets.shut()


class S3Body:
    """A `Body` that botocore sent for."""

    def __init__(
        self,
        *,
        raw: HTTPResponse,
        checksums: tuple[Checksum, ...],
        length: int,
        action: str,
        endpoint: str,
        read_timeout_s: float,
    ) -> None:
        self.checksums = checksums
        """Those of the whole object that came with it."""
        self._raw = raw
        self._length = length
        self._action = action
        self._endpoint = endpoint
        self._pace = Pace(window_s=read_timeout_s)

    def __enter__(self) -> S3Body:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection, unless the whole body was read: then it is kept for the next."""
        self._raw.close()

    def __iter__(self) -> Iterator[memoryview]:
        """Yield the body's bytes as they come. See `Body`."""
        missing = self._length
        while missing:
            chunk = self._read(min(missing, _READ_BYTES))
            if not chunk:
                raise ended_early(
                    self._action, self._endpoint, missing=missing, length=self._length
                )
            missing -= len(chunk)
            yield memoryview(chunk)
        if self._has_more():
            raise IntegrityError(
                f"{self._action}: {self._endpoint} sent more than the {self._length:,} bytes asked"
            )

    def _read(self, amount: int) -> bytes:
        started = time.monotonic()
        with translated(self._action, self._endpoint):
            chunk = self._raw.read1(amount)
            self._pace.note(time.monotonic() - started, len(chunk))
        return chunk

    def _has_more(self) -> bool:
        """Read the end, which also gives the connection back to the pool."""
        try:
            return bool(self._read(1))
        except StoreError:
            return False  # All bytes are here: how the connection ended does not matter.


def _create_client(endpoint: Endpoint, config: Config, sockets: Sockets) -> S3Client:
    # Unsigned reading needs no profile, and must not fail because AWS_PROFILE names
    # one that does not exist on this machine.
    session = botocore.session.Session(session_vars={"profile": (None, None, None, None)})
    try:
        # AWS's own URL is left to botocore, which puts the bucket into the host name.
        url = None if endpoint.is_aws else endpoint.url
        client = session.create_client("s3", endpoint_url=url, verify=find_ca_file(), config=config)
    except (BotoCoreError, ValueError) as exc:
        raise UsageError(
            f"cannot set up a connection to {endpoint.url}: {' '.join(str(exc).split())}"
        ) from exc
    # Of the private only this: botocore's session, which knows proxies, certificates, timeouts.
    sender = BoundedSender(cast("Any", client)._endpoint.http_session, sockets)
    client.meta.events.register("before-send.s3", cast("Any", sender.send))
    client.meta.events.register("response-received.s3.ListObjectsV2", _refuse_web_page)
    client.meta.events.register("response-received.s3", _raise_error)
    return cast("S3Client", client)


def _refuse_web_page(response_dict: dict[str, Any] | None, **_: object) -> None:
    """Stop at a web page in place of a listing: botocore would make it an error 500 of the server.

    S3's own `<Error>` under a 200 does mean that, and stays.
    """
    if response_dict is not None and response_dict["status_code"] == 200:
        body = response_dict["body"]
        if b"<ListBucketResult" not in body and b"<Error>" not in body:
            raise ResponseParserError("not a listing")


def _raise_error(parsed_response: dict[str, Any] | None, **_: object) -> None:
    """End a request at an answer that is an error, before botocore acts upon it.

    Its S3RegionRedirector would ask for the bucket's region by a request whose answer
    it handles likewise: what redirects every request sends it round until the stack ends.
    """
    if parsed_response is None:
        return
    status = parsed_response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if status >= 300:
        raise ClientError(cast("Any", parsed_response), "request")


def _raw(answer: GetObjectOutputTypeDef) -> HTTPResponse:
    """Return the urllib3 response, whose `read1` waits for some bytes, not for all.

    botocore's own StreamingBody can only wait for a full chunk, so it could not
    tell a slow link from a stalled one, and copies once more.
    """
    return cast("HTTPResponse", answer["Body"].__enter__())


def _page(answer: ListObjectsV2OutputTypeDef) -> Page:
    objects = [
        StoredObject(
            key=line["Key"],
            size_bytes=line["Size"],
            mtime_ns=(line["LastModified"] - _EPOCH) // timedelta(microseconds=1) * 1000,
            etag=bare_etag(line["ETag"]),
        )
        for line in answer.get("Contents", [])
    ]
    return Page(objects, answer["NextContinuationToken"] if answer["IsTruncated"] else None)
