"""Small objects as files of the user's, received by one task."""

from __future__ import annotations

import errno
import functools
import os
import shutil
import zlib
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import pytest
import trio
import trio.testing

from idcfs.errors import IntegrityError, ObjectNotFoundError
from idcfs.fetch import Brought, Carrier, Fetcher, Limiters, unfinished
from idcfs.fetch.disk_pace import DiskPace
from idcfs.model import Checksum
from tests.support.multiplexing import MemoryMultiplexer
from tests.support.stores import MTIME_NS, MemoryStore, in_trio, make_content, make_ref

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from idcfs.cache import DiskCache

P = ParamSpec("P")
T = TypeVar("T")

CONTENT = make_content(90)


@pytest.fixture
def multiplexer(store: MemoryStore) -> Iterator[MemoryMultiplexer]:
    with MemoryMultiplexer(store) as multiplexer:
        yield multiplexer


@pytest.fixture
def there(tmp_path: Path) -> Path:
    made = tmp_path / "there"
    made.mkdir()
    return made


@asynccontextmanager
async def carrying(
    store: MemoryStore, cache: DiskCache, multiplexer: MemoryMultiplexer, *, at_once: int = 8
) -> AsyncIterator[Fetcher]:
    """Give a fetcher with a carrier, which must be alive afterwards."""
    carrier = Carrier(multiplexer)
    limiters = Limiters(objects=trio.CapacityLimiter(at_once))
    async with trio.open_nursery() as services:
        services.start_soon(carrier.run)
        fetcher = Fetcher(
            store=store, cache=cache, nursery=services, limiters=limiters, carrier=carrier
        )
        yield fetcher
        assert not services.cancel_scope.cancel_called
        assert not limiters.objects.borrowed_tokens
        assert not multiplexer.closed
        services.cancel_scope.cancel()
        fetcher.close()
    assert multiplexer.closed


def absent() -> bool:
    return True


@in_trio
async def test_a_small_object_that_is_not_there_is_carried(
    store: MemoryStore, cache: DiskCache, multiplexer: MemoryMultiplexer, there: Path
) -> None:
    ref = store.add_content(CONTENT)
    async with carrying(store, cache, multiplexer) as fetcher:
        brought = await fetcher.download(ref, there / "a.dcm", is_absent=absent)
    assert brought == Brought(True, Checksum("md5", bytes.fromhex(ref.instance.etag)))
    assert (multiplexer.begun, store.gets) == ([ref.key], [])
    assert (there / "a.dcm").read_bytes() == CONTENT
    assert (there / "a.dcm").stat().st_mtime_ns == MTIME_NS
    assert os.listdir(there) == ["a.dcm"]


@in_trio
async def test_whatever_else_is_not_carried(
    store: MemoryStore, cache: DiskCache, multiplexer: MemoryMultiplexer, there: Path
) -> None:
    empty, large = store.add_content(b"", "empty"), store.add_content(make_content(1000), "large")
    small, here = store.add_content(CONTENT, "small"), Brought(False, None)
    async with carrying(store, cache, multiplexer) as fetcher:
        for ref in (empty, large):
            await fetcher.download(ref, there / ref.instance.name, is_absent=absent)
        # What may be there is looked for in a thread.
        await fetcher.download(small, there / "small")
        found = await fetcher.download(small, there / "small", find_present=lambda: here)
    assert found is here
    assert multiplexer.begun == []
    assert sorted(os.listdir(there)) == ["empty", "large", "small"]


@pytest.mark.parametrize("is_idle", [True, False])
def test_what_cannot_be_carried_comes_as_it_did(
    store: MemoryStore,
    cache: DiskCache,
    multiplexer: MemoryMultiplexer,
    there: Path,
    is_idle: bool,
) -> None:
    ref = store.add_content(CONTENT)
    multiplexer.is_idle = is_idle
    multiplexer.breaks.add(ref.key)

    @in_trio
    async def run() -> None:
        async with carrying(store, cache, multiplexer) as fetcher:
            brought = await fetcher.download(ref, there / "a.dcm", is_absent=absent)
            assert brought.fetched

    run()
    assert store.gets == [(ref.key, ref.whole)]
    assert (there / "a.dcm").read_bytes() == CONTENT
    assert os.listdir(there) == ["a.dcm"]


@in_trio
async def test_what_is_told_is_what_the_ordinary_way_meets(
    store: MemoryStore, cache: DiskCache, multiplexer: MemoryMultiplexer, there: Path
) -> None:
    ref = store.add_content(CONTENT)
    multiplexer.breaks.add(ref.key)

    def refuse(*_: object) -> None:
        raise ObjectNotFoundError("refused")

    store.on_get = refuse
    async with carrying(store, cache, multiplexer) as fetcher:
        with pytest.raises(ObjectNotFoundError, match="refused") as caught:
            await fetcher.download(ref, there / "a.dcm", is_absent=absent)
    assert caught.value.__context__ is None
    assert os.listdir(there) == []


