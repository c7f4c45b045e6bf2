"""What is held of one object: found on disk, read, and checked while it is read."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from idcfs.cache import units as sizes
from idcfs.cache.blocks import Blocks, require_good
from idcfs.cache.files import OPENING, Descriptor, open_to_write, read_exactly, read_nowait
from idcfs.cache.partial import PartialFile, open_described, publish
from idcfs.cache.sums import find_sums, keep_sums, remake_sums
from idcfs.errors import CacheError

if TYPE_CHECKING:
    from pathlib import Path

    from idcfs.cache.claims import Claims
    from idcfs.cache.ledger import Ledger
    from idcfs.cache.paths import Paths
    from idcfs.cache.scratch import ScratchSpace
    from idcfs.model import Bytes, Extent, ObjectRef


class Services(NamedTuple):
    """What the objects of one cache share."""

    scratch: ScratchSpace
    claims: Claims
    ledger: Ledger
    verify_reads: bool


class Held(NamedTuple):
    """What is held of an object: its open file and its blocks, and its table while it fills."""

    path: Path
    file: Descriptor
    blocks: Blocks
    partial: PartialFile | None = None

    def read_nowait(self, extent: Extent, *, verify: bool) -> Bytes | None:
        """Return the bytes if the page cache has them and they are right.

        Blocks that were not verified yet, or all with `verify`, are read whole and
        compared with their checksums. Raises CacheError.
        """
        if not verify and self.blocks.is_verified(extent):
            return read_nowait(self.file, extent, self.path)
        span = self.blocks.extent_of(self.blocks.numbers(extent))
        content = read_nowait(self.file, span, self.path)
        return None if content is None else self._checked(span, content, extent)

    def read(self, extent: Extent, *, verify: bool) -> Bytes:
        """Return the bytes, read from the disk if need be. Else as `read_nowait`."""
        if not verify and self.blocks.is_verified(extent):
            return read_exactly(self.file, extent, self.path)
        span = self.blocks.extent_of(self.blocks.numbers(extent))
        return self._checked(span, read_exactly(self.file, span, self.path), extent)

    def _checked(self, span: Extent, content: Bytes, extent: Extent) -> Bytes:
        """Return the bytes of `extent` out of those of its blocks, if they are right."""
        require_good(self.blocks.check(span, content), str(self.path))
        if span == extent:
            return content
        start = extent.offset - span.offset
        return content[start : start + extent.length]


def find_held(ref: ObjectRef, paths: Paths, services: Services) -> Held | None:
    """Open what there is: the whole object, or a part of it. Raises CacheError.

    Nothing that was stored is missed, even if another completes the object meanwhile.
    """
    size_bytes = ref.instance.size_bytes
    try:
        held = _find_whole(ref, paths, services)
        if held is not None or has_one_block(size_bytes):
            return held
        held = _find_part(size_bytes, paths, services)
        # Completed between the two looks, it has the name by now that it lacked at the first.
        return _find_whole(ref, paths, services) if held is None else held
    except (OSError, ValueError) as exc:
        raise CacheError(f"cannot open {paths.whole}: {exc}") from exc


def held_part(paths: Paths, partial: PartialFile) -> Held:
    """Return a partial file as what is held."""
    return Held(paths.whole, partial.file, partial.blocks, partial)


def has_one_block(size_bytes: int) -> bool:
    """Tell whether an object is too small to be held in part."""
    return size_bytes <= sizes.BLOCK_BYTES


def _find_whole(ref: ObjectRef, paths: Paths, services: Services) -> Held | None:
    path = paths.whole
    file = _open(path)
    if file is None or not _is_of_size(file, ref.instance.size_bytes):
        return None
    blocks = find_sums(file, ref.instance.size_bytes, paths)
    if blocks is None:
        blocks = remake_sums(file, ref, path)
        if blocks is not None:
            with suppress(OSError):
                kept_bytes = keep_sums(file, blocks, paths, services.scratch)
                services.ledger.dropped(ref.series, -kept_bytes)
    return None if blocks is None else Held(path, file, blocks)


def _find_part(size_bytes: int, paths: Paths, services: Services) -> Held | None:
    """Open what has come of an object so far.

    If all of it has, because its process was killed just before it gave the file its name,
    that is done now.
    """
    try:
        file = open_to_write(paths.partial)
    except (FileNotFoundError, PermissionError):
        return None
    if not _is_of_size(file, size_bytes):
        partial = open_described(paths, file, size_bytes)
        if partial is not None:
            return held_part(paths, partial)
        # Damaged, or its table is just being cut off by one who holds the lock.
        with suppress(OSError), paths.locked(file.number):
            pass
        if not _is_of_size(file, size_bytes):
            return None
    blocks = find_sums(file, size_bytes, paths)
    if blocks is None:
        return None
    with suppress(OSError):  # the next who can write will
        publish(file, paths.partial, paths.whole, services.scratch)
    return Held(paths.whole, file, blocks)


def _open(path: Path) -> Descriptor | None:
    try:
        return Descriptor(os.open(path, os.O_RDONLY | OPENING))
    except (FileNotFoundError, PermissionError):  # a new one can take its place
        return None


def _is_of_size(file: Descriptor, size_bytes: int) -> bool:
    status = os.fstat(file.number)
    return stat.S_ISREG(status.st_mode) and status.st_size == size_bytes
