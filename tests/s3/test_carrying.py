"""A prefetch of small files over kept connections, from a store that is well and one that is not.

Each test also holds what a prefetch leaves: no unfinished file, and no request under way.
"""

from __future__ import annotations

import gc
import hashlib
import itertools
import os
import shutil
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
import trio

from idcfs.cache import DiskCache
from idcfs.model import Series as IndexSeries
from idcfs.model import SeriesUUID
from idcfs.prefetch.concurrency import Concurrency
from idcfs.prefetch.job import prefetch
from idcfs.prefetch.metered import MeteredStore
from idcfs.prefetch.outcome import Ending, Outcome
from idcfs.prefetch.targets import DirectoryTarget, Verify
from idcfs.store.retry import RetryPolicy
from idcfs.store.s3 import S3Store
from tests.support.faults import NOT_FOUND, SLOW_DOWN, Corrupt, Cut, Reset, Shorten, Stall
from tests.support.proxy import FaultProxy
from tests.support.stores import in_trio

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from idcfs.model import Extent
    from idcfs.store.protocol import OfferedSink, Sink
    from tests.support.faults import Fault, Request
    from tests.support.replica import ServedReplica

JOBS = 4


class CountingStore(S3Store):
    """Tells which objects did not come by the multiplexer."""

    def __init__(self, url: str) -> None:
        retry = RetryPolicy(attempts=4, first_pause_s=0.05, longest_pause_s=0.3)
        super().__init__(endpoint_url=url, retry=retry, connect_timeout_s=2, read_timeout_s=2)
        self.gets: list[str] = []

    def get_extent(
        self,
        bucket: str,
        key: str,
        extent: Extent,
        sink: Sink,
        *,
        etag: str,
        offered: OfferedSink | None = None,
    ) -> None:
        self.gets.append(key)
        super().get_extent(bucket, key, extent, sink, etag=etag, offered=offered)


@dataclass
class Bench:
    """Prefetches of a collection, through the proxy, into a directory."""

    replica: ServedReplica
    proxy: FaultProxy
    base: Path
    verify: Verify = Verify.FULL
    endings: list[Ending] = field(default_factory=list)
    gets: list[str] = field(default_factory=list)
    """The objects that did not come by the multiplexer."""

    @property
    def root(self) -> Path:
        return self.base / "download"

    def wanted(self) -> dict[str, bytes]:
        """Return what should come, by file name."""
        return {
            built.path.name: built.path.read_bytes()
            for series in self.replica.series
            if series.collection_id == "eay131"
            for built in self.replica.objects_of(series)
        }

    def files(self) -> dict[str, bytes]:
        """Return what is there, hidden files too."""
        return {path.name: path.read_bytes() for path in self.root.iterdir()}

    def damage(self, name: str) -> None:
        """Change a byte of a file that is there."""
        content = self.files()[name]
        (self.root / name).write_bytes(content[:-1] + bytes([content[-1] ^ 0xFF]))

    def requests(self, name: str = "") -> int:
        """Return how often objects were asked for so far."""
        return len(
            self.proxy.log(lambda request: request.is_object and request.path.endswith(name))
        )

    async def run(self) -> Outcome:
        chosen = [s for s in self.replica.series if s.collection_id == "eay131"]
        placed = [
            (
                IndexSeries(
                    SeriesUUID(series.uuid),
                    series.bucket,
                    row,
                    len(self.replica.objects_of(series)),
                    0,
                ),
                "",
            )
            for row, series in enumerate(chosen)
        ]
        outcome = Outcome(sum(series.instance_count or 0 for series, _ in placed), 0)
        cache = DiskCache(self.base / "cache")
        self.endings.clear()
        with closing(CountingStore(self.proxy.endpoint_url)) as store, closing(cache):
            meter = MeteredStore(store)
            target = DirectoryTarget(
                self.root, cache, verify=self.verify, disk=trio.CapacityLimiter(4)
            )
            try:
                await prefetch(
                    iter(placed),
                    meter=meter,
                    cache=cache,
                    target=target,
                    outcome=outcome,
                    observe=lambda *_: None,
                    note=self.endings.append,
                    concurrency=Concurrency.fixed(JOBS),
                )
            finally:
                self.gets[:] = store.gets
                assert meter.requests_under_way == 0
        assert meter.bytes_under_way == 0
        return outcome


@pytest.fixture
def bench(replica: ServedReplica, tmp_path: Path) -> Iterator[Bench]:
    gc.collect()
    descriptors = len(os.listdir("/proc/self/fd"))
    with FaultProxy(replica.endpoint_url) as proxy:
        yield Bench(replica, proxy, tmp_path)
    gc.collect()  # botocore leaves the answers to failed requests in rings
    assert len(os.listdir("/proc/self/fd")) == descriptors


def run(bench: Bench) -> Outcome:
    """Prefetch to the end."""

    async def bounded() -> Outcome:
        with trio.fail_after(60):
            return await bench.run()

    return trio.run(bounded)


def lost_of(bench: Bench) -> str:
    """Return the name of an object that some others come before."""
    return sorted(name for name, content in bench.wanted().items() if len(content) > 2000)[7]


def named(name: str) -> Callable[[Request], bool]:
    return lambda request: request.path.endswith(name)


