"""The checksums that a store offers besides the ETag decide, wherever an object goes."""

from __future__ import annotations

import os
import zlib
from typing import TYPE_CHECKING

import pytest

from idcfs.errors import IntegrityError
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
