"""`idcfs cache` on a disk that takes nothing any more."""

from __future__ import annotations

import json
import os
import subprocess
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from idcfs.cache import DiskCache
from idcfs.cache.limits import keep_limits
from idcfs.cache.opening import open_cache
from tests.support.mounting import Launcher
from tests.unit.cache.ledgers import BLOCK, name, on_disk, quiet, store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DISK_BYTES = 16 << 20
SERIES = [name(number) for number in range(3)]

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a file system")


@pytest.fixture(params=["ext4", "tmpfs"])
def disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    path = tmp_path / "disk"
    path.mkdir()
    if request.param == "tmpfs":
        options = ["-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs"]
    else:
        image = tmp_path / "disk.img"
        image.touch()
        os.truncate(image, DISK_BYTES)
        subprocess.run(["mkfs.ext4", "-q", "-m", "0", "-b", "4096", str(image)], check=True)
        options = ["-o", "loop", str(image)]
    if subprocess.run(["mount", *options, str(path)], check=False).returncode:
        pytest.skip("there is no loop device here")
    yield path
    subprocess.run(["umount", "--lazy", str(path)], check=True)


@pytest.fixture
def cache(disk: Path) -> Path:
    """A cache with three series."""
    root = disk / "cache"
    DiskCache(root).close()
    ledger = quiet(root, None)
    for series in SERIES:
        store(root, ledger, series, BLOCK)
    ledger.close()
    keep_limits(root, "10M", "1k")
    return root


def fill(root: Path) -> None:
    """Leave no byte of the disk."""
    ballast = os.open(root.parent / "ballast", os.O_WRONLY | os.O_CREAT)
    for size in (1 << 20, BLOCK, 1):
        with suppress(OSError):
            while os.write(ballast, bytes(size)):
                os.fsync(ballast)
    os.close(ballast)
    assert os.statvfs(root).f_bavail == 0


def answer(verb: str, root: Path, *arguments: str, status: int = 0) -> dict[str, Any]:
    done = Launcher().run("cache", verb, f"--cache-dir={root}", "--json", *arguments)
    assert done.returncode == status, done.stderr
    figures = json.loads(done.stdout)
    assert isinstance(figures, dict)
    return figures


def test_a_full_disk_is_told_of_and_cleared(cache: Path) -> None:
    fill(cache)
    figures = answer("info", cache)
    assert (figures["series"], figures["files"], figures["bytes"]) == (3, 3, 3 * BLOCK)
    assert (figures["limit_bytes"], figures["min_free_bytes"]) == (10_000_000, 1000)
    assert answer("verify", cache, "--keep-damaged", status=1)["objects"] == 3
    figures = answer("clear", cache, "--yes")
    assert (figures["series"], figures["bytes"]) == (3, 3 * BLOCK)
    assert not on_disk(cache)
    (cache.parent / "ballast").unlink()
    assert answer("info", cache)["series"] == 0


def test_what_is_open_or_pinned_stays_also_on_a_full_disk(cache: Path) -> None:
    reader = quiet(cache, None)
    reader.hold(SERIES[0])
    reader.pins.add(SERIES[1])
    fill(cache)
    figures = answer("clear", cache, "--yes", status=1)
    assert (figures["series"], figures["in_use"], figures["pinned"]) == (1, 1, 1)
    assert set(on_disk(cache)) == set(SERIES[:2])
    reader.close()


def test_the_books_are_set_right_when_there_is_room_again(cache: Path) -> None:
    fill(cache)
    answer("clear", cache, "--yes")
    (cache.parent / "ballast").unlink()
    opened = open_cache(cache, background=False)
    assert opened.books.totals().series == 0
    opened.cache.close()