@in_trio
async def test_cancelling_hangs_up_and_leaves_nothing(
    store: MemoryStore, cache: DiskCache, multiplexer: MemoryMultiplexer, there: Path
) -> None:
    refs = [store.add_content(CONTENT, name) for name in ("a.dcm", "b.dcm")]
    multiplexer.held = True
    async with carrying(store, cache, multiplexer) as fetcher, trio.open_nursery() as downloading:
        scope = trio.CancelScope()

        async def download_and_stop() -> None:
            with scope:
                await fetcher.download(refs[0], there / "a.dcm", is_absent=absent)

        downloading.start_soon(download_and_stop)
        downloading.start_soon(
            functools.partial(fetcher.download, refs[1], there / "b.dcm", is_absent=absent)
        )
        await multiplexer.has_halves(2)
        scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        assert multiplexer.dropped == [refs[0].key]
        assert not any("a.dcm" in name for name in os.listdir(there))
        multiplexer.go_on()
    assert multiplexer.dropped == [refs[0].key]
    assert os.listdir(there) == ["b.dcm"]
    assert store.gets == []


@in_trio
async def test_what_is_cancelled_when_it_has_come_is_hung_up_by_nobody(
    store: MemoryStore, cache: DiskCache, multiplexer: MemoryMultiplexer, there: Path
) -> None:
    ref = store.add_content(CONTENT)
    multiplexer.held = True
    async with carrying(store, cache, multiplexer) as fetcher, trio.open_nursery() as downloading:
        downloading.start_soon(
            functools.partial(fetcher.download, ref, there / "a.dcm", is_absent=absent)
        )
        await multiplexer.has_halves(1)
        multiplexer.held = False
        os.eventfd_write(multiplexer.fileno(), 1)
        multiplexer.turn()
        downloading.cancel_scope.cancel()
    assert multiplexer.dropped == []
    assert os.listdir(there) == ["a.dcm"]


@in_trio
async def test_what_was_cancelled_before_is_not_waited_for(
    store: MemoryStore, cache: DiskCache, multiplexer: MemoryMultiplexer, there: Path
) -> None:
    ref = store.add_content(CONTENT)
    async with carrying(store, cache, multiplexer) as fetcher:
        with trio.CancelScope() as scope:
            scope.cancel()
            await fetcher.download(ref, there / "a.dcm", is_absent=absent)
        assert scope.cancelled_caught
    assert multiplexer.dropped == multiplexer.begun
    assert os.listdir(there) == []


@pytest.mark.parametrize("wrong", [2, 3])
@pytest.mark.parametrize("by_checksum", [True, False])
def test_what_was_not_promised_is_asked_for_again(
    store: MemoryStore,
    cache: DiskCache,
    multiplexer: MemoryMultiplexer,
    there: Path,
    wrong: int,
    by_checksum: bool,
) -> None:
    ref = make_ref(CONTENT, etag="no-md5") if by_checksum else make_ref(CONTENT)
    store.add(ref, CONTENT)
    if by_checksum:
        crc = zlib.crc32(CONTENT).to_bytes(4, "big")
        store.checksums[ref.key] = Checksum("crc32", crc)
    store.alter = lambda body: b"?" + body[1:] if len(multiplexer.begun) <= wrong else body

    @in_trio
    async def run() -> None:
        async with carrying(store, cache, multiplexer) as fetcher:
            download = functools.partial(fetcher.download, ref, there / "a.dcm", is_absent=absent)
            if wrong < 3:
                await download()
            else:
                with pytest.raises(IntegrityError, match="CRC32" if by_checksum else "MD5"):
                    await download()

    run()
    assert (len(multiplexer.begun), store.gets) == (3, [])
    assert os.listdir(there) == ([] if wrong == 3 else ["a.dcm"])


@in_trio
async def test_a_wrong_byte_passes_where_the_length_will_do(
    store: MemoryStore, cache: DiskCache, multiplexer: MemoryMultiplexer, there: Path
) -> None:
    ref = store.add_content(CONTENT)
    store.alter = lambda body: b"?" + body[1:]
    async with carrying(store, cache, multiplexer) as fetcher:
        brought = await fetcher.download(
            ref, there / "a.dcm", is_absent=absent, verify_content=False
        )
    assert brought == Brought(True, None)
    assert (there / "a.dcm").read_bytes() == b"?" + CONTENT[1:]


