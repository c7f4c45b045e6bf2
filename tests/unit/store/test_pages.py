"""Pages of listings, and errors, as S3 and other servers write them."""

from __future__ import annotations

from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idcfs.store.pages import (
    DocumentTypeError,
    NotAListingError,
    Page,
    parse_error_code,
    parse_page,
)
from tests.support.scripted import ETAG, listing


def page_of(key: str, *, encoding: str = "", **changes: str) -> bytes:
    texts = {"Key": key, "LastModified": "2024-05-06T07:08:09.123Z", "ETag": "e", "Size": "1"}
    fields = "".join(f"<{name}>{text}</{name}>" for name, text in (texts | changes).items())
    coding = f"<EncodingType>{encoding}</EncodingType>" if encoding else ""
    return (
        f"<ListBucketResult><IsTruncated>false</IsTruncated>{coding}"
        f"<Contents>{fields}</Contents></ListBucketResult>"
    ).encode()


def only_key(page: Page) -> str:
    (stored,) = page.objects
    return stored.key


@given(st.text(st.characters(codec="utf-8"), max_size=30), st.sampled_from(["", "/", "/~"]))
def test_any_encoded_key_is_read(key: str, safe: str) -> None:
    for quoted in (quote(key, safe=safe), quote_plus(key, safe=safe)):
        assert only_key(parse_page(page_of(quoted, encoding="url"))) == key


def test_a_key_that_is_not_encoded_stays_as_it_is() -> None:
    assert only_key(parse_page(page_of("a%2Fb+c&amp;&#65;"))) == "a%2Fb+c&A"


@pytest.mark.parametrize(
    ("text", "expected_ns"),
    [
        ("2024-05-06T07:08:09.123Z", 1_714_979_289_123_000_000),
        ("2024-05-06T07:08:09", 1_714_979_289_000_000_000),
        ("2024-05-06T09:08:09.000001+02:00", 1_714_979_289_000_001_000),
        ("1969-12-31T23:59:59.5Z", -500_000_000),
    ],
)
def test_times_are_nanoseconds_since_the_epoch(text: str, expected_ns: int) -> None:
    (stored,) = parse_page(page_of("k", LastModified=text)).objects
    assert stored.mtime_ns == expected_ns


@pytest.mark.parametrize("etag", [f"&quot;{ETAG}&quot;", f'"{ETAG}"', f'W/"{ETAG}"', ETAG])
def test_etags_lose_their_quotes(etag: str) -> None:
    (stored,) = parse_page(page_of("k", ETag=etag)).objects
    assert stored.etag == ETAG


def test_the_token_of_the_next_page_is_found() -> None:
    assert parse_page(listing(["a", "b"], next_token="t&amp;/+")).next_token == "t&/+"
    assert parse_page(listing(["a", "b"])).next_token is None


@pytest.mark.parametrize("size", ["-1", "1e3", "1_0", " 1", "", "\N{SUPERSCRIPT TWO}"])
def test_sizes_that_are_none_are_refused(size: str) -> None:
    with pytest.raises(NotAListingError, match="size"):
        parse_page(page_of("k", Size=size))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html></html>",
        b"<ListBucketResult></ListBucketResult>",
        b"<ListBucketResult><IsTruncated>perhaps</IsTruncated></ListBucketResult>",
        "<ListBucketResult/>".encode("utf-16"),
    ],
)
def test_what_is_no_listing_is_refused(body: bytes) -> None:
    with pytest.raises(NotAListingError):
        parse_page(body)


def test_a_document_type_is_refused() -> None:
    body = b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY e SYSTEM "file:///etc/passwd">]><a>&e;</a>'
    with pytest.raises(DocumentTypeError):
        parse_page(body)
    assert parse_error_code(body) == ""


@given(st.integers(1, len(listing(["s/a", "s/b"])) - 1))
def test_a_listing_that_is_cut_is_never_taken_for_one(length: int) -> None:
    with pytest.raises(NotAListingError):
        parse_page(listing(["s/a", "s/b"])[:length])


def test_the_codes_of_errors_are_read_with_or_without_a_name_space() -> None:
    error = b"<Error%s><Code>SlowDown</Code><Message>Less, please</Message></Error>"
    for space in (b"", b' xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'):
        assert parse_error_code(error % space) == "SlowDown"
        with pytest.raises(NotAListingError):
            parse_page(error % space)
    assert parse_error_code(b"<html><br></html>") == parse_error_code(b"<Other/>") == ""
