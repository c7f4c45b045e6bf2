"""What each way of reading costs at the server: requests and bytes, counted there."""

from __future__ import annotations

import os
import random
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from idcfs.fetch.streams import RUN_BYTES
from tests.fuse.test_reading import assert_same_tree, ct_series, largest_object
from tests.support.faults import Delay
from tests.support.mounting import wait_until
from tests.support.proxy import FaultProxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.mounting import Mount
    from tests.support.proxy import Exchange
    from tests.support.replica import ServedReplica

KIB = 1 << 10
DELAY_S = 0.05


class Counted:
    """A mount with nothing in its cache, and the counting proxy before the store."""

    def __init__(self, mount: Mount, proxy: FaultProxy) -> None:
        self.path = mount.path
        self._proxy = proxy

    def _ended(self) -> tuple[Exchange, ...]:
        wait_until(lambda: all(each.done for each in self._proxy.log()), "all requests end")
        return self._proxy.log()

    @property
    def listings(self) -> int:
        """Requests for a listing so far."""
        return sum(not each.request.is_object for each in self._ended())

    @property
    def asked(self) -> list[str]:
        """Names of the objects that were asked for so far, one for each request."""
        ended = self._ended()
        return [each.request.path.rpartition("/")[2] for each in ended if each.request.is_object]

    @property
    def sent_bytes(self) -> int:
        """Bytes of objects that were sent so far."""
        return sum(each.body_bytes for each in self._ended() if each.request.is_object)


@pytest.fixture
def proxy(replica: ServedReplica) -> Iterator[FaultProxy]:
    with FaultProxy(replica.endpoint_url) as proxy:
        yield proxy


@pytest.fixture
def counted(mount_at: Callable[..., Mount], proxy: FaultProxy, tmp_path: Path) -> Iterator[Counted]:
    with mount_at(cache_dir=tmp_path / "cache", endpoint_url=proxy.endpoint_url) as mount:
        yield Counted(mount, proxy)


@pytest.fixture
def without_room(
    mount_at: Callable[..., Mount], proxy: FaultProxy, tmp_path: Path
) -> Iterator[Counted]:
    """The same, with a cache that can take nothing, and a store that thinks for 50 ms."""
    proxy.fail(Delay(DELAY_S), when=lambda request: request.is_object)
    with mount_at(
        "--cache-size=100K",
        cache_dir=tmp_path / "cache",
        endpoint_url=proxy.endpoint_url,
        expected_log=["is larger than the cache may get"],
    ) as mount:
        yield Counted(mount, proxy)


def read_at(path: Path, places: list[int], length: int) -> None:
    with path.open("rb", buffering=0) as file:
        for place in places:
            assert len(os.pread(file.fileno(), length, place)) == length


def test_a_long_listing_costs_one_request(counted: Counted, replica: ServedReplica) -> None:
    directory, objects = ct_series(replica)
    for _ in range(2):
        done = subprocess.run(
            ["ls", "-l", counted.path / directory], check=True, capture_output=True, text=True
        )
        assert done.stdout.count(".dcm") == len(objects)
    assert (counted.listings, counted.asked) == (1, [])


def test_a_series_that_is_copied_comes_once(
    counted: Counted, replica: ServedReplica, tmp_path: Path
) -> None:
    directory, objects = ct_series(replica)
    subprocess.run(["cp", "-r", counted.path / directory, tmp_path / "copy"], check=True)
    assert sorted(counted.asked) == sorted(each.name for each in objects)
    assert counted.sent_bytes == sum(each.size_bytes for each in objects)
    assert counted.listings == 1


def test_of_files_whose_headers_are_read_little_more_comes(
    counted: Counted, replica: ServedReplica
) -> None:
    directory, objects = ct_series(replica)
    for each in objects:
        read_at(counted.path / directory / each.name, [0], 64 * KIB)
    # Eight times as much if all came whole. Some do, until the habit is known: on a busy
    # machine the kernel tells late that a file was closed.
    assert counted.sent_bytes < 4 * 64 * KIB * len(objects)
    assert len(objects) <= len(counted.asked) < 1.5 * len(objects)


def test_one_file_of_a_series_comes_alone(counted: Counted, replica: ServedReplica) -> None:
    directory, objects = ct_series(replica)
    one = objects[len(objects) // 2]
    assert (counted.path / directory / one.name).read_bytes() == one.path.read_bytes()
    assert counted.asked == [one.name]
    assert counted.sent_bytes == one.size_bytes


def test_a_large_file_read_through_comes_once_in_long_runs(
    counted: Counted, replica: ServedReplica
) -> None:
    path, slide = largest_object(replica)
    subprocess.run(
        ["dd", f"if={counted.path / path}", "of=/dev/null", "bs=1M", "status=none"], check=True
    )
    assert counted.sent_bytes == slide.size_bytes
    # Shorter ones at the beginning, as long as nobody knows how far it will be read.
    assert len(counted.asked) <= slide.size_bytes // RUN_BYTES + 16


def test_without_room_in_the_cache_a_series_comes_once_and_side_by_side(
    without_room: Counted, replica: ServedReplica, tmp_path: Path
) -> None:
    directory, objects = ct_series(replica)
    began_s = time.monotonic()
    subprocess.run(["cp", "-r", without_room.path / directory, tmp_path / "copy"], check=True)
    took_s = time.monotonic() - began_s
    assert_same_tree(tmp_path / "copy", objects)
    assert sorted(without_room.asked) == sorted(each.name for each in objects)
    assert without_room.sent_bytes == sum(each.size_bytes for each in objects)
    assert took_s < len(objects) * DELAY_S / 2


def test_without_room_in_the_cache_a_large_file_comes_once_and_side_by_side(
    without_room: Counted, replica: ServedReplica
) -> None:
    path, slide = largest_object(replica)
    began_s = time.monotonic()
    assert (without_room.path / path).read_bytes() == slide.path.read_bytes()
    took_s = time.monotonic() - began_s
    assert without_room.sent_bytes <= 1.2 * slide.size_bytes
    assert took_s < len(without_room.asked) * DELAY_S / 2


def test_of_a_slide_read_in_tiles_little_more_comes(
    counted: Counted, replica: ServedReplica
) -> None:
    path, slide = largest_object(replica)
    device = (counted.path / path).stat().st_dev
    setting = f"/sys/class/bdi/{os.major(device)}:{os.minor(device)}/read_ahead_kb"
    if not os.access(setting, os.W_OK):
        pytest.skip("with the kernel's own readahead it asks for twice a tile itself")
    tile_bytes, each, readers = 256 * KIB, 12, 4
    chosen = random.Random(4)
    with ThreadPoolExecutor(readers) as pool:
        tasks = [
            pool.submit(
                read_at,
                counted.path / path,
                [chosen.randrange(slide.size_bytes - tile_bytes) for _ in range(each)],
                tile_bytes,
            )
            for _ in range(readers)
        ]
        for task in tasks:
            task.result()
    assert counted.sent_bytes < 2 * tile_bytes * each * readers
    assert len(counted.asked) < 1.5 * each * readers
