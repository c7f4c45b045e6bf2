"""Reading objects: once from the store, then from the cache, and right whatever fails."""

from __future__ import annotations

import gc
import itertools
import os
import threading
import time
from contextlib import closing
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from idcfs.cache import DiskCache, disk_ledger
from idcfs.cache.objects import DiskObject
from idcfs.errors import CacheError, IntegrityError, StoreUnavailableError
from idcfs.fetch import Fetcher, aside, idle
from idcfs.fetch.units import Filled
from idcfs.model import Extent
from tests.support.caches import FaultyCache
from tests.support.mounting import DEADLINE_S
from tests.support.stores import Gate, MemoryStore, in_trio, make_content, make_ref
from tests.unit.cache.ledgers import BLOCK, quiet
from tests.unit.cache.ledgers import store as keep_in_books
from tests.unit.fetch.wired import fetching, read

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from idcfs.fetch.aside import UnitsKey
    from idcfs.model import Bytes, ObjectRef

SMALL = make_content(90)
LARGE = make_content(150)
STEPS = ["open", "writer", "write", "commit", "read"]


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what a thread will do."""
    while not condition():  # noqa: ASYNC110  # threads set no trio.Event
        await trio.sleep(0.001)


def go_to_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no read answered from memory."""
    monkeypatch.setattr("idcfs.cache.objects.DiskObject.read_nowait", lambda *_: None)


@in_trio
async def test_an_object_is_fetched_once_and_then_read_from_the_cache(
    store: MemoryStore, cache: DiskCache
) -> None:
    ref = store.add_content(SMALL)
    async with fetching(store, cache) as fetcher:
        reader = fetcher.open(ref)
        assert reader.read_nowait(Extent(10, 5)) is None
        assert await reader.read(Extent(10, 5)) == SMALL[10:15]
        assert await reader.read(Extent(85, 5)) == SMALL[85:]
        fetcher.close_reader(reader)
    async with fetching(MemoryStore(), cache) as fetcher:
        assert await read(fetcher, ref) == SMALL
    assert store.gets == [(ref.key, ref.whole)]


def hold_part(cache: DiskCache, ref: ObjectRef, content: bytes, part: Extent) -> None:
    """Have a part of an object in the cache."""
    held = cache.open(ref)
    writer = held.writer(part)
    assert writer is not None
    writer.write(memoryview(content)[part.offset : part.end])
    writer.commit()
    held.close()


@in_trio
async def test_a_small_object_comes_whole_wherever_it_is_read_first(
    store: MemoryStore, cache: DiskCache
) -> None:
    ref = store.add_content(SMALL)
    async with fetching(store, cache) as fetcher:
        assert await read(fetcher, ref, Extent(45, 5)) == SMALL[45:50]
    assert store.gets == [(ref.key, ref.whole)]


@pytest.mark.parametrize(
    ("part", "first", "gets"),
    [
        (Extent(0, 20), Extent(15, 20), [Extent(20, 70)]),
        (Extent(80, 10), Extent(40, 1), [Extent(0, 80)]),
        (Extent(40, 20), Extent(85, 1), [Extent(60, 30), Extent(0, 40)]),
    ],
)
@pytest.mark.parametrize("prefetched", [False, True])
def test_what_is_held_of_a_small_object_is_not_fetched_again(
    store: MemoryStore,
    cache: DiskCache,
    part: Extent,
    first: Extent,
    gets: list[Extent],
    prefetched: bool,
) -> None:
    ref = store.add_content(SMALL)
    hold_part(cache, ref, SMALL, part)

    @in_trio
    async def run() -> None:
        async with fetching(store, cache) as fetcher:
            if prefetched:
                assert await fetcher.ensure(ref)
            else:
                assert await read(fetcher, ref, first) == SMALL[first.offset : first.end]
            assert await read(fetcher, ref) == SMALL
            assert not await fetcher.ensure(ref)

    run()
    assert len(store.gets) == len(gets)
    assert {at for _, at in store.gets} == set(gets)


