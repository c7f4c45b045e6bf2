"""Listings: what of them is believed, and for how long."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from idcfs.errors import CacheError, ObjectNotFoundError, StoreUnavailableError
from idcfs.fetch.listings import _INCOMPLETE_TTL_S, make_listing
from idcfs.store.protocol import StoredObject
from tests.support.caches import FaultyCache
from tests.support.stores import Gate, MemoryStore, in_trio, make_series, series_uuid
from tests.unit.fetch.wired import fetching

if TYPE_CHECKING:
    from idcfs.cache import DiskCache
    from idcfs.model import Listing

SERIES = make_series(1, count=2)
PREFIX = SERIES.prefix


def stored(key: str, size_bytes: int = 1, etag: str = "e") -> StoredObject:
    return StoredObject(key, size_bytes, 0, etag)


def fill(store: MemoryStore, *names: str) -> None:
    for name in names:
        store.add_content(name.encode(), name)


@in_trio
async def test_many_who_ask_share_one_request(store: MemoryStore, cache: DiskCache) -> None:
    fill(store, "a.dcm", "b.dcm")
    gate, got = Gate(), list["Listing"]()
    store.on_list = lambda prefix: gate.hold()
    async with fetching(store, cache) as fetcher:

        async def ask() -> None:
            got.append(await fetcher.listing(SERIES))

        async with trio.open_nursery() as asking:
            for _ in range(10):
                asking.start_soon(ask)
            await gate.arrived()
            gate.open()
        assert [len(each.instances) for each in got] == [2] * 10
        assert await fetcher.listing(SERIES) is got[0]
    assert store.lists == [PREFIX]


@in_trio
async def test_a_complete_listing_is_kept_on_disk(store: MemoryStore, cache: DiskCache) -> None:
    fill(store, "b.dcm", "a.dcm")
    async with fetching(store, cache) as fetcher:
        listing = await fetcher.listing(SERIES)
    async with fetching(MemoryStore(), cache) as fetcher:
        assert await fetcher.listing(SERIES) == listing
    assert [instance.name for instance in listing.instances] == ["a.dcm", "b.dcm"]


@pytest.mark.parametrize("names", [["a.dcm"], ["a.dcm", "b.dcm", "c.dcm"]])
def test_an_incomplete_listing_is_believed_for_a_while_only(
    store: MemoryStore, cache: DiskCache, names: list[str]
) -> None:
    async def run() -> None:
        fill(store, *names)
        async with fetching(store, cache) as fetcher:
            assert len((await fetcher.listing(SERIES)).instances) == len(names)
            await fetcher.listing(SERIES)
            assert len(store.lists) == 1
            assert cache.find_listing(SERIES.uuid) is None
            clock.jump(_INCOMPLETE_TTL_S + 1)
            store.objects.clear()
            fill(store, "a.dcm", "b.dcm")
            assert len((await fetcher.listing(SERIES)).instances) == 2
            assert cache.find_listing(SERIES.uuid) is not None

    clock = MockClock(rate=1.0)
    trio.run(run, clock=clock)


@in_trio
async def test_an_empty_listing_is_an_error_each_time(store: MemoryStore, cache: DiskCache) -> None:
    async with fetching(store, cache) as fetcher:
        for _ in range(2):
            with pytest.raises(ObjectNotFoundError, match="expects 2"):
                await fetcher.listing(SERIES)
        fill(store, "a.dcm", "b.dcm")
        assert len((await fetcher.listing(SERIES)).instances) == 2
    assert len(store.lists) == 3


@in_trio
async def test_an_error_reaches_all_and_the_next_try_starts_anew(
    store: MemoryStore, cache: DiskCache
) -> None:
    fill(store, "a.dcm", "b.dcm")
    gate = Gate()

    def refuse(prefix: str) -> None:
        gate.hold()
        raise StoreUnavailableError("refused")

    store.on_list = refuse
    async with fetching(store, cache) as fetcher:
        failed = []

        async def ask() -> None:
            try:
                await fetcher.listing(SERIES)
            except StoreUnavailableError as exc:
                failed.append(exc)

        async with trio.open_nursery() as asking:
            for _ in range(3):
                asking.start_soon(ask)
            await gate.arrived()
            gate.open()
        assert len(failed) == 3
        store.on_list = lambda prefix: None
        assert len((await fetcher.listing(SERIES)).instances) == 2


@in_trio
async def test_a_bug_in_the_store_does_not_end_the_services(
    store: MemoryStore, cache: DiskCache
) -> None:
    def broken(prefix: str) -> None:
        raise KeyError("a bug")

    store.on_list = broken
    async with fetching(store, cache) as fetcher:
        with pytest.raises(KeyError):
            await fetcher.listing(SERIES)


@pytest.mark.parametrize("step", ["find_listing", "put_listing"])
def test_a_failing_cache_costs_nothing_but_a_request(
    store: MemoryStore, cache: DiskCache, step: str, caplog: pytest.LogCaptureFixture
) -> None:
    @in_trio
    async def run() -> None:
        fill(store, "a.dcm", "b.dcm")
        async with fetching(store, FaultyCache(cache, step.__eq__)) as fetcher:
            assert len((await fetcher.listing(SERIES)).instances) == 2
            assert len((await fetcher.listing(SERIES)).instances) == 2

    run()
    assert len(store.lists) == 1
    assert f"{step} fails" in caplog.text


@in_trio
async def test_a_cancelled_asker_does_not_wait_for_the_store(
    store: MemoryStore, cache: DiskCache
) -> None:
    gate = Gate()
    store.on_list = lambda prefix: gate.hold()
    fill(store, "a.dcm", "b.dcm")
    async with fetching(store, cache) as fetcher:
        async with trio.open_nursery() as asking:
            asking.start_soon(fetcher.listing, SERIES)
            await gate.arrived()
            asking.cancel_scope.cancel()
        gate.open()
        await wait_all_tasks_blocked()
        assert len((await fetcher.listing(SERIES)).instances) == 2


def test_names_that_are_no_file_names_are_passed_over(caplog: pytest.LogCaptureFixture) -> None:
    hostile = [
        "",
        ".",
        "..",
        "a/b.dcm",
        "../x",
        "a\0b",
        "a\nb",
        "a\tb",
        "\x7f",
        "\ud800",
        "x" * 256,
    ]
    listing = make_listing(
        SERIES,
        [
            stored(PREFIX + "good.dcm"),
            stored(PREFIX + "ü" * 127),
            stored(PREFIX + "ü" * 128),
            stored(PREFIX + "good.dcm", 7),
            stored(PREFIX + "negative.dcm", -1),
            stored(PREFIX + "huge.dcm", 2**63),
            stored("outside.dcm"),
            stored(f"{series_uuid(2)}/other.dcm"),
            *[stored(PREFIX + name) for name in hostile],
        ],
    )

    assert [instance.name for instance in listing.instances] == ["good.dcm", "ü" * 127]
    assert listing.instances[0].size_bytes == 1
    assert caplog.text.count("passing over") == 6 + len(hostile)


def test_a_listing_of_hostile_names_only_is_an_empty_one() -> None:
    with pytest.raises(ObjectNotFoundError):
        make_listing(SERIES, [stored(PREFIX + "..")])


@pytest.mark.parametrize(
    ("etag", "kept"),
    [
        ("d41d8cd98f00b204e9800998ecf8427e", True),
        ("d41d8cd98f00b204e9800998ecf8427e-12", True),
        ("CKih16GjycICEAE=", True),
        ("", True),
        ("a\tb", False),
        ('a"b', False),
        ("a\r\nX-Header: b", False),
        ("é", False),
    ],
)
def test_etags_that_could_not_be_sent_back_are_forgotten(etag: str, kept: bool) -> None:
    listing = make_listing(SERIES, [stored(PREFIX + "a.dcm", etag=etag)])

    assert listing.instances[0].etag == (etag if kept else "")


def test_names_are_sorted_by_their_bytes() -> None:
    names = ["b", "\U0001f600", "a", "\uffff", "B"]
    listing = make_listing(SERIES, [stored(PREFIX + name) for name in names])

    assert [each.name for each in listing.instances] == ["B", "a", "b", "\uffff", "\U0001f600"]


def test_the_faulty_cache_fails(cache: DiskCache) -> None:
    with pytest.raises(CacheError):
        FaultyCache(cache, lambda step: True).find_listing(SERIES.uuid)
