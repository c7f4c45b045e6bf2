"""Listings on disk."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idcfs.cache import DiskCache
from idcfs.cache.listings import decode_listing, encode_listing
from idcfs.errors import CacheError
from idcfs.model import Instance, Listing, SeriesUUID
from tests.support.stores import series_uuid

if TYPE_CHECKING:
    from pathlib import Path

UUID = series_uuid(1)

names = st.text(
    st.characters(min_codepoint=32, exclude_categories=["Cs"], exclude_characters="/\x7f"),
    min_size=1,
)
instances = st.builds(
    Instance,
    name=names,
    size_bytes=st.integers(0, 2**46),
    mtime_ns=st.integers(-(2**63), 2**63),
    etag=st.sampled_from(["", "d41d8cd98f00b204e9800998ecf8427e", "abc-12", "CKih16GjycICEAE="]),
)


def path_of(root: Path) -> Path:
    return root / "listings" / "aws" / UUID[:2] / UUID


@given(st.lists(instances).map(tuple))
def test_decoding_undoes_encoding(kept: tuple[Instance, ...]) -> None:
    listing = Listing(UUID, kept)

    assert decode_listing(UUID, encode_listing(listing)) == listing


@given(st.lists(instances, min_size=1).map(tuple), st.data())
def test_no_damaged_listing_is_taken_for_one(
    kept: tuple[Instance, ...], data: st.DataObject
) -> None:
    content = bytearray(encode_listing(Listing(UUID, kept)))
    at = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        del content[at:]
    else:
        content[at] ^= data.draw(st.integers(1, 255))

    assert decode_listing(UUID, bytes(content)) is None


@pytest.mark.parametrize("body", [b"not a line\n", b"\xff\n", b"x\t1\tetag\tname\n", b"1\t2\n"])
def test_a_foreign_body_under_a_right_digest_is_no_listing(body: bytes) -> None:
    digest = hashlib.blake2b(body, digest_size=16).hexdigest().encode()

    assert decode_listing(UUID, b"idcfs-listing-1 %s\n%s" % (digest, body)) is None


def test_a_kept_listing_is_found_by_another_cache(root: Path, cache: DiskCache) -> None:
    listing = Listing(UUID, (Instance("a.dcm", 1, 2, "e"), Instance("ü b.dcm", 3, 4, "")))
    assert cache.find_listing(UUID) is None

    cache.put_listing(listing)

    assert cache.find_listing(UUID) == listing
    other = DiskCache(root)
    assert other.find_listing(UUID) == listing
    other.close()
    assert list(root.glob("scratch/*/[0-9]*")) == []


def test_a_damaged_file_is_ignored_and_replaced(root: Path, cache: DiskCache) -> None:
    listing = Listing(UUID, (Instance("a.dcm", 1, 2, "e"),))
    cache.put_listing(listing)
    path_of(root).write_bytes(path_of(root).read_bytes()[:-3])

    assert cache.find_listing(UUID) is None
    cache.put_listing(listing)
    assert cache.find_listing(UUID) == listing


@pytest.mark.parametrize("uuid", ["", ".", "..", "../../x", "a/b", "..x", "with\0nul", "x" * 300])
def test_names_that_are_no_uuids_lead_nowhere(root: Path, cache: DiskCache, uuid: str) -> None:
    before = sorted(root.parent.rglob("*"))

    with pytest.raises(CacheError):
        cache.put_listing(Listing(SeriesUUID(uuid), (Instance("a", 1, 2, "e"),)))
    with pytest.raises(CacheError):
        cache.find_listing(SeriesUUID(uuid))

    made = set(root.parent.rglob("*")) - set(before)
    assert all(path.is_dir() and path.is_relative_to(root / "listings") for path in made)


def test_a_name_that_no_encoding_has_is_a_cache_error(cache: DiskCache) -> None:
    with pytest.raises(CacheError):
        cache.put_listing(Listing(UUID, (Instance("\udc80", 1, 2, "e"),)))


def test_each_origin_has_listings_of_its_own(root: Path) -> None:
    # Google's ETags of the same objects differ where they were uploaded in parts.
    amazon, google = (DiskCache(root, origin=origin) for origin in ("aws", "gcs"))
    listings = [Listing(UUID, (Instance("a.dcm", 9, 1, etag),)) for etag in ("x-2", "y-3")]
    try:
        amazon.put_listing(listings[0])
        assert google.find_listing(UUID) is None
        google.put_listing(listings[1])
        assert [cache.find_listing(UUID) for cache in (amazon, google)] == listings
    finally:
        amazon.close()
        google.close()
