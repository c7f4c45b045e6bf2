"""The cache filled by one thread: what it brings, and whom it leaves the rest to."""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from contextlib import closing
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from idcfs.cache import ContentCheck, DiskCache
from idcfs.cache.objects import DiskObject
from idcfs.errors import IntegrityError
from idcfs.fetch import filler
from idcfs.model import Extent
from tests.support.caches import FaultyCache
from tests.support.mounting import wait_until
from tests.support.multiplexing import MemoryMultiplexer
from tests.support.stores import Gate, MemoryStore, in_trio, make_content, make_ref
from tests.support.threads import no_threads
from tests.unit.fetch.wired import fetching, read

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from idcfs.model import ObjectRef

SMALL = make_content(90)
LARGE = make_content(1000)
STEPS = ["writer", "write", "commit"]


@pytest.fixture
def multiplexer(store: MemoryStore) -> Iterator[MemoryMultiplexer]:
    with MemoryMultiplexer(store) as multiplexer:
        store.multiplexer = multiplexer
        yield multiplexer


def leavings(root: Path) -> list[Path]:
    """Return the files of transfers that have not ended."""
    return [path for path in root.glob("scratch/*/*") if path.name != "lock"]


def nothing_is_left(root: Path) -> None:
    """Assert that transfers leave nothing, those neither that were given up with their reader.

    Nobody waits for the thread of such a one, which may be about to give a file its name.
    """
    wait_until(lambda: not leavings(root), "all transfers have ended", 10.0)


async def until_many(noted: list[str], count: int) -> None:
    while len(noted) < count:  # noqa: ASYNC110  # by a thread, which sets no trio.Event
        await trio.sleep(0.001)


@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["small", "large"])
@in_trio
async def test_it_brings_what_is_read(
    store: MemoryStore, cache: DiskCache, multiplexer: MemoryMultiplexer, content: bytes
) -> None:
    ref = store.add_content(content)
    async with fetching(store, cache, fills_together=True) as fetcher:
        assert await read(fetcher, ref) == content
        assert await read(fetcher, ref) == content
    assert not store.gets
    assert len(multiplexer.begun) == len(set(range(0, len(content), 160)))
    assert multiplexer.closed
    async with fetching(MemoryStore(), cache) as fetcher:
        assert await read(fetcher, ref) == content


@in_trio
async def test_many_readers_of_many_objects_have_their_bytes(
    store: MemoryStore, cache: DiskCache, multiplexer: MemoryMultiplexer
) -> None:
    contents = [make_content(60 + n, n) for n in range(50)]
    refs = [store.add_content(content, f"{n}.dcm") for n, content in enumerate(contents)]
    async with fetching(store, cache, fills_together=True) as fetcher:

        async def read_all(first: int) -> None:
            for n in [*range(first, 50), *range(first)]:
                assert await read(fetcher, refs[n]) == contents[n]

        async with trio.open_nursery() as readers:
            for first in range(0, 50, 7):
                readers.start_soon(read_all, first)
    assert sorted(multiplexer.begun) == sorted(ref.key for ref in refs)
    assert not store.gets


@in_trio
async def test_others_bring_what_it_cannot(
    store: MemoryStore, cache: DiskCache, multiplexer: MemoryMultiplexer, root: Path
) -> None:
    multiplexer.is_idle = False
    ref, broken = store.add_content(SMALL), store.add_content(LARGE, "b.dcm")
    multiplexer.breaks.add(broken.key)
    async with fetching(store, cache, fills_together=True) as fetcher:
        assert await read(fetcher, ref) == SMALL
        assert not multiplexer.begun
        multiplexer.is_idle = True
        assert await read(fetcher, broken) == LARGE
        assert multiplexer.begun
    assert {key for key, _ in store.gets} == {ref.key, broken.key}
    nothing_is_left(root)


@in_trio
async def test_a_store_without_a_multiplexer_is_asked_otherwise(
    store: MemoryStore, cache: DiskCache
) -> None:
    ref = store.add_content(SMALL)
    async with fetching(store, cache, fills_together=True) as fetcher:
        assert await read(fetcher, ref) == SMALL
        assert await read(fetcher, store.add_content(LARGE, "b.dcm")) == LARGE