@in_trio
async def test_prefetching_joins_the_run_of_a_reader(store: MemoryStore, cache: DiskCache) -> None:
    ref = store.add_content(SMALL)
    gate = Gate()
    store.on_get = lambda key, extent: gate.hold()
    async with fetching(store, cache) as fetcher, trio.open_nursery() as tasks:
        tasks.start_soon(read, fetcher, ref)
        await gate.arrived()
        tasks.start_soon(fetcher.ensure, ref)
        await wait_all_tasks_blocked()
        assert fetcher._intake._objects.borrowed_tokens == 1
        gate.open()
    assert store.gets == [(ref.key, ref.whole)]


@in_trio
async def test_a_run_that_ends_while_its_reader_waits_for_another_is_not_missed(
    store: MemoryStore, cache: DiskCache
) -> None:
    ref = store.add_content(LARGE)
    first, second, got = Gate(), Gate(), list["Bytes"]()
    store.on_get = lambda key, extent: (second if extent.offset else first).hold()
    async with fetching(store, cache) as fetcher:

        async def read_some(offset: int, length: int) -> None:
            got.append(await read(fetcher, ref, Extent(offset, length)))

        async with trio.open_nursery() as reading:
            reading.start_soon(read_some, 40, 110)
            await second.arrived()
            reading.start_soon(read_some, 0, 150)
            await first.arrived()
            second.open()
            await until(lambda: len(got) == 1)
            first.open()
    assert got == [LARGE[40:], LARGE]
    assert [extent for _, extent in store.gets] == [Extent(40, 110), Extent(0, 40)]


@in_trio
async def test_many_readers_share_one_transfer(store: MemoryStore, cache: DiskCache) -> None:
    ref = store.add_content(SMALL)
    gate, got = Gate(), list["Bytes"]()
    store.on_get = lambda key, extent: gate.hold()
    async with fetching(store, cache) as fetcher:

        async def read_some(offset: int) -> None:
            got.append(await read(fetcher, ref, Extent(offset, 10)))

        async with trio.open_nursery() as reading:
            for offset in range(0, 80, 4):
                reading.start_soon(read_some, offset)
            await gate.arrived()
            await wait_all_tasks_blocked()
            gate.open()
    assert sorted(got) == sorted(SMALL[offset : offset + 10] for offset in range(0, 80, 4))
    assert len(store.gets) == 1


@in_trio
async def test_a_reader_joins_a_longer_run_that_has_its_unit(
    store: MemoryStore, cache: DiskCache
) -> None:
    ref = store.add_content(LARGE)
    gate = Gate()
    store.on_get = lambda key, extent: gate.hold()
    async with fetching(store, cache) as fetcher:
        async with trio.open_nursery() as reading:
            reading.start_soon(read, fetcher, ref, Extent(0, 80))
            await gate.arrived()
            reading.start_soon(read, fetcher, ref, Extent(40, 20))
            await wait_all_tasks_blocked()
            gate.open()
        assert await read(fetcher, ref) == LARGE
    assert [extent for _, extent in store.gets] == [Extent(0, 150)]


@in_trio
async def test_two_readers_that_overlap_fetch_each_unit_once(
    store: MemoryStore, cache: DiskCache
) -> None:
    ref = store.add_content(LARGE)
    gate, got = Gate(), list["Bytes"]()
    store.on_get = lambda key, extent: gate.hold()
    async with fetching(store, cache) as fetcher:

        async def read_some(offset: int, length: int) -> None:
            got.append(await read(fetcher, ref, Extent(offset, length)))

        async with trio.open_nursery() as reading:
            reading.start_soon(read_some, 40, 20)
            await gate.arrived()
            reading.start_soon(read_some, 0, 150)
            await gate.arrived()
            gate.open()
    assert sorted(got) == sorted([LARGE[40:60], LARGE])
    fetched = sorted((at.offset, at.end) for _, at in store.gets)
    assert fetched[0][0] == 0
    assert fetched[-1][1] == 150
    assert all(one[1] == next_[0] for one, next_ in itertools.pairwise(fetched))


