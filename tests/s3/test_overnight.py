"""A prefetch of many files, killed again and again: it goes on where it was, to the end."""

from __future__ import annotations

import hashlib
import io
import os
import re
import signal
import subprocess
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING

import pytest

from idcfs.config import PATH_VARIABLE
from idcfs.demo.s3http import Connection
from idcfs.demo.server import EmbeddedStore
from tests.support.faults import Request, Stall
from tests.support.mounting import Launcher, wait_until
from tests.support.proxy import FaultProxy
from tests.unit.catalog.conftest import series_uuid, write_parquet

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BUCKET = "idc-open-data"
_SERIES_FILES = 50
_SMALL_BYTES = 3000
_LARGE_BYTES = 26 << 20
"""Seven runs, the last of them a short one."""
_RUN_BYTES = 4 << 20
_JOBS = 16


@dataclass
class Night:
    """A store with synthetic series, the proxy that counts, and what has come so far."""

    base: Path
    store_url: str
    proxy: FaultProxy
    series: list[str] = field(default_factory=list)
    sums: dict[str, str] = field(default_factory=dict)
    """The MD5 of each file, by its path in the download directory: `PatientID/name`."""

    @property
    def root(self) -> Path:
        return self.base / "download"

    def fill(self, file_count: int, large_count: int) -> None:
        """Store so many small files in series of 50, and large ones in one of their own."""
        random = Random(1)
        sizes = [random.randrange(1, 2 * _SMALL_BYTES) for _ in range(file_count)]
        groups = [sizes[n : n + _SERIES_FILES] for n in range(0, file_count, _SERIES_FILES)]
        # In path order they come first and in the middle.
        groups.insert(0, [_LARGE_BYTES + n for n in range(large_count)])
        with Connection(self.store_url) as connection:
            connection.create_bucket(BUCKET)
            for number, group in enumerate(groups):
                self.series.append(series_uuid(number))
                for instance, size in enumerate(group):
                    content, name = random.randbytes(size), f"{instance}.dcm"
                    key = f"{series_uuid(number)}/{name}"
                    md5 = hashlib.md5(content).hexdigest()
                    stored = connection.put_object(BUCKET, key, io.BytesIO(content), size)
                    assert stored == md5
                    self.sums[f"{series_uuid(number)}/{name}"] = md5
        rows = [
            {"SeriesInstanceUID": f"1.{n}", "instanceCount": len(group)}
            for n, group in enumerate(groups)
        ]
        write_parquet(self.base / "index.parquet", rows)

    def start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            Launcher().command(
                *("prefetch", "--collection-id=c", f"--index={self.base / 'index.parquet'}"),
                *(f"--endpoint-url={self.proxy.endpoint_url}", f"--jobs={_JOBS}"),
                *(f"--cache-dir={self.base / 'cache'}", f"--download-dir={self.root}"),
                "--dir-template=%crdc_series_uuid",
            ),
            env={**os.environ, PATH_VARIABLE: os.devnull},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def whole(self) -> set[str]:
        """Return the paths of the files that have their names."""
        return {path for path in self.paths() if "/." not in path}

    def paths(self) -> set[str]:
        return {str(p.relative_to(self.root)) for p in self.root.rglob("*") if p.is_file()}

    def runs(self) -> set[tuple[str, int]]:
        """Return path and offset of each run that a record tells of."""
        return {
            (str(record.relative_to(self.root).parent / record.name[1:-11]), int(offset))
            for record in self.root.rglob(".*.idcfs-runs")
            for offset in re.findall(r"^(\d+) [0-9a-f]{8}$", record.read_text(), re.MULTILINE)
        }

    def asked(self) -> list[tuple[str, int]]:
        """Return path and offset of each request for an object since the log was emptied."""
        return [
            (each.request.path.removeprefix(f"/{BUCKET}/"), offset_of(each.request))
            for each in self.proxy.log(lambda request: request.is_object)
        ]


@pytest.fixture
def night(tmp_path: Path) -> Iterator[Night]:
    with (
        EmbeddedStore(tmp_path / "store") as store,
        FaultProxy(store.endpoint_url) as proxy,
    ):
        yield Night(tmp_path, store.endpoint_url, proxy)


def offset_of(request: Request) -> int:
    return int((request.range or "bytes=0-")[len("bytes=") :].split("-")[0])


def kill_again_and_again(night: Night, kills: int) -> None:
    random = Random(kills)
    requests = len(night.sums) + 2 * _LARGE_BYTES // _RUN_BYTES
    total = cut_off_runs = 0
    # The last run of a large file does not end before the kill, nor do others now and then.
    stalled = {_LARGE_BYTES // _RUN_BYTES * _RUN_BYTES}
    night.proxy.fail(Stall(1000), when=lambda request: offset_of(request) in stalled)
    for _ in range(kills):
        before, runs = night.whole(), night.runs()
        night.proxy.forget()
        left = len(night.sums) - len(before)
        enough = random.randrange(1 + min(2 * requests // (kills + 1), left // 2))
        process = night.start()
        wait_until(
            lambda enough=enough, process=process: (
                len(night.asked()) >= enough or process.poll() is not None
            ),
            "it fetches",
        )
        process.send_signal(signal.SIGKILL)
        _, told = process.communicate()
        assert process.returncode in (0, -signal.SIGKILL), told
        total += check_round(night, before, runs)
        cut_off_runs += len(night.runs())
        stalled.add(random.randrange(1, _LARGE_BYTES // _RUN_BYTES) * _RUN_BYTES)
    assert cut_off_runs, "no large file was cut off"
    before, runs = night.whole(), night.runs()
    night.proxy.clear()
    night.proxy.forget()
    process = night.start()
    out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, ""), out
    total += check_round(night, before, runs)
    assert night.paths() == set(night.sums)
    # What was under way at a kill was fetched again, and nothing else.
    assert total <= requests + kills * _JOBS
    assert not list((night.base / "cache" / "scratch").rglob("*.*"))


def check_round(night: Night, before: set[str], runs: set[tuple[str, int]]) -> int:
    """Return how many requests there were, none of them for what was there before."""
    asked = night.asked()
    again = {path for path, _ in asked} & before
    assert not again, "files were fetched again that were complete before the kill"
    assert not set(asked) & runs, "runs were fetched again that had come before the kill"
    whole = night.whole()
    assert before <= whole
    for path in whole - before:
        assert hashlib.md5((night.root / path).read_bytes()).hexdigest() == night.sums[path]
    return len(asked)


def test_a_prefetch_killed_five_times_fetches_nothing_twice(night: Night) -> None:
    night.fill(600, 2)
    kill_again_and_again(night, 5)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_prefetch_of_5000_files_killed_twenty_times(night: Night) -> None:
    night.fill(5000, 2)
    kill_again_and_again(night, 20)