@in_trio
async def test_while_no_thread_is_to_be_had_others_bring_it(
    store: MemoryStore, cache: DiskCache, multiplexer: MemoryMultiplexer
) -> None:
    refs = [store.add_content(SMALL, f"{number}.dcm") for number in range(3)]
    async with fetching(store, cache, fills_together=True) as fetcher:
        with no_threads("filler") as refused:
            for ref in refs[:2]:
                assert await read(fetcher, ref) == SMALL
        assert len(store.gets) == 2
        assert refused == ["filler"] * 2
        assert await read(fetcher, refs[2]) == SMALL
    assert len(store.gets) == 2
    assert multiplexer.closed


@in_trio
async def test_wrong_bytes_are_asked_for_again_and_never_kept(
    store: MemoryStore, cache: DiskCache, multiplexer: MemoryMultiplexer, root: Path
) -> None:
    ref = store.add_content(SMALL)
    store.alter = lambda body: body[:-1] + b"?"
    async with fetching(store, cache, fills_together=True) as fetcher:
        with pytest.raises(IntegrityError):
            await read(fetcher, ref)
        assert len(multiplexer.begun) == 3
        store.alter = lambda body: body
        assert await read(fetcher, ref) == SMALL
    assert not leavings(root)


@in_trio
async def test_who_is_cancelled_waits_for_nothing_and_the_next_begins_anew(
    store: MemoryStore, cache: DiskCache, multiplexer: MemoryMultiplexer, root: Path
) -> None:
    ref = store.add_content(SMALL)
    multiplexer.held = True
    async with fetching(store, cache, fills_together=True) as fetcher:
        async with trio.open_nursery() as readers:
            readers.start_soon(read, fetcher, ref)
            await until_many(multiplexer.begun, 1)
            readers.cancel_scope.cancel()
        await until_many(multiplexer.dropped, 1)
        multiplexer.held = False
        assert await read(fetcher, ref) == SMALL
    assert multiplexer.dropped == [ref.key]
    assert len(multiplexer.begun) + len(store.gets) == 2
    assert not leavings(root)


@pytest.mark.parametrize("step", STEPS)
@in_trio
async def test_a_cache_that_fails_costs_time_only(
    store: MemoryStore, root: Path, multiplexer: MemoryMultiplexer, step: str
) -> None:
    ref = store.add_content(SMALL)
    cache = FaultyCache(DiskCache(root), lambda taken: taken == step)
    async with fetching(store, cache, fills_together=True) as fetcher:
        assert await read(fetcher, ref) == SMALL
    assert not leavings(root)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.booleans(), max_size=30),
    st.sets(st.sampled_from(range(6))),
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 999), st.integers(1, 400)), max_size=12),
)
def test_whatever_fails_readers_have_their_bytes(
    tmp_path_factory: pytest.TempPathFactory,
    failing: list[bool],
    breaking: set[int],
    reads: list[tuple[int, int, int]],
) -> None:
    store = MemoryStore(chunk_bytes=16)
    contents = [make_content(1000 if n % 2 else 90, n) for n in range(6)]
    refs = [store.add_content(content, f"{n}.dcm") for n, content in enumerate(contents)]
    root = tmp_path_factory.mktemp("cache") / "root"
    faults = iter(failing)
    with closing(DiskCache(root)) as disk, MemoryMultiplexer(store) as multiplexer:
        store.multiplexer = multiplexer
        multiplexer.breaks |= {refs[n].key for n in breaking}
        cache = FaultyCache(disk, lambda step: step in STEPS and next(faults, False))

        @in_trio
        async def run() -> None:
            async with (
                fetching(store, cache, fills_together=True) as fetcher,
                trio.open_nursery() as readers,
            ):
                for n, offset, length in reads:
                    extent = clipped(refs[n], offset, length)
                    readers.start_soon(read_some, n, extent, fetcher)

        async def read_some(n: int, extent: Extent, fetcher: object) -> None:
            content = await read(fetcher, refs[n], extent)  # type: ignore[arg-type]  # the Fetcher
            assert content == contents[n][extent.offset : extent.end]

        run()
        nothing_is_left(root)


