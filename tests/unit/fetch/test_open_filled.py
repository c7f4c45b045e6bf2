"""Small objects that one thread opens in the cache and fills, in one go."""

from __future__ import annotations

import threading
from contextlib import closing
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from idcfs.cache import DiskCache
from idcfs.cache.ledger import NoLedger
from idcfs.errors import CacheError, IntegrityError
from idcfs.fetch import filler, readahead
from idcfs.fetch.disk_pace import DiskPace
from idcfs.fetch.fetcher import INTEGRITY_TRIES
from tests.support.multiplexing import MemoryMultiplexer
from tests.support.stores import Gate, MemoryStore, in_trio, make_content, make_series
from tests.unit.fetch.wired import fetching, read

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from idcfs.cache.objects import DiskObject
    from idcfs.cache.protocol import FindChecksums
    from idcfs.model import ObjectRef, SeriesUUID

SMALL = make_content(90)
LARGE = make_content(1000)


class NotingLedger(NoLedger):
    """Counts the objects that are open."""

    held = 0
    ever_held = 0
    removed: SeriesUUID | None = None
    """A series that somebody removes until `gate` is opened."""

    def __init__(self) -> None:
        self.gate = Gate()

    def hold(self, series: SeriesUUID, *, waits: bool = True) -> None:
        if series == self.removed:
            if not waits:
                raise CacheError("it is being removed")
            self.gate.hold()
        self.held += 1
        self.ever_held += 1

    def let_go(self, series: SeriesUUID) -> None:
        self.held -= 1


class NotingCache(DiskCache):
    """Notes which threads open objects, and how many of these are still open."""

    gate: Gate | None = None
    """Where one that is opened waits."""

    def __init__(self, root: Path) -> None:
        self.threads: list[str] = []
        self.books = NotingLedger()
        super().__init__(root, ledger=self.books)

    def open(
        self, ref: ObjectRef, find_checksums: FindChecksums = list, *, waits: bool = True
    ) -> DiskObject:
        self.threads.append(threading.current_thread().name)
        if self.gate is not None:
            self.gate.hold()
        return super().open(ref, find_checksums, waits=waits)


@pytest.fixture
def cache(cache: DiskCache) -> Iterator[NotingCache]:
    with closing(NotingCache(cache.root)) as noting:
        yield noting


@pytest.fixture
def multiplexer(store: MemoryStore) -> Iterator[MemoryMultiplexer]:
    with MemoryMultiplexer(store) as multiplexer:
        store.multiplexer = multiplexer
        yield multiplexer


async def until(condition: Callable[[], object]) -> None:
    with trio.fail_after(10):
        while not condition():  # noqa: ASYNC110  # by a thread, which sets no trio.Event
            await trio.sleep(0.001)


@in_trio
async def test_no_other_thread_is_asked(
    store: MemoryStore, cache: NotingCache, multiplexer: MemoryMultiplexer
) -> None:
    ref, large = store.add_content(SMALL), store.add_content(LARGE, "b.dcm")
    async with fetching(store, cache, fills_together=True) as fetcher:
        assert await fetcher.ensure(ref)
        assert cache.threads == ["filler"]
        assert not await fetcher.ensure(ref)  # it is still open
        assert await fetcher.ensure(large)
    assert "filler" not in cache.threads[1:]
    assert multiplexer.begun[0] == ref.key
    assert not store.gets


@in_trio
async def test_what_is_there_is_not_fetched(
    store: MemoryStore, cache: NotingCache, multiplexer: MemoryMultiplexer
) -> None:
    ref = store.add_content(SMALL)
    async with fetching(store, cache) as fetcher:
        await fetcher.ensure(ref)
    multiplexer.begun.clear()
    async with fetching(store, cache, fills_together=True) as fetcher:
        assert not await fetcher.ensure(ref)
    assert cache.threads[1:] == ["filler"]
    assert not multiplexer.begun


@in_trio
async def test_one_that_cannot_be_brought_so_is_closed_and_opened_anew(
    store: MemoryStore, cache: NotingCache, multiplexer: MemoryMultiplexer
) -> None:
    ref = store.add_content(SMALL)
    multiplexer.breaks.add(ref.key)
    async with fetching(store, cache, fills_together=True) as fetcher:
        reader = fetcher.open(ref)
        assert await reader.ensure()
        assert len(cache.threads) == 2
        assert cache.books.held == 1
        fetcher.close_reader(reader)
    assert cache.books.held == 0


@pytest.mark.parametrize("opens", [True, False], ids=["opening", "coming"])
@in_trio
async def test_one_that_nobody_waits_for_any_more_is_closed(
    store: MemoryStore, cache: NotingCache, multiplexer: MemoryMultiplexer, opens: bool
) -> None:
    ref, gate = store.add_content(SMALL), Gate()
    multiplexer.held = True
    cache.gate = gate if opens else None
    async with fetching(store, cache, fills_together=True) as fetcher:
        async with trio.open_nursery() as readers:
            readers.start_soon(fetcher.ensure, ref)
            if opens:
                await gate.arrived()
            else:
                await multiplexer.has_halves(1)
            readers.cancel_scope.cancel()
        gate.open()
        await until(lambda: cache.books.ever_held and not cache.books.held)
        cache.gate = None
        multiplexer.go_on()
        assert await read(fetcher, ref) == SMALL