@in_trio
async def test_a_full_disk_is_told_and_leaves_nothing(
    store: MemoryStore,
    cache: DiskCache,
    multiplexer: MemoryMultiplexer,
    there: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    full, other = store.add_content(CONTENT, "full.dcm"), store.add_content(CONTENT, "other.dcm")
    multiplexer.held = True
    async with carrying(store, cache, multiplexer) as fetcher:
        with monkeypatch.context() as patch:
            fail = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

            def write(*_: object) -> int:
                raise fail

            patch.setattr("idcfs.fetch.download.os.write", write)
            with pytest.raises(OSError, match="No space left") as caught:
                await fetcher.download(full, there / "full.dcm", is_absent=absent)
            assert caught.value is fail
        multiplexer.go_on()
        await fetcher.download(other, there / "other.dcm", is_absent=absent)
    assert os.listdir(there) == ["other.dcm"]
    assert store.gets == []


@pytest.mark.parametrize("is_removed_meanwhile", [True, False])
def test_a_directory_that_is_gone_is_told(
    store: MemoryStore,
    cache: DiskCache,
    multiplexer: MemoryMultiplexer,
    there: Path,
    is_removed_meanwhile: bool,
) -> None:
    ref = store.add_content(CONTENT)

    @in_trio
    async def run() -> None:
        async with carrying(store, cache, multiplexer) as fetcher, trio.open_nursery() as nursery:
            multiplexer.held = is_removed_meanwhile
            if not is_removed_meanwhile:
                shutil.rmtree(there)

            async def download() -> None:
                with pytest.raises(FileNotFoundError):
                    await fetcher.download(ref, there / "a.dcm", is_absent=absent)

            nursery.start_soon(download)
            if is_removed_meanwhile:
                await multiplexer.has_halves(1)
                shutil.rmtree(there)
                multiplexer.go_on()

    run()
    assert not there.exists()


@in_trio
async def test_no_more_are_asked_for_at_once_than_transfers_may_be(
    store: MemoryStore, cache: DiskCache, multiplexer: MemoryMultiplexer, there: Path
) -> None:
    refs = [store.add_content(CONTENT, f"{n}.dcm") for n in range(9)]
    async with (
        carrying(store, cache, multiplexer, at_once=3) as fetcher,
        trio.open_nursery() as downloading,
    ):
        for ref in refs:
            downloading.start_soon(
                functools.partial(
                    fetcher.download, ref, there / ref.instance.name, is_absent=absent
                )
            )
    assert multiplexer.most_under_way == 3
    assert len(os.listdir(there)) == len(multiplexer.begun) == 9


# Disks that are slow


def test_a_disk_is_slow_when_no_file_was_quick() -> None:
    now_s = 0.0
    pace = DiskPace(clock=lambda: now_s)

    def note(*waits_s: float, size_bytes: int = 0) -> bool:
        for waited_s in waits_s:
            pace.note(waited_s, size_bytes)
        return pace.is_quick

    assert pace.is_quick
    assert note(*[0.1] * 15, 0.0009)
    assert note(0.0009, *[0.1] * 15)
    assert note(*[0.002] * 16, size_bytes=1_000_000)  # so much takes a while anywhere
    assert note(*[0.1] * 15)
    assert not note(0.0011)
    now_s = 59.9
    assert not note()
    now_s = 60.0
    assert note(*[0.002] * 15)
    assert not note(0.002)


@pytest.mark.parametrize("slow", ["_claim", "_rename", "write", "network", None])
def test_what_goes_to_a_slow_disk_is_left_to_threads(
    store: MemoryStore,
    cache: DiskCache,
    multiplexer: MemoryMultiplexer,
    there: Path,
    monkeypatch: pytest.MonkeyPatch,
    slow: str | None,
) -> None:
    refs = [store.add_content(CONTENT, f"{n}.dcm") for n in range(20)]
    now_s = 0.0

    def slowly(former: Callable[P, T]) -> Callable[P, T]:
        def run(*args: P.args, **kwargs: P.kwargs) -> T:
            nonlocal now_s
            now_s += 0.002
            return former(*args, **kwargs)

        return run

    monkeypatch.setattr("idcfs.fetch.download.time.perf_counter", lambda: now_s)
    if slow == "network":
        monkeypatch.setattr(multiplexer, "turn", slowly(multiplexer.turn))
    elif slow == "write":
        monkeypatch.setattr("idcfs.fetch.download.os.write", slowly(os.write))
    elif slow:
        monkeypatch.setattr(unfinished, slow, slowly(getattr(unfinished, slow)))

    @in_trio
    async def run() -> None:
        async with carrying(store, cache, multiplexer) as fetcher:
            for ref in refs:
                await fetcher.download(ref, there / ref.instance.name, is_absent=absent)

    run()
    is_disk = slow not in (None, "network")
    assert len(multiplexer.begun) == (16 if is_disk else 20)
    assert len(store.gets) == (4 if is_disk else 0)
    assert len(os.listdir(there)) == 20


@in_trio
async def test_nothing_is_made_on_the_loop_where_no_connection_is_idle(
    store: MemoryStore, cache: DiskCache, multiplexer: MemoryMultiplexer, there: Path
) -> None:
    multiplexer.is_idle = False
    ref = store.add_content(CONTENT)

    def is_absent() -> bool:
        raise AssertionError("the disk was asked")

    async with carrying(store, cache, multiplexer) as fetcher:
        await fetcher.download(ref, there / "a.dcm", is_absent=is_absent)
    assert (there / "a.dcm").read_bytes() == CONTENT
    assert not multiplexer.begun


def test_what_does_not_come_is_looked_for_again_and_again(
    store: MemoryStore, multiplexer: MemoryMultiplexer
) -> None:
    async def run() -> None:
        with trio.move_on_after(10.5):
            await Carrier(multiplexer).run()

    trio.run(run, clock=trio.testing.MockClock(autojump_threshold=0))
    assert multiplexer.expired == 10
    assert multiplexer.closed