def clipped(ref: ObjectRef, offset: int, length: int) -> Extent:
    size = ref.instance.size_bytes
    start = min(offset, size - 1)
    return Extent(start, min(length, size - start))


@in_trio
async def test_it_waits_for_no_other_process(
    store: MemoryStore, cache: DiskCache, root: Path, multiplexer: MemoryMultiplexer
) -> None:
    ref, other = store.add_content(SMALL), store.add_content(LARGE, "b.dcm")
    with closing(DiskCache(root)) as elsewhere:
        writer = elsewhere.open(ref).writer(ref.whole)
        assert writer is not None
        async with (
            fetching(store, cache, fills_together=True) as fetcher,
            trio.open_nursery() as readers,
        ):
            readers.start_soon(read, fetcher, ref)
            assert await read(fetcher, other) == LARGE  # while the first one waits
            writer.write(memoryview(SMALL))
            writer.commit()
    assert ref.key not in multiplexer.begun
    assert ref.key not in dict(store.gets)


@pytest.mark.parametrize("etag", ["0123-2", None], ids=["in parts", "md5"])
@in_trio
async def test_it_does_not_hold_up_others_to_check_a_whole(
    cache: DiskCache, multiplexer: MemoryMultiplexer, store: MemoryStore, etag: str | None
) -> None:
    slow, other = make_ref(LARGE, etag=etag), store.add_content(SMALL, "b.dcm")
    store.add(slow, LARGE)
    gate = Gate()
    checks = 0

    def hold(check: ContentCheck, find_checksums: object) -> None:
        nonlocal checks
        checks += 1
        gate.hold()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ContentCheck, "ask", hold)
        async with (
            fetching(store, cache, fills_together=True) as fetcher,
            trio.open_nursery() as readers,
        ):
            readers.start_soon(read, fetcher, slow)
            await gate.arrived()
            assert await read(fetcher, other) == SMALL
            gate.open()
    assert checks == 1
    assert not store.gets


@in_trio
async def test_what_is_under_way_at_the_end_leaves_nothing(
    store: MemoryStore, cache: DiskCache, root: Path, multiplexer: MemoryMultiplexer
) -> None:
    refs = [store.add_content(SMALL, f"{n}.dcm") for n in range(3)]
    multiplexer.held = True
    async with (
        trio.open_nursery() as readers,
        fetching(store, cache, fills_together=True) as fetcher,
    ):
        for ref in refs:
            readers.start_soon(read, fetcher, ref)
        await until_many(multiplexer.begun, 3)
        readers.cancel_scope.cancel()
    assert sorted(multiplexer.dropped) == sorted(ref.key for ref in refs)
    assert multiplexer.closed
    assert not leavings(root)


