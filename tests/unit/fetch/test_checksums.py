"""The checksums that a store offers besides the ETag decide, wherever an object goes."""

from __future__ import annotations

import os
import zlib
from typing import TYPE_CHECKING

import pytest

from idcfs.errors import IntegrityError, StoreUnavailableError
from idcfs.model import Checksum
from tests.support.stores import MemoryStore, in_trio, make_content, make_ref
from tests.unit.fetch.wired import fetching, read

if TYPE_CHECKING:
    from pathlib import Path

    from idcfs.cache import DiskCache

CONTENT = make_content(90)
IN_PARTS = make_ref(CONTENT, etag="0123456789abcdef0123456789abcdef-2")


@pytest.mark.parametrize("is_right", [True, False])
def test_an_object_uploaded_in_parts_is_checked(
    store: MemoryStore, cache: DiskCache, tmp_path: Path, is_right: bool
) -> None:
    store.add(IN_PARTS, CONTENT)
    value = zlib.crc32(CONTENT) ^ (not is_right)
    store.checksums[IN_PARTS.key] = Checksum("crc32", value.to_bytes(4, "big"))

    @in_trio
    async def run() -> None:
        async with fetching(store, cache) as fetcher:
            if is_right:
                await fetcher.download(IN_PARTS, tmp_path / "a.dcm")
                assert await read(fetcher, IN_PARTS) == CONTENT
                return
            with pytest.raises(IntegrityError, match="CRC32"):
                await fetcher.download(IN_PARTS, tmp_path / "a.dcm")
            with pytest.raises(IntegrityError, match="CRC32"):
                await read(fetcher, IN_PARTS)

    run()
    assert ("a.dcm" in os.listdir(tmp_path)) is is_right


LARGE = make_content(1000)
LARGE_IN_PARTS = make_ref(LARGE, "b.dcm", etag="0123456789abcdef0123456789abcdef-7")


@pytest.mark.parametrize("is_right", [True, False])
def test_an_object_that_comes_in_ranges_is_checked_when_all_are_there(
    store: MemoryStore, cache: DiskCache, tmp_path: Path, is_right: bool
) -> None:
    store.add(LARGE_IN_PARTS, LARGE)
    value = zlib.crc32(LARGE) ^ (not is_right)
    store.checksums[LARGE_IN_PARTS.key] = Checksum("crc32", value.to_bytes(4, "big"))

    @in_trio
    async def run() -> None:
        async with fetching(store, cache) as fetcher:
            if is_right:
                await fetcher.download(LARGE_IN_PARTS, tmp_path / "b.dcm")
                assert await fetcher.ensure(LARGE_IN_PARTS)
                return
            with pytest.raises(IntegrityError, match="CRC32"):
                await fetcher.download(LARGE_IN_PARTS, tmp_path / "b.dcm")
            with pytest.raises(IntegrityError, match=r"b\.dcm"):
                await fetcher.ensure(LARGE_IN_PARTS)

    run()
    assert ("b.dcm" in os.listdir(tmp_path)) is is_right
    assert (cache.open(LARGE_IN_PARTS).missing(LARGE_IN_PARTS.whole) == []) is is_right


def test_a_store_that_does_not_tell_of_checksums_is_no_obstacle(
    store: MemoryStore, cache: DiskCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.add(LARGE_IN_PARTS, LARGE)

    def refuse(bucket: str, key: str, *, etag: str) -> tuple[Checksum, ...]:
        raise StoreUnavailableError("refused")

    monkeypatch.setattr(store, "find_checksums", refuse)

    @in_trio
    async def run() -> None:
        async with fetching(store, cache) as fetcher:
            assert await read(fetcher, LARGE_IN_PARTS) == LARGE

    run()