@in_trio
async def test_what_lies_ahead_of_a_sequential_reader_is_on_its_way(
    store: MemoryStore, cache: DiskCache
) -> None:
    content = make_content(2000)
    ref = store.add_content(content)
    async with fetching(store, cache) as fetcher:
        reader = fetcher.open(ref)
        for offset in range(0, 600, 10):
            assert await reader.read(Extent(offset, 10)) == content[offset : offset + 10]
        # Its window of 480 bytes, in whole runs of 160.
        await until(lambda: reader.read_nowait(Extent(950, 10)) is not None)
        lengths = [extent.length for _, extent in store.gets]
        assert lengths[0] < max(lengths) == 160
        assert len(lengths) < 12
        store.gets.clear()
        await reader.read(Extent(1680, 10))
        assert [extent for _, extent in store.gets] == [Extent(1680, 40)]
        fetcher.close_reader(reader)


@in_trio
async def test_what_comes_ahead_is_dropped_when_the_reader_goes(
    store: MemoryStore, cache: DiskCache
) -> None:
    ref = store.add_content(make_content(2000))
    gate = Gate()
    async with fetching(store, cache) as fetcher:
        reader = fetcher.open(ref)
        await reader.read(Extent(0, 40))
        store.between_chunks = gate.hold
        await reader.read(Extent(40, 100))
        await gate.arrived()
        fetcher.close_reader(reader)
        await wait_all_tasks_blocked()
        gate.open()
        await until(lambda: len(store.ended) == len(store.gets))
    assert "Cancelled" in store.ended


@in_trio
async def test_one_cancelled_reader_leaves_the_transfer_to_the_others(
    store: MemoryStore, cache: DiskCache
) -> None:
    ref = store.add_content(SMALL)
    gate, got = Gate(), list["Bytes"]()
    store.on_get = lambda key, extent: gate.hold()
    async with fetching(store, cache) as fetcher:

        async def read_all() -> None:
            got.append(await read(fetcher, ref))

        async with trio.open_nursery() as reading:
            reading.start_soon(read_all)
            await gate.arrived()
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as impatient:
                    impatient.start_soon(read_all)
                    await wait_all_tasks_blocked()
                    scope.cancel()
            gate.open()
    assert got == [SMALL]
    assert store.ended == [""]


@in_trio
async def test_the_last_cancelled_reader_ends_the_transfer(
    store: MemoryStore, cache: DiskCache, root: Path
) -> None:
    ref = store.add_content(SMALL)
    gate = Gate()
    store.between_chunks = gate.hold
    async with fetching(store, cache) as fetcher:
        async with trio.open_nursery() as reading:
            reading.start_soon(read, fetcher, ref)
            reading.start_soon(read, fetcher, ref)
            await gate.arrived()
            reading.cancel_scope.cancel()
        gate.open()
        await until(lambda: len(store.ended) == 1)
        store.between_chunks = lambda: None
        assert await read(fetcher, ref) == SMALL
    assert store.ended == ["Cancelled", ""]


@in_trio
async def test_a_transfer_given_up_spoils_nothing_when_the_next_is_quicker(
    store: MemoryStore, cache: DiskCache, root: Path
) -> None:
    """Its thread is between being told to go on and writing, while the next one ends."""
    ref = store.add_content(SMALL)
    gate = Gate()
    check = trio.from_thread.check_cancelled
    slow: list[int] = []

    def slow_check() -> None:
        check()
        if not slow:
            slow.append(threading.get_ident())
            gate.hold()

    store.alter = lambda body: body if slow else bytes(len(body))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trio.from_thread, "check_cancelled", slow_check)
        async with fetching(store, cache) as fetcher:
            async with trio.open_nursery() as reading:
                reading.start_soon(read, fetcher, ref)
                await gate.arrived()
                reading.cancel_scope.cancel()
            assert await read(fetcher, ref) == SMALL
            gate.open()
            await until(lambda: len(store.ended) == 2)
            assert await read(fetcher, ref) == SMALL
    path = root / "objects" / ref.series[:2] / ref.series / "a.dcm"
    assert path.read_bytes() == SMALL
    assert "Cancelled" in store.ended or "CacheError" in store.ended


