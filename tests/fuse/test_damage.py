"""A cache damaged under a live mount: never a wrong byte."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.fuse.test_tree import default_path

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.mounting import Mount
    from tests.support.replica import ServedReplica

_FLIPPED = (0, 1000, 130_000, -1)


def flip(path: Path, offset: int) -> None:
    content = bytearray(path.read_bytes())
    content[offset] ^= 1
    with path.open("r+b") as file:
        file.write(content)


def damage(held: list[Path]) -> None:
    """Do something else to each file."""
    for number, path in enumerate(held):
        match number % 6:
            case 0:
                flip(path, _FLIPPED[number % len(_FLIPPED)])
            case 1:
                os.truncate(path, path.stat().st_size // 2)
            case 2:
                path.unlink()
            case 3:
                path.chmod(0)
            case 4:
                path.write_bytes(b"")
            case 5:
                path.rename(path.with_suffix(".x"))
                held[number - 5].rename(path)
                path.with_suffix(".x").rename(held[number - 5])


def forget(path: Path) -> None:
    """Have the kernel drop what it has of a file in its own cache."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(fd)


@pytest.mark.parametrize("read_before", [False, True], ids=["unread", "read before"])
def test_a_cache_damaged_under_a_mount(
    mount_at: Callable[..., Mount], replica: ServedReplica, tmp_path: Path, read_before: bool
) -> None:
    cache = tmp_path / "cache"
    series = replica.one("CT", collection_id="lidc_idri")
    objects = replica.objects_of(series)[:18]
    narrow = f"--patient-id={series.patient_id}"
    options = [narrow, "--verify-reads"]
    expected = ["damaged", "cut short", "cannot"]

    def check(mount: Mount) -> None:
        for each in objects:
            path = mount.path / default_path(series) / each.name
            forget(path)
            assert path.read_bytes() == each.path.read_bytes()

    with mount_at(*options, cache_dir=cache) as mount:
        check(mount)
    # Others of the series came ahead.
    names = {each.name for each in objects}
    held = sorted(path for path in (cache / "objects").rglob("*.dcm") if path.name in names)
    assert len(held) == len(objects)
    with mount_at(*options, cache_dir=cache, expected_log=expected) as mount:
        if read_before:
            check(mount)
        damage(held)
        for _ in range(2):
            check(mount)
