"""Real processes killed while they prefetch and read: nothing wrong, nothing fetched twice."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import pytest

from idcfs.cache import DiskCache, units
from idcfs.cache.audit import verify_cache
from idcfs.cache.units import units as units_of
from idcfs.model import Extent, Instance, ObjectRef, SeriesUUID
from tests.support.fetching import UNITS, write_line
from tests.support.mounting import wait_until
from tests.support.proxy import FaultProxy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.proxy import Exchange
    from tests.support.replica import ServedReplica

PROJECT = Path(__file__).parents[2]
_OBJECTS = 60
_END_S = 60.0


@dataclass
class Bench:
    """The objects, the directory of the cache, and the proxy that counts what is fetched."""

    contents: dict[ObjectRef, bytes]
    root: Path
    proxy: FaultProxy

    def start(self, mode: str, seed: int) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.support.fetching", mode),
                *(self.proxy.endpoint_url, str(self.root), str(seed)),
            ],
            stdin=subprocess.PIPE,
            text=True,
            cwd=PROJECT,
        )
        assert process.stdin is not None
        process.stdin.write("\n".join(map(write_line, self.contents)))
        process.stdin.close()
        return process

    def stored(self) -> dict[ObjectRef, set[Extent]]:
        """Return the units that are stored, each of which holds the right bytes."""
        cache = DiskCache(self.root)
        found = {}
        for ref, content in self.contents.items():
            held = cache.open(ref)
            missing = set(held.missing(ref.whole))
            found[ref] = set(units_of(len(content), ref.whole)) - missing
            for unit in found[ref]:
                assert held.read(unit) == content[unit.offset : unit.end]
            held.close()
        cache.close()
        return found

    def evict(self, random: Random, stored: dict[ObjectRef, set[Extent]]) -> None:
        """Make room for more rounds: drop some objects, and parts of others."""
        cache = DiskCache(self.root)
        for ref, units_held in stored.items():
            if units_held and random.random() < 0.3:
                held = cache.open(ref)
                dropped = random.choice(sorted(units_held, key=lambda unit: unit.offset))
                held.discard(dropped)
                stored[ref] = units_held & (
                    set(units_of(len(self.contents[ref]), ref.whole)) - set(held.missing(ref.whole))
                )
                held.close()
        cache.close()

    def fetched(self) -> list[tuple[ObjectRef, Extent]]:
        """Return what was asked of the store since the log was emptied."""
        by_key = {f"/{ref.bucket}/{ref.key}": ref for ref in self.contents}
        return [
            (by_key[each.request.path], extent_of(each, by_key[each.request.path]))
            for each in self.proxy.log(lambda request: request.is_object)
        ]


def extent_of(exchange: Exchange, ref: ObjectRef) -> Extent:
    found = re.fullmatch(r"bytes=(\d+)-(\d+)", exchange.request.range or "")
    if found is None:
        return ref.whole
    return Extent(int(found[1]), int(found[2]) - int(found[1]) + 1)


@pytest.fixture
def bench(
    replica: ServedReplica, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Bench]:
    for name, value in UNITS.items():
        monkeypatch.setattr(units, name, value)
    items = [item for item in replica.built.objects if 0 < item.size_bytes < 2_000_000]
    chosen = Random(1).sample(items, _OBJECTS)
    contents = {
        ObjectRef(
            item.bucket,
            SeriesUUID(item.series.uuid),
            Instance(item.path.name, item.size_bytes, 0, item.md5),
        ): item.path.read_bytes()
        for item in chosen
    }
    with FaultProxy(replica.endpoint_url) as proxy:
        yield Bench(contents, tmp_path / "cache", proxy)


def overlaps(one: Extent, other: Extent) -> bool:
    return one.offset < other.end and other.offset < one.end


def check_round(bench: Bench, before: dict[ObjectRef, set[Extent]]) -> dict[ObjectRef, set[Extent]]:
    """Return what is stored now: all that was, and all of it right and fetched only once."""
    for ref, extent in bench.fetched():
        again = [unit for unit in before[ref] if overlaps(unit, extent)]
        assert not again, f"{ref.url}: {extent} was fetched, where {again} were stored"
    after = bench.stored()
    for ref, held in before.items():
        assert held <= after[ref], f"{ref.url}: {held - after[ref]} were lost"
    return after


def kill_again_and_again(bench: Bench, rounds: int) -> None:
    random = Random(rounds)
    stored = bench.stored()
    for number in range(rounds):
        bench.proxy.forget()
        enough = random.randrange(1, 40)
        processes = [bench.start(mode, number) for mode in ("prefetch", "read")]
        wait_until(
            lambda processes=processes, enough=enough: (
                len(bench.fetched()) >= enough
                or any(process.poll() is not None for process in processes)
            ),
            "the processes fetch",
        )
        for process in processes:
            process.send_signal(signal.SIGKILL)
            assert process.wait() in {0, -signal.SIGKILL}
        stored = check_round(bench, stored)
        bench.evict(random, stored)
    bench.proxy.forget()
    processes = [bench.start("prefetch", number) for number in range(3)]
    assert [process.wait(_END_S) for process in processes] == [0, 0, 0]
    stored = check_round(bench, stored)
    for ref, content in bench.contents.items():
        assert stored[ref] == set(units_of(len(content), ref.whole))
    assert list(verify_cache(bench.root)) == []


def test_processes_killed_while_they_fetch(bench: Bench) -> None:
    kill_again_and_again(bench, 8)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_processes_killed_two_hundred_times(bench: Bench) -> None:
    kill_again_and_again(bench, 200)


def test_three_processes_download_each_byte_once(bench: Bench) -> None:
    processes = [bench.start("prefetch", number) for number in range(3)]
    assert [process.wait(_END_S) for process in processes] == [0, 0, 0]

    sizes = sum(map(len, bench.contents.values()))
    assert sum(extent.length for _, extent in bench.fetched()) == sizes
    assert all(bench.stored()[ref] for ref in bench.contents)