@in_trio
async def test_an_error_reaches_all_readers_and_the_next_try_starts_anew(
    store: MemoryStore, cache: DiskCache
) -> None:
    ref = store.add_content(SMALL)
    gate, failed = Gate(), list[Exception]()

    def refuse(key: str, extent: Extent) -> None:
        gate.hold()
        raise StoreUnavailableError("refused")

    store.on_get = refuse
    async with fetching(store, cache) as fetcher:

        async def read_all() -> None:
            try:
                await read(fetcher, ref)
            except StoreUnavailableError as exc:
                failed.append(exc)

        async with trio.open_nursery() as reading:
            for _ in range(5):
                reading.start_soon(read_all)
            await gate.arrived()
            await wait_all_tasks_blocked()
            gate.open()
        assert len(failed) == 5
        assert len(store.gets) == 1
        store.on_get = lambda key, extent: None
        assert await read(fetcher, ref) == SMALL


@in_trio
async def test_a_bug_in_the_store_does_not_end_the_services(
    store: MemoryStore, cache: DiskCache
) -> None:
    ref = store.add_content(SMALL)

    def broken(key: str, extent: Extent) -> None:
        raise ZeroDivisionError

    store.on_get = broken
    async with fetching(store, cache) as fetcher:
        with pytest.raises(ZeroDivisionError):
            await read(fetcher, ref)


@pytest.mark.parametrize("wrong", [1, 2, 3])
def test_what_was_not_promised_is_asked_for_again(
    store: MemoryStore, cache: DiskCache, wrong: int, root: Path
) -> None:
    ref = store.add_content(SMALL)
    store.alter = lambda body: body[:-1] + b"x" if len(store.gets) <= wrong else body

    @in_trio
    async def run() -> None:
        async with fetching(store, cache) as fetcher:
            if wrong < 3:
                assert await read(fetcher, ref) == SMALL
            else:
                with pytest.raises(IntegrityError, match="MD5"):
                    await read(fetcher, ref)
                assert list((root / "objects").rglob("*.dcm")) == []
                assert await read(fetcher, ref) == SMALL

    run()
    assert len(store.gets) == wrong + 1


@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("step", [*STEPS, "read_nowait"])
@pytest.mark.parametrize("times", [1, 2, 1000])
def test_a_failing_cache_costs_requests_and_never_bytes(
    store: MemoryStore, cache: DiskCache, step: str, times: int, content: bytes
) -> None:
    ref = store.add_content(content)
    failures = iter(range(times))
    faulty = FaultyCache(cache, lambda at: at == step and next(failures, None) is not None)

    @in_trio
    async def run() -> None:
        async with fetching(store, faulty) as fetcher:
            reader = fetcher.open(ref)
            for extent in (ref.whole, Extent(5, 50), Extent(80, 3), ref.whole):
                wanted = content[extent.offset : extent.end]
                got = reader.read_nowait(extent)
                assert (await reader.read(extent) if got is None else got) == wanted
            fetcher.close_reader(reader)

    with pytest.MonkeyPatch.context() as patch:
        if step == "read":
            go_to_disk(patch)
        run()
    assert len(store.gets) <= 3 * (4 if content is LARGE else 1) + min(times, 4)


@in_trio
async def test_a_cached_file_that_proves_unreadable_is_fetched_again(
    store: MemoryStore, cache: DiskCache, root: Path
) -> None:
    ref = store.add_content(SMALL)
    path = root / "objects" / ref.series[:2] / ref.series / "a.dcm"
    async with fetching(store, cache) as fetcher:
        reader = fetcher.open(ref)
        await reader.read(ref.whole)
        os.truncate(path, 10)
        got = []

        async def read_all() -> None:
            got.append(await reader.read(ref.whole))

        async with trio.open_nursery() as reading:
            for _ in range(8):
                reading.start_soon(read_all)
        fetcher.close_reader(reader)
    assert got == [SMALL] * 8
    assert path.read_bytes() == SMALL
    assert len(store.gets) == 2


