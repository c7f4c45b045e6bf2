"""Objects as files of the user's."""

from __future__ import annotations

import gc
import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio

from idcfs.errors import IntegrityError, ObjectNotFoundError, StoreUnavailableError
from idcfs.fetch import Brought
from tests.support.stores import MTIME_NS, Gate, MemoryStore, in_trio, make_content, make_ref
from tests.unit.fetch.wired import fetching

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from idcfs.cache import DiskCache
    from idcfs.model import Extent

CONTENT = make_content(90)
LARGE = make_content(1000)


@pytest.fixture
def there(tmp_path: Path) -> Path:
    made = tmp_path / "there"
    made.mkdir()
    return made


@pytest.mark.parametrize("content", [CONTENT, b""], ids=["some", "empty"])
@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_a_file_is_like_one_of_the_users_own(
    store: MemoryStore, cache: DiskCache, there: Path, umask: int, content: bytes
) -> None:
    ref = store.add_content(content)

    @in_trio
    async def run() -> None:
        async with fetching(store, cache) as fetcher:
            await fetcher.download(ref, there / "a.dcm")

    former = os.umask(umask)
    try:
        run()
    finally:
        os.umask(former)
    status = (there / "a.dcm").stat()
    assert (there / "a.dcm").read_bytes() == content
    assert status.st_mode & 0o777 == 0o666 & ~umask
    assert status.st_mtime_ns == MTIME_NS
    assert os.listdir(there) == ["a.dcm"]


@in_trio
async def test_it_appears_whole_and_replaces_what_was_there(
    store: MemoryStore, cache: DiskCache, there: Path
) -> None:
    ref = store.add_content(CONTENT)
    path = there / "a.dcm"
    path.write_bytes(b"former")
    gate = Gate()
    store.between_chunks = gate.hold
    async with fetching(store, cache) as fetcher, trio.open_nursery() as downloading:
        downloading.start_soon(fetcher.download, ref, path)
        await gate.arrived()
        assert path.read_bytes() == b"former"
        assert all(name.startswith(".") for name in os.listdir(there) if name != "a.dcm")
        gate.open()
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("error", [StoreUnavailableError("gone"), ZeroDivisionError()])
def test_nothing_is_left_after_an_error(
    store: MemoryStore, cache: DiskCache, there: Path, error: Exception
) -> None:
    ref = store.add_content(CONTENT)

    def fail() -> None:
        raise error

    store.between_chunks = fail

    @in_trio
    async def run() -> None:
        async with fetching(store, cache) as fetcher:
            with pytest.raises(type(error)):
                await fetcher.download(ref, there / "a.dcm")

    run()
    assert os.listdir(there) == []


@asynccontextmanager
async def cancelled(store: MemoryStore, cache: DiskCache, path: Path) -> AsyncIterator[None]:
    """Have a download in its midst within the block, and cancel it then."""
    ref = store.add_content(CONTENT)
    gate = Gate()
    store.between_chunks = gate.hold
    async with fetching(store, cache) as fetcher, trio.open_nursery() as downloading:
        downloading.start_soon(fetcher.download, ref, path)
        await gate.arrived()
        yield
        downloading.cancel_scope.cancel()
        gate.open()


@in_trio
async def test_nothing_is_left_after_a_cancellation(
    store: MemoryStore, cache: DiskCache, there: Path
) -> None:
    async with cancelled(store, cache, there / "a.dcm"):
        pass
    assert store.ended == ["Cancelled"]
    assert os.listdir(there) == []


@in_trio
async def test_the_cancellation_comes_out_even_if_nothing_can_be_removed(
    store: MemoryStore, cache: DiskCache, there: Path
) -> None:
    async with cancelled(store, cache, there / "a.dcm"):
        for name in os.listdir(there):
            (there / name).unlink()


@pytest.mark.parametrize("wrong", [2, 3])
def test_what_was_not_promised_is_asked_for_again(
    store: MemoryStore, cache: DiskCache, there: Path, wrong: int
) -> None:
    ref = store.add_content(CONTENT)
    store.alter = lambda body: body[1:] if len(store.gets) <= wrong else body

    @in_trio
    async def run() -> None:
        async with fetching(store, cache) as fetcher:
            if wrong < 3:
                await fetcher.download(ref, there / "a.dcm")
            else:
                with pytest.raises(IntegrityError, match="89 bytes arrived"):
                    await fetcher.download(ref, there / "a.dcm")

    run()
    assert len(store.gets) == 3
    if wrong == 3:
        assert os.listdir(there) == []
    else:
        assert (there / "a.dcm").read_bytes() == CONTENT


