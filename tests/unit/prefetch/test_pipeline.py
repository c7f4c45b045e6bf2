"""Prefetch over a store in memory: what it brings, what it leaves, what it says of the rest."""

from __future__ import annotations

import dataclasses
import errno
import fcntl
import hashlib
import logging
import os
import shutil
import signal
import threading
import time
import zlib
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from idcfs.cache import DiskCache, units
from idcfs.cli.prefetch_figures import sum_up_fetched
from idcfs.errors import AccessDeniedError, ObjectNotFoundError, StoreUnavailableError
from idcfs.fetch import streams
from idcfs.fetch.units import Filled, fill_units
from idcfs.model import Checksum, Extent
from idcfs.prefetch.concurrency import Concurrency
from idcfs.prefetch.job import prefetch
from idcfs.prefetch.metered import MeteredStore
from idcfs.prefetch.outcome import Ending, Outcome
from idcfs.prefetch.patience import NO_PATIENCE, PatiencePolicy
from idcfs.prefetch.space import Space, measure, room_bytes
from idcfs.prefetch.targets import CacheTarget, DirectoryTarget, Target, Verify
from tests.support.mounting import wait_until
from tests.support.multiplexing import MemoryMultiplexer
from tests.support.stores import (
    MTIME_NS,
    Gate,
    MemoryStore,
    in_trio,
    make_content,
    make_ref,
    make_series,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from idcfs.cache import CachedObject
    from idcfs.model import ObjectRef, Series
    from idcfs.store import ObjectStore, Sink


@dataclass
class Bench:
    """A store, a cache and a download directory, and prefetches between them."""

    base: Path
    store: MemoryStore = field(default_factory=MemoryStore)
    verify: Verify = Verify.LENGTH
    policy: PatiencePolicy = NO_PATIENCE
    observed: list[tuple[int, int, int]] = field(default_factory=list)
    endings: list[Ending] = field(default_factory=list)
    outcome: Outcome = field(default_factory=lambda: Outcome(0, 0))

    @property
    def root(self) -> Path:
        return self.base / "download"

    async def run(
        self, placed: list[tuple[Series, str]], *, into_cache: bool = False, jobs: int = 4
    ) -> Outcome:
        files = sum(series.instance_count or 0 for series, _ in placed)
        outcome = Outcome(files, sum(series.size_bytes for series, _ in placed))
        self.outcome = outcome
        cache = DiskCache(self.base / "cache")
        disk = trio.CapacityLimiter(4)
        target: Target = DirectoryTarget(self.root, cache, verify=self.verify, disk=disk)
        if into_cache:
            target = CacheTarget(cache, verify=self.verify, disk=disk)
        try:
            await prefetch(
                iter(placed),
                meter=MeteredStore(self.store),
                cache=cache,
                target=target,
                outcome=outcome,
                observe=lambda o, n: self.observed.append((o.done_files, o.done_bytes, n)),
                note=self.endings.append,
                concurrency=Concurrency.fixed(jobs),
                patience_policy=self.policy,
            )
        finally:
            cache.close()
        return outcome

    def files(self) -> dict[str, bytes]:
        """Return every file of the download directory, hidden ones too, by path."""
        return {
            str(path.relative_to(self.root)): path.read_bytes()
            for path in self.root.rglob("*")
            if path.is_file()
        }


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def contents(bench: Bench, series: int, count: int = 3, length: int = 1000) -> dict[str, bytes]:
    """Put a series of `count` files into the store and return them."""
    made = {f"{n}.dcm": make_content(length + n, seed=series * 100 + n) for n in range(count)}
    for name, content in made.items():
        bench.store.add_content(content, name, series=series)
    return made


@pytest.mark.parametrize("into_cache", [False, True])
@in_trio
async def test_what_goes_into_the_cache_has_nobody_receive_files(
    bench: Bench, into_cache: bool
) -> None:
    """Also where no thread fills it, as that of several hosts."""
    with MemoryMultiplexer(bench.store) as multiplexer:
        bench.store.multiplexer = multiplexer
        contents(bench, 1)
        outcome = await bench.run([(make_series(1, count=3), "a")], into_cache=into_cache)
        assert outcome.fetched_files == 3
        assert multiplexer.closed == (not into_cache), "it was made, and so it is closed"
        assert len(multiplexer.begun) == (0 if into_cache else 3)


@in_trio
async def test_files_go_where_the_template_puts_them(bench: Bench) -> None:
    first, second = contents(bench, 1), contents(bench, 2, count=2)
    outcome = await bench.run([(make_series(1, count=3), "a/b"), (make_series(2, count=2), "a/c")])
    assert outcome.is_complete
    assert bench.files() == {
        **{f"a/b/{name}": content for name, content in first.items()},
        **{f"a/c/{name}": content for name, content in second.items()},
    }
    assert (outcome.fetched_files, outcome.present_files) == (5, 0)
    assert outcome.total_files == 5
    assert outcome.fetched_bytes == outcome.total_bytes == sum(map(len, bench.files().values()))
    assert bench.observed[-1] == (5, outcome.total_bytes, 0)
    assert {(each.place, each.told, each.checksum) for each in bench.endings} == {
        (str(bench.root / path), "fetched", None) for path in bench.files()
    }


@in_trio
async def test_what_is_there_and_right_is_left_alone(bench: Bench) -> None:
    made = contents(bench, 1)
    placed = [(make_series(1, count=3), "d")]
    await bench.run(placed)
    (bench.root / "d/0.dcm").write_bytes(b"another length")
    (bench.root / "d/1.dcm").write_bytes(bytes(len(made["1.dcm"])))
    bench.store.gets.clear()
    outcome = await bench.run(placed)
    assert (outcome.fetched_files, outcome.present_files) == (1, 2)
    assert bench.files()["d/0.dcm"] == made["0.dcm"]
    bench.verify = Verify.FULL
    outcome = await bench.run(placed)
    assert (outcome.fetched_files, outcome.present_files) == (1, 2)
    assert bench.files() == {f"d/{name}": content for name, content in made.items()}
    assert len(bench.store.gets) == 2
    verified = {each.place: each.checksum and each.checksum.value for each in bench.endings[-3:]}
    assert verified == {
        str(bench.root / "d" / name): hashlib.md5(content).digest()
        for name, content in made.items()
    }


@in_trio
async def test_what_has_no_md5_is_held_against_what_the_store_keeps(bench: Bench) -> None:
    content = make_content(1000)
    ref = make_ref(content, etag="abc-2")  # uploaded in parts
    bench.store.add(ref, content)
    crc = Checksum("crc32", zlib.crc32(content).to_bytes(4, "big"))
    bench.store.checksums[ref.key] = crc
    placed = [(make_series(1), "d")]
    bench.verify = Verify.FULL
    await bench.run(placed)
    await bench.run(placed)
    assert [(each.told, each.checksum) for each in bench.endings] == [
        ("fetched", crc),
        ("present", crc),
    ]
    (bench.root / "d/a.dcm").write_bytes(bytes(1000))
    outcome = await bench.run(placed)
    assert bench.endings[-1].told == "replaced"
    assert (outcome.fetched_files, outcome.replaced_files) == (1, 1)
    assert bench.files() == {"d/a.dcm": content}


@in_trio
async def test_the_cache_is_filled_once_and_mended(bench: Bench) -> None:
    made = contents(bench, 1)
    placed = [(make_series(1, count=3), "d")]
    assert (await bench.run(placed, into_cache=True)).fetched_files == 3
    assert (await bench.run(placed, into_cache=True)).present_files == 3
    (damaged,) = (bench.base / "cache/objects").rglob("1.dcm")
    damaged.write_bytes(bytes(len(made["1.dcm"])))
    bench.verify = Verify.FULL
    assert (await bench.run(placed, into_cache=True)).fetched_files == 1
    assert damaged.read_bytes() == made["1.dcm"]
    assert len(bench.store.gets) == 4
    assert len(bench.store.lists) == 1
    assert not bench.root.exists()


@in_trio
async def test_what_the_cache_holds_is_copied_from_it_and_not_fetched(bench: Bench) -> None:
    made = contents(bench, 1)
    large = make_content(9 << 20)  # comes by several requests
    bench.store.add_content(large, "large.dcm", series=1)
    placed = [(make_series(1, count=4), "d")]
    await bench.run(placed, into_cache=True)
    bench.store.gets.clear()
    (damaged,) = (bench.base / "cache/objects").rglob("1.dcm")
    damaged.write_bytes(bytes(len(made["1.dcm"])))
    bench.verify = Verify.FULL
    outcome = await bench.run(placed)
    assert bench.files() == {f"d/{name}": content for name, content in made.items()} | {
        "d/large.dcm": large
    }
    assert (outcome.fetched_files, outcome.copied_files, outcome.present_files) == (1, 3, 0)
    told = (
        "1 files fetched (1 kB), 3 copied from the cache (9.44 MB), 0 were there already (0 bytes)"
    )
    assert sum_up_fetched(outcome).startswith(told)
    assert (outcome.done_files, outcome.is_complete) == (4, True)
    assert [key.split("/")[1] for key, _ in bench.store.gets] == ["1.dcm"]
    copy = bench.root / "d/0.dcm"
    (kept,) = (bench.base / "cache/objects").rglob("0.dcm")
    assert copy.stat().st_mtime_ns == MTIME_NS
    with copy.open("r+b") as file:  # no hard link: who writes to it leaves the cache alone
        file.write(b"mine")
    assert kept.read_bytes() == made["0.dcm"]


@pytest.mark.parametrize("is_right", [True, False])
def test_blocks_are_shared_with_the_cache_where_the_file_system_can(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, is_right: bool
) -> None:
    made = contents(bench, 1)
    placed = [(make_series(1, count=3), "d")]

    def share(destination: int, request: int, source: int) -> int:
        """Do what the kernel does on Btrfs and XFS."""
        assert request == getattr(fcntl, "FICLONE", 0x40049409)
        os.pwrite(destination, os.pread(source, 1 << 20, 0), 0)
        return 0

    @in_trio
    async def run() -> None:
        await bench.run(placed, into_cache=True)
        if not is_right:
            for path in (bench.base / "cache/objects").rglob("*.dcm"):
                path.write_bytes(bytes(path.stat().st_size))
        bench.store.gets.clear()
        monkeypatch.setattr("idcfs.cache.files.fcntl.ioctl", share)
        monkeypatch.delattr("idcfs.fetch.copying._write")
        outcome = await bench.run(placed)
        assert outcome.is_complete

    run()
    assert bench.files() == {f"d/{name}": content for name, content in made.items()}
    assert len(bench.store.gets) == (0 if is_right else 3)


@in_trio
async def test_one_bad_file_or_series_does_not_stop_the_others(
    bench: Bench,
) -> None:
    made = contents(bench, 1)

    def on_get(key: str, extent: Extent) -> None:
        if key.endswith("1.dcm"):
            raise ObjectNotFoundError("gone")

    bench.store.on_get = on_get
    missing = make_series(2, count=4)
    outcome = await bench.run([(make_series(1, count=3), "d"), (missing, "e")])
    assert set(bench.files()) == {"d/0.dcm", "d/2.dcm"}
    assert bench.files()["d/2.dcm"] == made["2.dcm"]
    subjects = {failure.subject: failure.reason for failure in outcome.failures}
    assert set(subjects) == {str(bench.root / "d/1.dcm"), f"series {missing.uuid}"}
    assert "the index expects 4" in subjects[f"series {missing.uuid}"]
    assert not outcome.is_complete
    assert outcome.gave_up is None
    (series,) = (each for each in bench.endings if each.size_bytes is None)
    assert (series.url, series.place) == (f"s3://{missing.bucket}/{missing.uuid}/", None)


@in_trio
async def test_a_bug_met_by_one_file_or_series_does_not_stop_the_others(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "idcfs.prefetch")
    contents(bench, 1)
    contents(bench, 2)

    def on_get(key: str, extent: Extent) -> None:
        if key.endswith("1.dcm"):
            raise RecursionError("too deep\nby far")

    def on_list(prefix: str) -> None:
        if make_series(2).uuid in prefix:
            raise ZeroDivisionError

    bench.store.on_get, bench.store.on_list = on_get, on_list
    outcome = await bench.run([(make_series(1, count=3), "d"), (make_series(2, count=3), "e")])
    assert set(bench.files()) == {"d/0.dcm", "d/2.dcm"}
    assert {failure.subject: failure.reason for failure in outcome.failures} == {
        str(bench.root / "d/1.dcm"): (
            "unexpected RecursionError: too deep by far; this is a bug in idcfs"
        ),
        f"series {make_series(2).uuid}": (
            "unexpected ZeroDivisionError: no explanation; this is a bug in idcfs"
        ),
    }
    assert (outcome.failed_files, outcome.untried_files) == (4, 0)
    assert "Traceback" in caplog.text
    assert {record.levelno for record in caplog.records} == {logging.DEBUG}


@in_trio
async def test_transfers_dropped_when_it_gives_up_do_not_call_the_cache_broken(
    bench: Bench, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents(bench, 1, count=50)
    held, failing = Gate(), Gate()
    ended = threading.Event()
    get_extent = bench.store.get_extent

    def get_and_hold(
        bucket: str, key: str, extent: Extent, sink: Sink, *, etag: str, offered: object = None
    ) -> None:
        if not key.endswith("/0.dcm"):
            failing.hold()
            raise StoreUnavailableError("no network")
        get_extent(bucket, key, extent, sink, etag=etag)
        held.hold()  # all bytes are here, but not yet committed

    def fill(
        store: ObjectStore,
        ref: ObjectRef,
        cached: CachedObject,
        extent: Extent,
        into_memory: bool,
        given_up: Callable[[], bool],
        *,
        waits_for_room: bool,
    ) -> Filled:
        try:
            return fill_units(
                store, ref, cached, extent, into_memory, given_up, waits_for_room=waits_for_room
            )
        finally:
            if ref.instance.name == "0.dcm":
                ended.set()

    monkeypatch.setattr(bench.store, "get_extent", get_and_hold)
    monkeypatch.setattr("idcfs.fetch.intake.fill_units", fill)
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def go_on() -> None:
            await held.arrived()
            failing.open()

        outcome = await bench.run([(make_series(1, count=50), "d")], into_cache=True)
    assert outcome.gave_up is not None
    shutil.rmtree(bench.base / "cache/scratch", ignore_errors=True)
    held.open()
    assert await trio.to_thread.run_sync(ended.wait, 10)
    assert "without the cache" not in caplog.text


@in_trio
async def test_a_series_with_too_few_files_is_a_failure(
    bench: Bench,
) -> None:
    contents(bench, 1)
    outcome = await bench.run([(make_series(1, count=5), "d")])
    assert len(bench.files()) == 3
    assert [failure.reason for failure in outcome.failures] == [
        "the store lists 3 files, the index expects 5"
    ]
    assert (outcome.total_files, outcome.failed_files, outcome.untried_files) == (5, 2, 0)


@in_trio
async def test_series_of_one_directory_never_overwrite_each_other(
    bench: Bench,
) -> None:
    bench.store.add_content(b"first", "same.dcm", series=1)
    bench.store.add_content(b"other", "same.dcm", series=2)
    bench.store.add_content(b"apart", "same.dcm", series=3)
    listed = threading.Event()

    def list_the_first_late(prefix: str) -> None:
        if prefix == make_series(1).prefix:
            assert listed.wait(20)
            time.sleep(0.05)
        else:
            listed.set()

    bench.store.on_list = list_the_first_late
    outcome = await bench.run(
        [(make_series(1), "d"), (make_series(2), "d"), (make_series(3), "e")], jobs=1
    )
    assert outcome.done_files == 2
    assert bench.files()["e/same.dcm"] == b"apart"
    # The first in path order, at every run.
    assert bench.files()["d/same.dcm"] == b"first"
    (failure,) = outcome.failures
    assert failure.subject == str(bench.root / "d/same.dcm")
    assert make_series(1).uuid in failure.reason
    assert make_series(2).uuid in failure.reason
    assert "add %crdc_series_uuid" in failure.reason


@in_trio
async def test_wrong_bytes_never_appear(bench: Bench) -> None:
    contents(bench, 1, count=1)
    bench.verify = Verify.FULL
    bench.store.alter = lambda body: body[:-1] + b"\0"
    outcome = await bench.run([(make_series(1), "d")])
    assert bench.files() == {}
    assert "MD5" in outcome.failures[0].reason


@in_trio
async def test_what_is_in_the_way_is_kept(bench: Bench) -> None:
    contents(bench, 1, count=2)
    (bench.root / "d/0.dcm").mkdir(parents=True)
    (bench.root / "d/0.dcm/mine").write_bytes(b"kept")
    outcome = await bench.run([(make_series(1, count=2), "d")])
    assert set(bench.files()) == {"d/0.dcm/mine", "d/1.dcm"}
    assert outcome.failures[0].reason == "a directory is in the way"


@in_trio
async def test_a_link_is_replaced_and_its_target_kept(bench: Bench) -> None:
    made = contents(bench, 1, count=1)
    precious = bench.base / "precious"
    precious.write_bytes(b"kept")
    (bench.root / "d").mkdir(parents=True)
    (bench.root / "d/0.dcm").symlink_to(precious)
    assert (await bench.run([(make_series(1), "d")])).is_complete
    assert precious.read_bytes() == b"kept"
    assert bench.files()["d/0.dcm"] == made["0.dcm"]


@in_trio
async def test_a_store_that_is_gone_ends_the_job_early(
    bench: Bench,
) -> None:

    def on_list(prefix: str) -> None:
        raise StoreUnavailableError("no network")

    bench.store.on_list = on_list
    outcome = await bench.run([(make_series(n), "d") for n in range(500)])
    assert outcome.failed_files == len(outcome.failures) >= 24
    assert outcome.gave_up == "no network"
    assert outcome.untried_files == 500 - outcome.failed_files
    assert outcome.out_of_reach
    assert len(bench.store.lists) < 100


@in_trio
async def test_a_store_that_never_answers_few_series_is_out_of_reach_too(bench: Bench) -> None:
    def on_list(prefix: str) -> None:
        raise StoreUnavailableError("no network")

    bench.store.on_list = on_list
    outcome = await bench.run([(make_series(1), "d")])
    assert outcome.gave_up is None
    assert outcome.out_of_reach


@in_trio
async def test_some_failures_in_between_do_not_end_the_job(
    bench: Bench,
) -> None:
    for n in range(200):
        bench.store.add_content(b"x" * n, series=n)

    def on_get(key: str, extent: Extent) -> None:
        if len(bench.store.gets) % 2:
            raise StoreUnavailableError("overloaded")

    bench.store.on_get = on_get
    outcome = await bench.run([(make_series(n), f"d{n}") for n in range(200)], jobs=1)
    assert outcome.gave_up is None
    assert not outcome.out_of_reach
    assert outcome.done_files + len(outcome.failures) == 200


QUICK = PatiencePolicy(first_pause_s=0.01, longest_pause_s=0.02, patience_s=10)


def no_network() -> StoreUnavailableError:
    error = StoreUnavailableError("no network")
    error.no_connection = True
    return error


@in_trio
async def test_a_store_that_is_gone_for_a_while_is_waited_for(bench: Bench) -> None:
    contents(bench, 1, count=200)
    bench.policy = QUICK
    began = 0

    def on_get(key: str, extent: Extent) -> None:
        nonlocal began
        began += 1
        if 50 < began < 200:
            raise no_network()

    bench.store.on_get = on_get
    outcome = await bench.run([(make_series(1, count=200), "d")])
    assert outcome.is_complete
    assert outcome.fetched_files == 200


@in_trio
async def test_of_a_large_file_only_the_rest_is_fetched_when_the_store_is_back(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(units, "WHOLE_LIMIT_BYTES", 100)
    monkeypatch.setattr(streams, "RUN_BYTES", 160)
    content = make_content(1000)
    bench.store.add_content(content)
    bench.policy = QUICK
    refused = 0

    def on_get(key: str, extent: Extent) -> None:
        nonlocal refused
        if extent.offset == 480 and refused < 3:
            wait_until(lambda: bench.store.ended.count("") == 6, "the other runs are there")
            refused += 1
            raise no_network()

    bench.store.on_get = on_get
    outcome = await bench.run([(make_series(1), "d")], jobs=8)
    assert outcome.is_complete
    assert bench.files() == {"d/a.dcm": content}
    offsets = sorted(extent.offset for _, extent in bench.store.gets)
    assert offsets == [0, 160, 320, 480, 480, 480, 480, 640, 800, 960]


@in_trio
async def test_a_store_that_stays_away_is_given_up_in_the_end(bench: Bench) -> None:
    contents(bench, 1, count=200)
    bench.policy = dataclasses.replace(QUICK, patience_s=0.3)
    began = 0

    def on_get(key: str, extent: Extent) -> None:
        nonlocal began
        began += 1
        if began > 50:
            raise no_network()

    bench.store.on_get = on_get
    outcome = await bench.run([(make_series(1, count=200), "d")])
    assert outcome.fetched_files <= 50
    assert outcome.gave_up is not None
    assert outcome.failed_files >= 24


@pytest.mark.parametrize(
    ("error", "tries"),
    [
        (StoreUnavailableError("503"), 6),
        (AccessDeniedError("403"), 1),
        (ObjectNotFoundError("404"), 1),
        (OSError(errno.EIO, "broken disk"), 1),
        (ZeroDivisionError(), 1),
    ],
)
def test_only_what_may_pass_is_tried_again(bench: Bench, error: Exception, tries: int) -> None:
    contents(bench, 1, count=20)
    bench.policy = QUICK

    def on_get(key: str, extent: Extent) -> None:
        if key.endswith("/7.dcm"):
            raise error

    @in_trio
    async def run() -> None:
        bench.store.on_get = on_get
        outcome = await bench.run([(make_series(1, count=20), "d")], jobs=1)
        assert outcome.fetched_files == 19
        asked = [key for key, _ in bench.store.gets if key.endswith("/7.dcm")]
        assert len(asked) == tries

    run()


@in_trio
async def test_a_full_disk_ends_the_job_at_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents(bench, 1, count=50)

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("idcfs.fetch.download.unfinished_file", refuse)
    outcome = await bench.run([(make_series(1, count=50), "d")], jobs=1)
    assert (outcome.gave_up, outcome.untried_files) == ("No space left on device", 49)
    assert not outcome.out_of_reach
    assert len(outcome.failures) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_job_in_order(bench: Bench, number: signal.Signals) -> None:
    @in_trio
    async def run() -> None:
        contents(bench, 1, count=10, length=1 << 18)
        gate = Gate()
        held: list[None] = []

        def between_chunks() -> None:
            held.append(None)
            if len(held) == 3:
                gate.hold()

        bench.store.between_chunks = between_chunks
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def interrupt() -> None:
                await gate.arrived()
                os.kill(os.getpid(), number)
                while not bench.outcome.interrupted:
                    await trio.lowlevel.checkpoint()
                gate.open()

            outcome = await bench.run([(make_series(1, count=10), "d")], jobs=1)
        assert outcome.interrupted
        assert outcome.failures == []
        assert outcome.done_files < 10
        assert not [name for name in bench.files() if "/." in name]

    run()


@in_trio
async def test_listings_run_ahead_but_not_without_bound(
    bench: Bench,
) -> None:
    for n in range(300):
        bench.store.add_content(b"x", series=n)
    gate = Gate()
    bench.store.on_get = lambda key, extent: gate.hold()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.run, [(make_series(n), f"d{n}") for n in range(300)])
        for _ in range(4):
            await gate.arrived()
        await trio.testing.wait_all_tasks_blocked(0.1)
        assert 4 < len(bench.store.lists) < 40
        gate.open()
    assert len(bench.files()) == 300


def test_bytes_under_way_are_counted_once() -> None:
    store = MemoryStore(chunk_bytes=10)
    ref = store.add_content(bytes(100))
    meter = MeteredStore(store)
    seen: list[int] = []
    meter.get_extent(
        ref.bucket,
        ref.key,
        Extent(0, 50),
        lambda _: seen.append(meter.bytes_under_way),
        etag=ref.instance.etag,
    )
    assert seen == [0, 10, 20, 30, 40]
    assert meter.bytes_under_way == 50
    for _ in range(2):  # the second piece, and the same again after a failure
        meter.get_extent(
            ref.bucket, ref.key, Extent(50, 50), lambda _: None, etag=ref.instance.etag
        )
        assert meter.bytes_under_way == 100
    meter.settle(ref.key)
    assert meter.bytes_under_way == 0


def test_space_only_looks_for_what_is_there_if_that_decides(tmp_path: Path) -> None:
    def never() -> Iterator[int]:
        raise AssertionError("asked in vain")

    place = tmp_path / "not" / "there" / "yet"
    free = os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize
    assert measure(place, size_bytes=1, file_count=1, present=never).suffices

    def ask(*present: int) -> bool:
        space = measure(
            place, size_bytes=free + 10**12, file_count=0, present=lambda: iter(present)
        )
        assert space.free_bytes == pytest.approx(free, abs=10**9)
        return space.suffices

    assert not ask()
    assert not ask(10**11)
    assert ask(10**12, 10**9)


def test_what_is_there_whole_needs_no_more_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=0))

    def space(present_files: int) -> Space:
        present = room_bytes(present_files * 10, present_files)
        return measure(tmp_path, size_bytes=50, file_count=5, present=lambda: iter([present]))

    assert space(5).suffices
    assert space(4).needed_bytes == room_bytes(10, 1)


def test_what_is_there_is_found_in_directories_and_in_the_cache(bench: Bench) -> None:
    series = make_series(1, count=3)
    size = sum(map(len, contents(bench, 1).values()))

    @in_trio
    async def run() -> None:
        disk = trio.CapacityLimiter(1)
        cache = DiskCache(bench.base / "cache")
        targets: list[Target] = [
            DirectoryTarget(bench.root, cache, verify=Verify.LENGTH, disk=disk),
            CacheTarget(cache, verify=Verify.LENGTH, disk=disk),
        ]
        whole = type(series)(series.uuid, series.bucket, 1, 3, size)
        for target, into_cache in zip(targets, [False, True], strict=True):
            assert target.present_bytes(whole, "d") == 0
            await bench.run([(whole, "d")], into_cache=into_cache)
            assert target.present_bytes(whole, "d") == room_bytes(size, 3)
        (bench.root / "d/more").write_bytes(b"of another series")
        assert targets[0].present_bytes(whole, "d") == room_bytes(size, 3)
        cache.close()

    run()