@in_trio
async def test_what_the_cache_cannot_take_comes_ahead_into_memory_once(
    store: MemoryStore, cache: DiskCache
) -> None:
    content = make_content(2000)
    ref = store.add_content(content)
    faulty = FaultyCache(cache, lambda step: step == "write")
    async with fetching(store, faulty) as fetcher:
        reader = fetcher.open(ref)
        farthest = 0
        for position in range(0, 2000, 20):
            extent = Extent(position, 20)
            assert await reader.read(extent) == content[position : position + 20]
            await until(lambda: not fetcher._background._running)
            farthest = max(farthest, *(got.end - position for _, got in store.gets))
        fetcher.close_reader(reader)
    came = [extent for _, extent in store.gets]
    # Each is asked for twice: the cache is to have it before memory is. At first, four times.
    assert sum(extent.length for extent in came) <= 2 * 2000 + 2 * 480
    assert 160 <= farthest <= 480 + 20
    late = [extent for _, extent in store.gets if extent.offset >= 500]
    assert {(extent.offset % 80, extent.length) for extent in late} == {(0, 80)}


@in_trio
async def test_when_the_cache_takes_no_more_the_rest_soon_comes_ahead_into_memory(
    store: MemoryStore, cache: DiskCache
) -> None:
    ref = store.add_content(make_content(4000))
    is_full = False
    faulty = FaultyCache(cache, lambda step: is_full and step == "writer")
    waited = 0
    async with fetching(store, faulty) as fetcher:
        reader = fetcher.open(ref)
        for position in range(2000, 2800, 20):
            is_full = position >= 2080  # which is when much is ordered at once
            before = len(store.gets)
            await reader.read(Extent(position, 20))
            waited += is_full and (ref.key, Extent(position, 80)) in store.gets[before:]
            await until(lambda: not fetcher._background._running)
        fetcher.close_reader(reader)
    # What was on its way for the cache has been lost, and is ordered anew.
    assert waited <= 1