@in_trio
async def test_who_reads_it_meanwhile_waits_for_it_and_counts_as_waiting(
    store: MemoryStore, cache: NotingCache, multiplexer: MemoryMultiplexer
) -> None:
    ref = store.add_content(SMALL)
    multiplexer.held = True
    contents = []

    async def read_too() -> None:
        contents.append(await read(fetcher, ref))

    async with (
        fetching(store, cache, fills_together=True) as fetcher,
        trio.open_nursery() as readers,
    ):
        readers.start_soon(fetcher.ensure, ref)
        await multiplexer.has_halves(1)
        readers.start_soon(read_too)
        await trio.testing.wait_all_tasks_blocked()
        multiplexer.go_on()
    assert contents == [SMALL]
    assert multiplexer.begun == [ref.key]
    assert fetcher.figures.objects_missed == 1
    assert (fetcher.figures.store_bytes, fetcher.figures.cache_bytes) == (len(SMALL), 0)


@in_trio
async def test_who_comes_in_the_same_instant_counts_as_waiting_too(
    store: MemoryStore, cache: NotingCache, multiplexer: MemoryMultiplexer
) -> None:
    refs = [store.add_content(SMALL, f"{number:02}.dcm") for number in range(16)]
    async with fetching(store, cache, fills_together=True) as fetcher:
        for ref in refs:  # which of the two tasks goes on first is left to chance
            async with trio.open_nursery() as readers:
                readers.start_soon(fetcher.ensure, ref)
                await trio.lowlevel.checkpoint()
                readers.start_soon(read, fetcher, ref)
    assert multiplexer.begun == [ref.key for ref in refs]
    assert fetcher.figures.objects_missed == len(refs)


def test_a_series_has_a_reader_while_one_waits_for_what_comes(
    store: MemoryStore, cache: NotingCache, multiplexer: MemoryMultiplexer
) -> None:
    refs = [store.add_content(SMALL, f"{number}.dcm") for number in range(4)]
    clock = trio.testing.MockClock()
    multiplexer.held = True

    async def run() -> None:
        async with fetching(store, cache, fills_together=True) as fetcher:
            await fetcher.listing(make_series(1, count=len(refs)))
            async with trio.open_nursery() as readers:
                readers.start_soon(read, fetcher, refs[0])
                await multiplexer.has_halves(len(refs))
                readers.cancel_scope.cancel()
            while not multiplexer.dropped:  # by the thread
                await trio.lowlevel.checkpoint()
            async with trio.open_nursery() as readers:
                readers.start_soon(read, fetcher, refs[1])
                for _ in range(4):
                    await trio.testing.wait_all_tasks_blocked()
                    clock.jump(readahead._GONE_S)
                await trio.testing.wait_all_tasks_blocked()
                multiplexer.go_on()

    trio.run(run, clock=clock)
    assert multiplexer.dropped == [refs[0].key]
    assert sorted(multiplexer.begun) == [ref.key for ref in refs]


@in_trio
async def test_others_do_not_wait_for_a_series_that_is_being_removed(
    store: MemoryStore, cache: NotingCache, multiplexer: MemoryMultiplexer
) -> None:
    ref, other = store.add_content(SMALL), store.add_content(SMALL, series=2)
    cache.books.removed = ref.series
    async with (
        fetching(store, cache, fills_together=True) as fetcher,
        trio.open_nursery() as readers,
    ):
        readers.start_soon(fetcher.ensure, ref)
        await cache.books.gate.arrived()
        with trio.fail_after(5):
            assert await fetcher.ensure(other)
        cache.books.gate.open()
    assert multiplexer.begun == [other.key, ref.key]
    assert cache.books.held == 0


@in_trio
async def test_one_that_is_wrong_each_time_is_asked_for_no_more_often_than_others(
    store: MemoryStore, cache: NotingCache, multiplexer: MemoryMultiplexer
) -> None:
    ref = store.add_content(SMALL)
    store.alter = lambda body: bytes(len(body))
    async with fetching(store, cache, fills_together=True) as fetcher:
        with pytest.raises(IntegrityError):
            await fetcher.ensure(ref)
    assert multiplexer.begun == [ref.key] * INTEGRITY_TRIES
    assert not store.gets
    assert cache.books.held == 0


@pytest.mark.parametrize("is_slow", [True, False])
@in_trio
async def test_where_to_open_takes_long_threads_do_so_side_by_side(
    store: MemoryStore,
    cache: NotingCache,
    multiplexer: MemoryMultiplexer,
    monkeypatch: pytest.MonkeyPatch,
    is_slow: bool,
) -> None:
    refs = [store.add_content(SMALL, f"{n}.dcm") for n in range(20)]
    former, now_s = DiskCache.open, 0.0

    def open_it(cache: DiskCache, *args: object, **kwargs: object) -> object:
        nonlocal now_s
        now_s += 0.005 if is_slow else 0.0005
        return former(cache, *args, **kwargs)  # type: ignore[arg-type]  # passed on

    monkeypatch.setattr(DiskCache, "open", open_it)
    monkeypatch.setattr(filler, "time", SimpleNamespace(monotonic=lambda: now_s))
    monkeypatch.setattr(DiskPace, "is_quick", property(lambda pace: pace._slow_until_s < 0))
    async with fetching(store, cache, fills_together=True) as fetcher:
        for ref in refs:
            await fetcher.ensure(ref)
    assert cache.threads.count("filler") == (16 if is_slow else 20)
    assert len(multiplexer.begun) == 20
