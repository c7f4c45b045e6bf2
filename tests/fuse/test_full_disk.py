"""A mount whose cache is on a small file system that becomes full: slower, never wrong."""

from __future__ import annotations

import os
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from tests.fuse.test_tree import default_path
from tests.unit.cache.test_ledger_processes import occupied

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.mounting import Mount
    from tests.support.replica import ServedReplica

DISK_BYTES = 64 << 20
READERS = 8

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a file system")


@pytest.fixture
def small_disk(tmp_path: Path, layouts: Path) -> Iterator[Path]:
    """An ext4 of 64 MB on a loop device; where there are none, as much of memory."""
    image, path = tmp_path / "disk.img", tmp_path / "disk"
    path.mkdir()
    image.touch()
    os.truncate(image, DISK_BYTES)
    subprocess.run(["mkfs.ext4", "-q", str(image)], check=True)
    options = ["-o", "loop", str(image)]
    if subprocess.run(["mount", *options, str(path)], check=False).returncode:
        options = ["-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs"]
        subprocess.run(["mount", *options, str(path)], check=True)
    cache = path / "cache"
    cache.mkdir()
    (cache / "layouts").symlink_to(layouts / "layouts")  # compiled, they are larger than the disk
    yield path
    subprocess.run(["umount", "--lazy", str(path)], check=True)


def free_bytes(path: Path) -> int:
    status = os.statvfs(path)
    return status.f_bavail * status.f_frsize


class Watch:
    """Looks again and again what the cache occupies and what it leaves free."""

    def __init__(self, disk: Path) -> None:
        self._disk = disk
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self.most_bytes = 0
        self.least_free_bytes = DISK_BYTES

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._done.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._done.wait(0.02):
            self.most_bytes = max(self.most_bytes, occupied(self._disk / "cache"))
            self.least_free_bytes = min(self.least_free_bytes, free_bytes(self._disk))


def read_everything(mount: Mount, replica: ServedReplica) -> None:
    """Read all series but the slide with eight readers, each from another one on."""
    series = [each for each in replica.series if each.modality != "SM"]

    def read(number: int) -> None:
        for each in series[number * 2 :] + series[: number * 2]:
            directory = mount.path / default_path(each)
            for known in replica.objects_of(each):
                assert (directory / known.name).read_bytes() == known.path.read_bytes()

    with ThreadPoolExecutor(READERS) as pool:
        list(pool.map(read, range(READERS)))


def test_limit_and_free_space_are_kept_while_eight_read(
    mount_at: Callable[..., Mount], replica: ServedReplica, small_disk: Path
) -> None:
    limit, min_free = 40_000_000, 12_000_000
    before = free_bytes(small_disk)
    with (
        mount_at(
            f"--cache-size={limit}",
            f"--min-free={min_free}",
            cache_dir=small_disk / "cache",
            # ext4 counts as free what it can only use after its journal's next commit.
            expected_log=["no room for", "No space left"],
        ) as mount,
        Watch(small_disk) as watch,
    ):
        read_everything(mount, replica)
        read_everything(mount, replica)
    assert limit // 2 < watch.most_bytes <= limit
    # Directories, listings and books are not the ledger's: they take some of the rest.
    assert watch.least_free_bytes >= min(min_free, before) - (1 << 20)


def test_a_disk_that_others_fill_means_the_network_and_no_error(
    mount_at: Callable[..., Mount], replica: ServedReplica, small_disk: Path
) -> None:
    ballast = small_disk / "ballast"
    with mount_at(
        "--cache-size=none",
        "--min-free=0",
        cache_dir=small_disk / "cache",
        expected_log=["no room for", "No space left", "disk is full", "cannot keep"],
    ) as mount:
        with ThreadPoolExecutor(1) as pool:
            reading = pool.submit(read_everything, mount, replica)
            with ballast.open("wb", buffering=0) as file, suppress(OSError):
                while file.write(bytes(1 << 20)):
                    pass
            reading.result()
        read_everything(mount, replica)
        ballast.unlink()
        read_everything(mount, replica)