@pytest.mark.parametrize("verify", Verify)
def test_files_come_over_kept_connections(bench: Bench, verify: Verify) -> None:
    bench.verify = verify
    outcome = run(bench)
    wanted = bench.wanted()
    assert bench.files() == wanted
    assert outcome.is_complete
    assert outcome.fetched_files == len(wanted) == bench.requests()
    assert outcome.fetched_bytes == sum(map(len, wanted.values()))
    # Only those for which no connection was there yet, of a listing or another file.
    assert len(bench.gets) <= JOBS
    assert bench.proxy.connections <= JOBS + len(bench.proxy.log()) - len(wanted)
    md5s = {hashlib.md5(content).digest() for content in wanted.values()}
    told = {ending.checksum.value for ending in bench.endings if ending.checksum}
    assert told == (md5s if verify is Verify.FULL else set())


def test_what_is_there_is_left_alone_unless_it_is_wrong(bench: Bench) -> None:
    wanted = bench.wanted()
    run(bench)
    bench.proxy.forget()
    assert run(bench).present_files == len(wanted)
    assert bench.requests() == 0
    damaged, cut, lost = sorted(wanted)[3:6]
    bench.damage(damaged)
    (bench.root / cut).write_bytes(b"short")
    (bench.root / lost).unlink()
    outcome = run(bench)
    assert (outcome.fetched_files, outcome.replaced_files) == (3, 2)
    assert bench.requests() == 3
    assert bench.files() == wanted
    told = {(ending.place or "").rpartition("/")[2]: ending.told for ending in bench.endings}
    assert (told[damaged], told[cut], told[lost]) == ("replaced", "replaced", "fetched")


def test_a_wrong_byte_passes_where_the_length_will_do(bench: Bench) -> None:
    bench.verify = Verify.LENGTH
    lost = lost_of(bench)
    bench.proxy.fail(Corrupt(100), when=named(lost))
    assert run(bench).is_complete
    files, wanted = bench.files(), bench.wanted()
    assert files.pop(lost)[:100] == wanted.pop(lost)[:100]
    assert files == wanted


FAULTS: list[tuple[Fault, int, int]] = [
    (SLOW_DOWN, 3, 4),
    (Reset(0), 2, 3),
    (Reset(1000), 2, 3),
    (Cut(1000), 2, 3),
    (Stall(1000), 1, 2),
    (Corrupt(1000), 2, 3),
    (NOT_FOUND, 1, 2),  # not by botocore, which asks once more
]
"""Faults, how often each befalls its object, and how often that is asked for then."""


@pytest.mark.parametrize(("fault", "times", "requests"), FAULTS)
def test_a_fault_that_passes_costs_only_more_requests(
    bench: Bench, fault: Fault, times: int, requests: int
) -> None:
    lost = lost_of(bench)
    bench.proxy.fail(fault, when=named(lost), times=times)
    outcome = run(bench)
    assert outcome.is_complete
    assert outcome.fetched_bytes == sum(map(len, bench.wanted().values()))
    assert bench.files() == bench.wanted()
    assert bench.requests(lost) == requests
    assert bench.requests() == len(bench.wanted()) + requests - 1


LASTING: list[tuple[Fault, str]] = [
    (NOT_FOUND, "has no such object"),
    (SLOW_DOWN, "is overloaded or out of order (503"),
    (Reset(1000), "the connection to"),
    (Shorten(10), "sends"),
    (Corrupt(1000), "the content's MD5 is"),
]


@pytest.mark.parametrize(("fault", "words"), LASTING)
def test_a_fault_that_lasts_is_told_and_the_others_come(
    bench: Bench, fault: Fault, words: str
) -> None:
    lost, wanted = lost_of(bench), bench.wanted()
    bench.proxy.fail(fault, when=named(lost))
    outcome = run(bench)
    (failure,) = outcome.failures
    assert words in failure.reason
    assert outcome.fetched_files == len(wanted) - 1
    assert bench.files() == {name: content for name, content in wanted.items() if name != lost}


def test_a_store_that_is_busy_for_a_while_is_waited_for(bench: Bench) -> None:
    asked = itertools.count()
    bench.proxy.fail(SLOW_DOWN, when=lambda one: one.is_object and 8 <= next(asked) < 16)
    assert run(bench).is_complete
    assert bench.files() == bench.wanted()
    assert bench.requests() == len(bench.wanted()) + 8


@in_trio
async def test_a_server_that_is_restarted_meanwhile_costs_nothing(bench: Bench) -> None:
    def restart() -> None:
        bench.proxy.wait_for(lambda _: bench.requests() >= 8)
        bench.proxy.close()
        bench.proxy.open()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.to_thread.run_sync, restart)
        assert (await bench.run()).is_complete
    assert bench.files() == bench.wanted()


@in_trio
async def test_a_prefetch_that_is_stopped_hangs_up_and_leaves_whole_files(bench: Bench) -> None:
    asked = itertools.count()
    bench.proxy.fail(Stall(1000), when=lambda one: one.is_object and next(asked) >= 8)

    def stalls() -> None:
        bench.proxy.wait_for(lambda proxy: bench.requests() == 8 + JOBS)

    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bench.run)
            await trio.to_thread.run_sync(stalls)
            scope.cancel()
    wanted, files = bench.wanted(), bench.files()
    assert 0 < len(files) < len(wanted)
    assert all(wanted[name] == content for name, content in files.items())


@in_trio
async def test_a_directory_that_is_removed_meanwhile_is_made_again(bench: Bench) -> None:
    held = lost_of(bench)
    bench.proxy.fail(Stall(1000), when=named(held), times=1)

    def remove() -> None:
        bench.proxy.wait_for(lambda _: bench.requests(held) == 1)
        while True:
            try:
                shutil.rmtree(bench.root)
            except OSError:  # another file came, or had just got its name
                continue
            return

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.to_thread.run_sync, remove)
        outcome = await bench.run()
    assert outcome.is_complete
    wanted, files = bench.wanted(), bench.files()
    assert held in files
    assert all(wanted[name] == content for name, content in files.items())