@pytest.mark.parametrize("name", ["x" * 255, "ü" * 127, "\U0001f600" * 63])
def test_the_longest_names(store: MemoryStore, cache: DiskCache, there: Path, name: str) -> None:
    ref = store.add_content(CONTENT, name)

    @in_trio
    async def run() -> None:
        async with fetching(store, cache) as fetcher:
            await fetcher.download(ref, there / name)

    run()
    assert os.listdir(there) == [name]


@in_trio
async def test_a_place_that_cannot_be_written_is_an_error_of_the_system(
    store: MemoryStore, cache: DiskCache, there: Path
) -> None:
    ref = store.add_content(CONTENT)
    (there / "taken").mkdir()
    async with fetching(store, cache) as fetcher:
        for path in (there / "missing" / "a.dcm", there / "taken"):
            with pytest.raises(OSError, match=r"No such|directory"):
                await fetcher.download(ref, path)
    assert os.listdir(there) == ["taken"]
    assert os.listdir(there / "taken") == []


@in_trio
async def test_many_at_once_keep_apart(store: MemoryStore, cache: DiskCache, there: Path) -> None:
    contents = {f"{number}.dcm": make_content(500, seed=number) for number in range(50)}
    gc.collect()  # files that earlier tests left in rings must not be closed meanwhile
    before = len(os.listdir("/proc/self/fd"))
    async with fetching(store, cache) as fetcher, trio.open_nursery() as downloading:
        for name, content in contents.items():
            ref = store.add_content(content, name)
            downloading.start_soon(fetcher.download, ref, there / name)
    assert sorted(os.listdir(there)) == sorted(contents)
    assert {name: (there / name).read_bytes() for name in contents} == contents
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_object_is_asked_for_as_it_was_listed(
    store: MemoryStore, cache: DiskCache, there: Path
) -> None:
    ref = make_ref(CONTENT, etag="abc-2")
    store.add(ref, CONTENT)
    asked: list[Extent] = []
    store.on_get = lambda key, extent: asked.append(extent)

    @in_trio
    async def run() -> None:
        async with fetching(store, cache) as fetcher:
            await fetcher.download(ref, there / "a.dcm")

    run()
    assert asked == [ref.whole]


@in_trio
async def test_a_large_object_comes_by_several_requests_and_is_checked(
    store: MemoryStore, cache: DiskCache, there: Path
) -> None:
    ref = store.add_content(LARGE)
    async with fetching(store, cache) as fetcher:
        assert (await fetcher.download(ref, there / "a.dcm")).fetched
        present = Brought(fetched=False, checksum=None)
        again = await fetcher.download(ref, there / "a.dcm", find_present=lambda: present)
        assert again is present
    assert (there / "a.dcm").read_bytes() == LARGE
    fetched = sorted((at.offset, at.end) for _, at in store.gets)
    assert fetched == [(start, min(start + 160, 1000)) for start in range(0, 1000, 160)]
    assert os.listdir(there) == ["a.dcm"]


@pytest.mark.parametrize("verified", [True, False])
def test_a_large_object_with_a_wrong_byte(
    store: MemoryStore, cache: DiskCache, there: Path, verified: bool
) -> None:
    ref = store.add_content(LARGE)
    store.alter = lambda body: b"?" + body[1:]

    @in_trio
    async def run() -> None:
        async with fetching(store, cache) as fetcher:
            if verified:
                with pytest.raises(IntegrityError, match="MD5"):
                    await fetcher.download(ref, there / "a.dcm")
            else:
                await fetcher.download(ref, there / "a.dcm", verify_content=False)

    run()
    assert os.listdir(there) == ([] if verified else ["a.dcm"])


def test_a_large_object_of_which_a_part_cannot_be_had(
    store: MemoryStore, cache: DiskCache, there: Path
) -> None:
    ref = store.add_content(LARGE)

    def refuse(key: str, extent: Extent) -> None:
        if extent.offset == 480:
            raise ObjectNotFoundError("refused")

    store.on_get = refuse

    @in_trio
    async def run() -> None:
        async with fetching(store, cache) as fetcher:
            with pytest.raises(ObjectNotFoundError, match="refused"):
                await fetcher.download(ref, there / "a.dcm")

    run()
    assert os.listdir(there) == []