@in_trio
async def test_who_comes_while_it_has_long_waited_for_the_disk_goes_otherwise(
    store: MemoryStore,
    cache: DiskCache,
    multiplexer: MemoryMultiplexer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slow, soon, late = (store.add_content(SMALL, name) for name in ("a.dcm", "b.dcm", "c.dcm"))
    gate, former, now_s = Gate(), DiskObject.writer, 0.0
    asked_s: list[float] = []

    def monotonic() -> float:
        asked_s.append(now_s)
        return now_s

    def writer(target: DiskObject, *args: object, waits: bool = True, **further: object) -> object:
        if not waits and target._ref == slow:
            gate.hold()
        return former(target, *args, waits=waits, **further)  # type: ignore[arg-type]  # passed on

    monkeypatch.setattr(DiskObject, "writer", writer)
    monkeypatch.setattr(filler, "time", SimpleNamespace(monotonic=monotonic))
    async with (
        fetching(store, cache, fills_together=True) as fetcher,
        trio.open_nursery() as readers,
    ):
        readers.start_soon(read, fetcher, slow)
        await gate.arrived()
        now_s = 0.9
        readers.start_soon(read, fetcher, soon)
        while 0.9 not in asked_s:  # noqa: ASYNC110  # when it is decided where it goes
            await trio.sleep(0.001)
        now_s = 1.1
        assert await read(fetcher, late) == SMALL
        gate.open()
    assert list(dict(store.gets)) == [late.key]
    assert sorted(multiplexer.begun) == [slow.key, soon.key]


@in_trio
async def test_while_it_has_nothing_to_do_it_does_not_wait_for_the_disk(
    store: MemoryStore,
    cache: DiskCache,
    multiplexer: MemoryMultiplexer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now_s = 0.0
    monkeypatch.setattr(filler, "time", SimpleNamespace(monotonic=lambda: now_s))
    async with fetching(store, cache, fills_together=True) as fetcher:
        await read(fetcher, store.add_content(SMALL))
        while len(multiplexer.begun) < 2:  # it may not have come to rest yet
            now_s += 100
            await read(fetcher, store.add_content(SMALL, f"{now_s}.dcm"))


@in_trio
async def test_a_bug_in_the_thread_is_told_and_costs_time_only(
    store: MemoryStore,
    cache: DiskCache,
    multiplexer: MemoryMultiplexer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def turn() -> None:
        raise ZeroDivisionError("in a turn")

    monkeypatch.setattr(multiplexer, "turn", turn)
    ref = store.add_content(SMALL)
    async with fetching(store, cache, fills_together=True) as fetcher:
        assert await read(fetcher, ref) == SMALL
        assert await read(fetcher, store.add_content(LARGE, "b.dcm")) == LARGE
    (record,) = [each for each in caplog.records if each.levelno >= logging.WARNING]
    assert "bug" in record.message
    caplog.clear()


@in_trio
async def test_turned_away_by_two_threads_at_once_nobody_waits_for_ever(
    store: MemoryStore, cache: DiskCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes, met = threading.Event(), threading.Barrier(2, timeout=10)
    turned_away = threading.Event()

    class Orders(deque[object]):
        def append(self, order: object) -> None:
            super().append(order)
            if len(self) == 2:  # the thread ends now, while this one has not looked whether it did
                goes.set()
                assert turned_away.wait(10)

    class News(deque[object]):
        def append(self, news: object) -> None:
            super().append(news)
            turned_away.set()
            met.wait()

    made = iter([Orders, News])
    monkeypatch.setattr(filler, "deque", lambda: next(made)())
    monkeypatch.setattr(store, "find_multiplexer", lambda: goes.wait(10) and None)
    refs = [store.add_content(SMALL, f"{n}.dcm") for n in range(2)]
    async with (
        fetching(store, cache, fills_together=True) as fetcher,
        trio.open_nursery() as readers,
    ):
        for ref in refs:
            readers.start_soon(read, fetcher, ref)
    assert len(store.gets) == 2


@in_trio
async def test_a_disk_that_does_not_answer_does_not_hold_up_the_end(
    store: MemoryStore,
    root: Path,
    multiplexer: MemoryMultiplexer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(filler, "_ENDS_WITHIN_S", 0.01)
    gate, ref = Gate(), store.add_content(SMALL)
    stuck: list[threading.Thread] = []

    def hang(step: str) -> bool:
        if step == "write":
            stuck.append(threading.current_thread())
            gate.hold()
        return False

    cache = FaultyCache(DiskCache(root), hang)
    async with (
        trio.open_nursery() as readers,
        fetching(store, cache, fills_together=True) as fetcher,
    ):
        readers.start_soon(read, fetcher, ref)
        await gate.arrived()
        readers.cancel_scope.cancel()
    (thread,) = stuck
    assert thread.is_alive()
    gate.open()
    thread.join(10)
    assert multiplexer.closed
    assert not leavings(root)


def test_no_descriptor_is_left(
    store: MemoryStore, cache: DiskCache, multiplexer: MemoryMultiplexer
) -> None:
    @in_trio
    async def run() -> None:
        ref = store.add_content(SMALL, f"{len(store.objects)}.dcm")
        async with fetching(store, cache, fills_together=True) as fetcher:
            await read(fetcher, ref)

    run()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        run()
    assert len(multiplexer.begun) == 4
    assert len(os.listdir("/proc/self/fd")) <= before
