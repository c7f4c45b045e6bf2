"""What tests of the cache do again and again."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from idcfs.cache import CachedObject, ExtentWriter
    from idcfs.model import Extent, ObjectRef

CALLS = [
    *("open", "pwrite", "pread", "rename", "link", "unlink"),
    *("ftruncate", "setxattr", "mkdir", "fstat"),
]
"""The calls through which the cache changes or looks at the disk."""


class Meddler:
    """Counts calls into the kernel and does something at a given one, before or after it."""

    def __init__(self, at: int, act: Callable[[], None], *, after: bool, times: int = 1) -> None:
        self._at = range(at, at + times)
        self._act = act
        self._after = after
        self._count = 0

    def __enter__(self) -> None:
        self._former = {name: getattr(os, name) for name in CALLS}
        for name, call in self._former.items():
            setattr(os, name, self._wrap(call))

    def __exit__(self, *_: object) -> None:
        for name, call in self._former.items():
            setattr(os, name, call)

    def _wrap(self, call: Callable[..., object]) -> Callable[..., object]:
        def meddled(*args: object, **kwargs: object) -> object:
            number, self._count = self._count, self._count + 1
            if number in self._at and not self._after:
                self._act()
            result = call(*args, **kwargs)
            if number in self._at and self._after:
                self._act()
            return result

        return meddled


def start(held: CachedObject, extent: Extent) -> ExtentWriter:
    """Start a transfer of missing bytes that the next one of the same may overtake."""
    writer = held.writer(extent, lambda: True)
    assert writer is not None
    return writer


def store(held: CachedObject, content: bytes, extent: Extent) -> None:
    """Write one missing extent in two chunks and commit it, unless another process has."""
    body = memoryview(content)[extent.offset : extent.end]
    writer = held.writer(extent)
    if writer is None:
        return
    assert writer.extent == extent
    try:
        writer.write(body[: len(body) // 3])
        writer.write(body[len(body) // 3 :])
        writer.commit()
    except BaseException:
        writer.abort()
        raise


def fill(held: CachedObject, content: bytes, extent: Extent) -> None:
    """Write whatever of an extent is missing, as it is handed out."""
    while (writer := held.writer(extent)) is not None:
        try:
            writer.write(memoryview(content)[writer.extent.offset : writer.extent.end])
            writer.commit()
        except BaseException:
            writer.abort()
            raise


def store_all(held: CachedObject, ref: ObjectRef, content: bytes) -> None:
    for extent in held.missing(ref.whole):
        store(held, content, extent)


def path_of(root: Path, ref: ObjectRef) -> Path:
    return root / "objects" / ref.series[:2] / ref.series / ref.instance.name


def part_of(root: Path, ref: ObjectRef) -> Path:
    return root / "partial" / ref.series[:2] / ref.series / ref.instance.name


def unfinished(root: Path) -> list[Path]:
    """Return the unfinished files in all scratch directories."""
    return [path for path in root.glob("scratch/*/*") if path.name != "lock"]
