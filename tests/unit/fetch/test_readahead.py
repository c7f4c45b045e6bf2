"""The files of a series come before they are asked for: what the store sees of it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from idcfs.errors import StoreUnavailableError
from idcfs.fetch import aside, readahead, reader, siblings
from idcfs.model import Extent
from tests.support.caches import FaultyCache
from tests.support.stores import Gate, MemoryStore, in_trio, make_content, make_series
from tests.unit.fetch.test_reading import until
from tests.unit.fetch.wired import fetching, read

if TYPE_CHECKING:
    from idcfs.cache import DiskCache
    from idcfs.fetch import Fetcher
    from idcfs.model import ObjectRef

COUNT = 30
CONTENT = make_content(90)
HEAD = 20
"""What is fetched of a file for its header; a block of the small units used here."""


@pytest.fixture
def refs(store: MemoryStore) -> list[ObjectRef]:
    """The files of a series, in the order of its directory."""
    return [store.add_content(CONTENT, f"{number:03}.dcm") for number in range(COUNT)]


@pytest.fixture
def small_heads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(siblings, "HEAD_BYTES", HEAD)
    monkeypatch.setattr(reader, "HEAD_BYTES", HEAD)
    monkeypatch.setattr(siblings, "_HEAD_LIMIT_BYTES", 2 * HEAD)


async def list_series(fetcher: Fetcher) -> None:
    await fetcher.listing(make_series(1, count=COUNT))


async def walk(fetcher: Fetcher, store: MemoryStore, refs: list[ObjectRef]) -> None:
    """Read all files in order, most of them when they have been asked for already."""
    await list_series(fetcher)
    for ref in refs[:3]:
        assert await read(fetcher, ref) == CONTENT
    await until(lambda: len(store.gets) > 20)
    for ref in refs[3:]:
        assert await read(fetcher, ref) == CONTENT


@in_trio
async def test_a_walk_over_a_series_finds_its_files_there(
    store: MemoryStore, cache: DiskCache, refs: list[ObjectRef]
) -> None:
    async with fetching(store, cache) as fetcher:
        await walk(fetcher, store, refs)
    assert sorted(key for key, _ in store.gets) == [ref.key for ref in refs]


@in_trio
async def test_of_files_whose_headers_are_read_only_headers_come(
    store: MemoryStore, cache: DiskCache, refs: list[ObjectRef], small_heads: None
) -> None:
    async with fetching(store, cache) as fetcher:
        await list_series(fetcher)
        for ref in refs:
            assert await read(fetcher, ref, Extent(0, HEAD)) == CONTENT[:HEAD]
        await until(lambda: len(store.gets) == COUNT)
    lengths = [extent.length for _, extent in store.gets]
    # Whole are the first, and the few that were on their way before it was known.
    assert lengths.count(HEAD) > COUNT - 8
    assert set(lengths) == {HEAD, len(CONTENT)}


@in_trio
async def test_one_file_of_many_brings_no_others(
    store: MemoryStore, cache: DiskCache, refs: list[ObjectRef]
) -> None:
    async with fetching(store, cache) as fetcher:
        await list_series(fetcher)
        assert await read(fetcher, refs[20]) == CONTENT
        await trio.testing.wait_all_tasks_blocked()
    assert [key for key, _ in store.gets] == [refs[20].key]


@in_trio
async def test_what_was_cached_brings_no_others(
    store: MemoryStore, cache: DiskCache, refs: list[ObjectRef]
) -> None:
    async with fetching(store, cache) as fetcher:
        for ref in refs[:8]:
            await fetcher.ensure(ref)
        store.gets.clear()
        await list_series(fetcher)
        for ref in refs[:8]:
            await read(fetcher, ref)
        await trio.testing.wait_all_tasks_blocked()
    assert store.gets == []


@in_trio
async def test_who_waits_finds_a_thread_whatever_comes_ahead(
    store: MemoryStore, cache: DiskCache
) -> None:
    many = [store.add_content(CONTENT, f"{number:03}.dcm") for number in range(100)]
    other = store.add_content(CONTENT, "other.dcm", series=2)
    gate = Gate()
    held: set[int] = set()

    def hold(key: str, extent: Extent) -> None:
        if key.startswith(many[0].series) and int(key[-7:-4]) > 20:
            held.add(threading.get_ident())
            gate.hold()

    store.on_get = hold
    async with fetching(store, cache) as fetcher:
        await fetcher.listing(make_series(1, count=100))
        for ref in many[:20]:
            await read(fetcher, ref)
        await until(lambda: len(held) == 24)
        assert await read(fetcher, other) == CONTENT
        assert len(held) == 24
        gate.open()


@in_trio
async def test_it_ends_when_the_readers_have_gone(
    store: MemoryStore, cache: DiskCache, refs: list[ObjectRef], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readahead, "_GONE_S", 0.02)
    gate = Gate()
    last = refs[10].key
    store.on_get = lambda key, extent: gate.hold() if key > last else None
    async with fetching(store, cache) as fetcher:
        await list_series(fetcher)
        for ref in refs[:8]:
            await read(fetcher, ref)
        await gate.arrived()
        await until(lambda: not len(fetcher._intake._flights))
        gate.open()
        await until(lambda: len(store.ended) == len(store.gets))
    assert "Cancelled" in store.ended


@pytest.mark.parametrize("step", ["open", "writer"])
@in_trio
async def test_what_the_cache_cannot_take_comes_ahead_into_memory(
    store: MemoryStore, cache: DiskCache, refs: list[ObjectRef], step: str
) -> None:
    faulty = FaultyCache(cache, step.__eq__)
    async with fetching(store, faulty) as fetcher:
        await walk(fetcher, store, refs)
    assert sorted(key for key, _ in store.gets) == [ref.key for ref in refs]


@in_trio
async def test_no_more_comes_ahead_into_memory_than_there_is_room_for(
    store: MemoryStore, cache: DiskCache, refs: list[ObjectRef], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aside, "_AHEAD_BYTES", 5 * len(CONTENT))
    faulty = FaultyCache(cache, "writer".__eq__)
    async with fetching(store, faulty) as fetcher:
        await list_series(fetcher)
        for number, ref in enumerate(refs):
            assert await read(fetcher, ref) == CONTENT
            await trio.testing.wait_all_tasks_blocked()
            assert len(store.gets) <= number + 1 + 5
    # What found no room came when it was read; nothing came twice.
    assert sorted(key for key, _ in store.gets) == [ref.key for ref in refs]


@in_trio
async def test_headers_that_the_cache_cannot_take_come_ahead_as_headers(
    store: MemoryStore, cache: DiskCache, refs: list[ObjectRef], small_heads: None
) -> None:
    faulty = FaultyCache(cache, "writer".__eq__)
    async with fetching(store, faulty) as fetcher:
        await list_series(fetcher)
        for ref in refs:
            assert await read(fetcher, ref, Extent(0, HEAD)) == CONTENT[:HEAD]
            await trio.testing.wait_all_tasks_blocked()
    lengths = [extent.length for _, extent in store.gets]
    assert lengths.count(HEAD) > COUNT - 8
    # Whole are the first, whose headers are not looked for in there.
    assert len(lengths) <= COUNT + 8 - 1


@in_trio
async def test_a_store_that_fails_ahead_of_readers_fails_nobody(
    store: MemoryStore, cache: DiskCache, refs: list[ObjectRef]
) -> None:
    def refuse(key: str, extent: Extent) -> None:
        if key > refs[3].key:
            raise StoreUnavailableError("refused")

    store.on_get = refuse
    async with fetching(store, cache) as fetcher:
        await list_series(fetcher)
        for ref in refs[:4]:
            assert await read(fetcher, ref) == CONTENT
        with pytest.raises(StoreUnavailableError):
            await read(fetcher, refs[5])
