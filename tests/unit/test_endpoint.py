"""How a store is named where its listings are kept."""

from __future__ import annotations

import re

import pytest

from idcfs.errors import UsageError
from idcfs.store.endpoint import get_endpoint, origin_of


def test_the_two_public_copies_have_names_of_their_own() -> None:
    assert (origin_of(None, "aws"), origin_of(None, "gcs")) == ("aws", "gcs")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:8333", "server-127-0-0-1-8333-"),
        ("https://S3.Example.org/", "server-s3-example-org-"),
        ("https://[::1]:9000/sub/path", "server----1--9000-"),
        (f"https://{'x' * 300}.org", f"server-{'x' * 200}-"),
    ],
)
def test_a_server_is_named_by_host_and_port_and_a_hash(url: str, expected: str) -> None:
    name = origin_of(url, "aws")
    assert name.startswith(expected)
    assert re.fullmatch("[0-9a-f]{12}", name.removeprefix(expected))
    assert len(name) < 256


def test_each_store_has_a_name_of_its_own() -> None:
    urls = ["http://cache/aws", "http://cache/gcs", "http://cache", "https://cache", "http://cache/AWS",
            "http://cache:81", "http://a.b", "http://a-b", "http://a-b/-"]  # fmt: skip
    assert len({origin_of(url, "aws") for url in urls}) == len(urls)


@pytest.mark.parametrize("url", ["HTTP://Cache/aws", "http://cache/aws/", "http://cache/aws"])
def test_one_store_has_one_name_for_ever(url: str) -> None:
    assert origin_of(url, "aws") == "server-cache-5fa173f896e1"


def test_what_is_no_url_is_refused() -> None:
    with pytest.raises(UsageError):
        origin_of("nonsense", "aws")


@pytest.mark.parametrize(
    ("url", "bucket", "expected"),
    [
        (None, "idc-open-data", ("https", "idc-open-data.s3.amazonaws.com", "")),
        ("http://host:9000", "idc-open-data", ("http", "host:9000", "/idc-open-data")),
        ("https://host/sub/dir/", "bucket", ("https", "host", "/sub/dir/bucket")),
        ("https://[::1]", "bucket", ("https", "[::1]", "/bucket")),
        ("https://[::1]:9", "bucket", ("https", "[::1]:9", "/bucket")),
        ("http://host:80", "bucket", ("http", "host", "/bucket")),
    ],
)
def test_a_bucket_is_found_in_the_host_name_or_the_path(
    url: str | None, bucket: str, expected: tuple[str, str, str]
) -> None:
    found = get_endpoint(url, "aws").find_bucket(bucket)
    assert found is not None
    server, path = found
    assert (server.scheme, server.netloc, path) == expected


@pytest.mark.parametrize("bucket", ["", "..", "a/b", "a b", "-a", "a?b", "a\nb", "x" * 256])
@pytest.mark.parametrize("url", [None, "http://host:9000"])
def test_what_is_no_bucket_is_nowhere(bucket: str, url: str | None) -> None:
    assert get_endpoint(url, "aws").find_bucket(bucket) is None


@pytest.mark.parametrize(
    ("url", "bucket"),
    [(None, "with.dots"), (None, "Old_Name"), ("https://b\u00fccher.example", "bucket")],
)
def test_unusual_names_are_left_to_botocore(url: str | None, bucket: str) -> None:
    assert get_endpoint(url, "aws").find_bucket(bucket) is None
