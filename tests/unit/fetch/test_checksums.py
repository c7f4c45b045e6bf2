"""The checksums that a store offers besides the ETag decide, wherever an object goes."""

from __future__ import annotations

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
    from idcfs.model import ObjectRef

CONTENT = make_content(90)
IN_PARTS = make_ref(CONTENT, etag="0123456789abcdef0123456789abcdef-2")


LARGE = make_content(1000)
LARGE_IN_PARTS = make_ref(LARGE, "b.dcm", etag="0123456789abcdef0123456789abcdef-7")


@pytest.mark.parametrize("is_right", [True, False])
@pytest.mark.parametrize(
    ("ref", "content", "complaint"),
    [(IN_PARTS, CONTENT, "CRC32"), (LARGE_IN_PARTS, LARGE, r"b\.dcm")],
    ids=["come whole", "come in ranges"],
)
def test_objects_uploaded_in_parts_are_checked(
    store: MemoryStore,
    cache: DiskCache,
    tmp_path: Path,
    ref: ObjectRef,
    content: bytes,
    complaint: str,
    is_right: bool,
) -> None:
    store.add(ref, content)
    value = zlib.crc32(content) ^ (not is_right)
    store.checksums[ref.key] = Checksum("crc32", value.to_bytes(4, "big"))
    destination = tmp_path / ref.instance.name

    @in_trio
    async def run() -> None:
        async with fetching(store, cache) as fetcher:
            if is_right:
                await fetcher.download(ref, destination)
                assert await fetcher.ensure(ref)
                assert await read(fetcher, ref) == content
                return
            with pytest.raises(IntegrityError, match="CRC32"):
                await fetcher.download(ref, destination)
            with pytest.raises(IntegrityError, match=complaint):
                await fetcher.ensure(ref)

    run()
    assert destination.exists() is is_right
    assert (cache.open(ref).missing(ref.whole) == []) is is_right


def test_a_store_that_does_not_tell_of_checksums_is_no_obstacle(
    store: MemoryStore, cache: DiskCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.add(LARGE_IN_PARTS, LARGE)

    def refuse(bucket: str, key: str, *, etag: str) -> tuple[Checksum, ...]:
        raise StoreUnavailableError("refused")

    monkeypatch.setattr(store, "find_checksums", refuse)

    @in_trio
    async def run() -> None:
        async with fetching(store, cache) as fetcher:
            assert await read(fetcher, LARGE_IN_PARTS) == LARGE
            assert (await fetcher.download(LARGE_IN_PARTS, tmp_path / "b.dcm")).fetched

    run()