@in_trio
async def test_only_who_needs_the_cache_waits_until_it_has_room(
    store: MemoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited_s: list[float] = []
    watch = SimpleNamespace(monotonic=time.monotonic, sleep=waited_s.append)
    monkeypatch.setattr(disk_ledger, "time", watch)
    ledger, series = quiet(tmp_path, 20 * BLOCK, patience_s=0.05), make_ref(LARGE, series=7).series
    ref = store.add_content(SMALL)
    with closing(DiskCache(tmp_path, ledger=ledger)) as cache:
        keep_in_books(tmp_path, ledger, series, 19 * BLOCK)
        ledger.hold(series)
        for together in (False, True):
            async with fetching(store, cache, fills_together=together) as fetcher:
                assert await read(fetcher, ref) == SMALL
            assert waited_s == []
        async with fetching(store, cache) as fetcher:
            with pytest.raises(CacheError, match="1 series are in use"):
                await fetcher.ensure(ref)
        assert waited_s != []
        ledger.let_go(series)


@in_trio
async def test_what_is_read_round_the_cache_is_not_kept_by_its_error(
    store: MemoryStore, cache: DiskCache
) -> None:
    """Garbage is collected rarely, and the error knew frames whose result was the bytes."""
    ref = store.add_content(make_content(4000))
    faulty = FaultyCache(cache, lambda step: step == "writer")
    gc.collect()
    gc.disable()
    try:
        async with fetching(store, faulty) as fetcher:
            reader = fetcher.open(ref)
            for position in range(0, 4000, 80):
                await reader.read(Extent(position, 80))
            await wait_all_tasks_blocked()
            fetcher.close_reader(reader)
            fetcher._intake.aside._kept.clear()
            await wait_all_tasks_blocked()
            left = sum(isinstance(each, Filled) for each in gc.get_objects())
    finally:
        gc.enable()
    assert len(store.gets) >= 50
    assert left <= 5  # what threads did last


def test_units_in_memory_are_used_again_and_then_the_cache_is_tried_anew(
    store: MemoryStore, cache: DiskCache
) -> None:
    ref = store.add_content(SMALL)
    failing = True
    faulty = FaultyCache(cache, lambda step: failing and step == "write")

    async def run() -> None:
        nonlocal failing
        async with fetching(store, faulty) as fetching_:
            for _ in range(5):
                assert await read(fetching_, ref) == SMALL
            assert len(store.gets) == 2  # one that the cache refused, and one
            failing = False
            clock.jump(aside.KEPT_S + 1)
            for _ in range(5):
                assert await read(fetching_, ref) == SMALL
            assert len(store.gets) == 3
            assert cache.open(ref).missing(ref.whole) == []

    clock = MockClock(rate=1.0)
    trio.run(run, clock=clock)


@in_trio
async def test_the_next_who_opens_an_object_tries_the_cache_anew(
    store: MemoryStore, cache: DiskCache
) -> None:
    ref = store.add_content(SMALL)
    failures = iter(["open"])
    faulty = FaultyCache(cache, lambda step: step == next(failures, None))
    async with fetching(store, faulty) as fetcher:
        assert await read(fetcher, ref) == SMALL
        assert cache.open(ref).missing(ref.whole) != []
        assert await read(fetcher, ref) == SMALL
        assert cache.open(ref).missing(ref.whole) == []


@pytest.mark.parametrize("length", [0, 90, 100, 101, 150])
def test_no_bytes_are_there_without_asking_anybody(
    store: MemoryStore, cache: DiskCache, length: int
) -> None:
    ref = store.add_content(make_content(length))

    @in_trio
    async def run() -> None:
        async with fetching(store, FaultyCache(cache, lambda step: True)) as fetcher:
            reader = fetcher.open(ref)
            for offset in (0, length):
                assert reader.read_nowait(Extent(offset, 0)) == b""
                assert await reader.read(Extent(offset, 0)) == b""
            fetcher.close_reader(reader)

    run()
    assert store.gets == []


@in_trio
async def test_random_reads_of_a_large_object_fetch_the_units_they_touch(
    store: MemoryStore, cache: DiskCache
) -> None:
    ref = store.add_content(LARGE)
    async with fetching(store, cache) as fetcher:
        reader = fetcher.open(ref)
        assert await reader.read(Extent(85, 5)) == LARGE[85:90]
        assert [extent for _, extent in store.gets] == [Extent(80, 40)]
        assert await reader.read(Extent(149, 1)) == LARGE[149:]
        assert [extent for _, extent in store.gets][1:] == [Extent(120, 30)]
        fetcher.close_reader(reader)
        # Closed for a moment: the pieces are still there.
        assert await read(fetcher, ref, Extent(80, 70)) == LARGE[80:]
        assert len(store.gets) == 2


@in_trio
async def test_ensure_brings_in_what_is_missing_and_tells(
    store: MemoryStore, cache: DiskCache
) -> None:
    refs = [store.add_content(content, f"{len(content)}.dcm") for content in (SMALL, LARGE, b"")]
    async with fetching(store, cache) as fetcher:
        assert [await fetcher.ensure(ref) for ref in refs] == [True, True, False]
        assert [await fetcher.ensure(ref) for ref in refs] == [False, False, False]
        for ref in refs:
            assert cache.open(ref).missing(ref.whole) == []
    assert len(store.gets) == 2


@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("step", ["open", "writer", "write", "commit"])
def test_ensure_tells_that_it_could_not_keep(
    store: MemoryStore, cache: DiskCache, step: str, content: bytes
) -> None:
    ref = store.add_content(content)

    @in_trio
    async def run() -> None:
        async with fetching(store, FaultyCache(cache, step.__eq__)) as fetcher:
            with pytest.raises(CacheError, match=f"{step} fails"):
                await fetcher.ensure(ref)

    run()


@in_trio
async def test_ensure_tells_that_the_pieces_make_no_whole(
    store: MemoryStore, cache: DiskCache
) -> None:
    ref = make_ref(LARGE)
    store.add(ref, LARGE[:-1] + b"x")
    async with fetching(store, cache) as fetcher:
        with pytest.raises(IntegrityError, match=r"a\.dcm"):
            await fetcher.ensure(ref)
        assert cache.open(ref).missing(ref.whole) != []


def test_what_is_checked_later_is_checked_all_the_same(
    store: MemoryStore, cache: DiskCache, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("idcfs.cache.completion._LATER_BYTES", 100)
    right, wrong = store.add_content(LARGE), make_ref(LARGE, "b.dcm")
    store.add(wrong, LARGE[:-1] + b"x")

    async def run() -> None:
        async with fetching(store, cache) as fetcher:
            assert await read(fetcher, right) == LARGE
            await until(lambda: len(list((root / "objects").rglob("a.dcm"))) == 1)
            with pytest.raises(IntegrityError, match=r"b\.dcm"):
                await fetcher.ensure(wrong)
            assert cache.open(wrong).missing(wrong.whole) != []

    trio.run(run)


def test_ensure_brings_again_what_proves_damaged_at_the_end(
    store: MemoryStore, cache: DiskCache, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("idcfs.cache.completion._LATER_BYTES", 100)
    ref = store.add_content(LARGE)

    async def run() -> None:
        async with fetching(store, cache) as fetcher:
            await read(fetcher, ref, Extent(0, 10))
        (part,) = (root / "partial").rglob("a.dcm")
        with part.open("r+b") as file:
            file.write(bytes(10))  # as after a power cut: the table is there, the bytes are not
        async with fetching(store, cache) as fetcher:
            assert await fetcher.ensure(ref)
            assert cache.open(ref).missing(ref.whole) == []
            await until(lambda: len(list((root / "objects").rglob("a.dcm"))) == 1)

    trio.run(run)


@in_trio
async def test_a_reader_is_not_content_with_what_others_would_do_without(
    store: MemoryStore, cache: DiskCache
) -> None:
    """Again and again one who fetches ahead comes first, and the cache takes nothing."""
    ref = store.add_content(SMALL)
    faulty = FaultyCache(cache, lambda step: step == "writer")
    async with fetching(store, faulty) as fetcher:
        flights, first = fetcher._intake._flights, 10

        class Meddling:
            async def run(self, key: UnitsKey, job: Callable[[], Awaitable[Filled]]) -> Filled:
                nonlocal first
                first -= 1
                return await flights.run(key, ahead if first >= 0 else job)

        async def ahead() -> Filled:
            return Filled(None, "no room")

        fetcher._intake._flights = Meddling()  # type: ignore[assignment]  # all that is asked of it
        assert await read(fetcher, ref) == SMALL
    assert first == -1
    assert len(store.gets) == 1


@in_trio
async def test_ensure_gets_over_a_piece_that_was_wrong_once(
    store: MemoryStore, cache: DiskCache
) -> None:
    ref = store.add_content(LARGE)
    store.alter = lambda body: bytes(len(body)) if len(store.gets) == 2 else body
    async with fetching(store, cache) as fetcher:
        assert await fetcher.ensure(ref)
        assert cache.open(ref).read(ref.whole) == LARGE


@in_trio
async def test_readers_are_shared_and_a_while_later_closed(
    store: MemoryStore, cache: DiskCache
) -> None:
    many = idle.MOST + 40
    refs = [store.add_content(SMALL, f"{number}.dcm") for number in range(many)]
    async with fetching(store, cache) as fetching_:
        first, second = fetching_.open(refs[0]), fetching_.open(refs[0])
        assert first is second
        fetching_.close_reader(first)
        assert fetching_.open(refs[0]) is first
        for _ in range(2):
            fetching_.close_reader(first)
        assert fetching_.open(refs[0]) is first
        fetching_.close_reader(first)
        before = open_files(cache)
        for ref in refs:
            assert await read(fetching_, ref) == SMALL
        assert open_files(cache) - before == idle.MOST
        # The first has been idle for longest; it was closed and starts afresh.
        assert fetching_.open(refs[0]) is not first
    assert open_files(cache) == before


@in_trio
async def test_pieces_stay_when_their_reader_has_gone(store: MemoryStore, cache: DiskCache) -> None:
    many = idle.MOST + 10
    refs = [store.add_content(LARGE, f"{number}.dcm") for number in range(many)]
    async with fetching(store, cache) as fetching_:
        for ref in refs:
            await read(fetching_, ref, Extent(0, 10))
        assert open_files(cache) == idle.MOST
        store.gets.clear()
        for ref in refs:
            assert await read(fetching_, ref, Extent(5, 30)) == LARGE[5:35]
        assert store.gets == []
    assert open_files(cache) == 0


@in_trio
async def test_a_changed_object_of_the_same_key_has_a_reader_of_its_own(
    store: MemoryStore, cache: DiskCache
) -> None:
    former = store.add_content(SMALL)
    async with fetching(store, cache) as fetching_:
        await read(fetching_, former)
        changed = store.add_content(make_content(70, seed=1))
        assert await read(fetching_, changed) == make_content(70, seed=1)


def open_files(cache: DiskCache) -> int:
    """Count the open files of the cache, its lock apart."""
    root = str(cache.root)
    links = []
    for name in os.listdir("/proc/self/fd"):
        try:
            links.append(str(Path(f"/proc/self/fd/{name}").readlink()))
        except FileNotFoundError:
            continue
    return sum(link.startswith(root) and not link.endswith(("/lock", "/claims")) for link in links)


@in_trio
async def test_the_end_of_the_services_ends_transfers_and_errors_their_readers(
    store: MemoryStore, cache: DiskCache
) -> None:
    ref = store.add_content(SMALL)
    gate, failed = Gate(), list[Exception]()
    store.between_chunks = gate.hold

    async def read_all(fetcher: Fetcher, ref: ObjectRef) -> None:
        try:
            await read(fetcher, ref)
        except StoreUnavailableError as exc:
            failed.append(exc)

    async with trio.open_nursery() as readers, trio.open_nursery() as services:
        fetcher = Fetcher(store=store, cache=cache, nursery=services)
        readers.start_soon(read_all, fetcher, ref)
        await gate.arrived()
        services.cancel_scope.cancel()
        fetcher.close()
    # The end did not wait for the thread, which is held up as by a silent server.
    assert len(failed) == 1
    assert store.ended == []
    gate.open()
    await until(lambda: bool(store.ended))
    assert store.ended == ["Cancelled"]


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data(), length=st.integers(0, 200), seed=st.integers(0, 9))
def test_any_reads_are_right_whatever_the_cache_does(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, length: int, seed: int
) -> None:
    content = make_content(length, seed)
    store = MemoryStore(chunk_bytes=16)
    ref = store.add_content(content)
    random = Random(data.draw(st.integers(0, 1000)))
    chance = data.draw(st.sampled_from([0.0, 0.1, 0.5, 0.9]))
    extents = data.draw(st.lists(st.tuples(st.integers(0, length), st.integers(0, length))))
    disk = DiskCache(tmp_path_factory.mktemp("cache"))
    cache = FaultyCache(disk, lambda step: random.random() < chance)

    @in_trio
    async def run() -> None:
        async with fetching(store, cache) as fetcher:
            reader = fetcher.open(ref)

            async def read_one(extent: Extent) -> None:
                got = reader.read_nowait(extent)
                if got is None:
                    got = await reader.read(extent)
                assert got == content[extent.offset : extent.end]

            for start, end in extents:
                await read_one(Extent(min(start, end), abs(end - start)))
            async with trio.open_nursery() as reading:
                for start, end in extents:
                    reading.start_soon(read_one, Extent(min(start, end), abs(end - start)))
            fetcher.close_reader(reader)

    run()
    disk.close()


@in_trio
async def test_what_the_disk_brings_soon_is_read_without_a_thread(
    store: MemoryStore, cache: DiskCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = store.add_content(SMALL)
    looked = 0
    monkeypatch.setattr("idcfs.fetch.looking._LOOKING_S", DEADLINE_S)

    def look(held: DiskObject, extent: Extent) -> Bytes | None:
        nonlocal looked
        looked += 1
        return SMALL[extent.offset : extent.end] if looked > 3 else None

    def read_in_thread(held: DiskObject, extent: Extent) -> Bytes:
        raise AssertionError("a thread was asked")

    async with fetching(store, cache) as fetcher:
        reader = fetcher.open(ref)
        assert await reader.read(Extent(10, 5)) == SMALL[10:15]
        monkeypatch.setattr(DiskObject, "read_nowait", look)
        monkeypatch.setattr(DiskObject, "read", read_in_thread)
        assert reader.read_nowait(Extent(20, 5)) is None
        assert await reader.read(Extent(20, 5)) == SMALL[20:25]
        assert looked == 4
        fetcher.close_reader(reader)
